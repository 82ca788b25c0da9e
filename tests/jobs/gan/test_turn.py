"""Turning as a command: networks of the real kind, untrained and small, and a tiny generator."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gan2shape.jobs.gan.turn as gan_turn
from gan2shape.cli import main
from gan2shape.jobs.gan.samples import draw
from gan2shape.jobs.gan.turn import turn
from gan2shape.jobs.weights.networks_file import networks_bytes
from gan2shape.jobs.weights.stylegan2_file import save_gan
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig, NetworkConfig

NARROW = NetworkConfig(width=16)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(gan_turn, "LABELLED", 40)
    monkeypatch.setattr(gan_turn, "MEASURED", 3)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "gan.safetensors"
    torch.manual_seed(0)
    generator = Generator(32, 8, 2, dict.fromkeys((4, 8, 16, 32), 8))
    save_gan(Gan(generator, None, "", ""), path)
    return path


def write_networks(path: Path, size: int, gain: float = 1.0) -> Path:
    torch.manual_seed(1)
    camera = CameraConfig(size=size)
    networks = ShapeNetworks(Camera.from_config(camera), NARROW)
    parameters = {k: v * gain for k, v in networks.state_dict().items()}
    path.write_bytes(networks_bytes(TrainedNetworks(parameters, NARROW, camera)))
    return path


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    return write_networks(tmp_path / "networks.safetensors", 32)


def test_the_command_draws_and_tells(weights, networks, tmp_path, capsys, monkeypatch):
    out = tmp_path / "turns.png"
    words = ["gan", "turn", weights, "--networks", networks, "--out", out, "--device", "cpu"]
    words += ["--seeds", "3:5", "--steps", "4", "--degrees", "20"]
    monkeypatch.setattr(sys, "argv", ["gan2shape", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [
        "R^2",
        "slope",
        "correlation",
        "also",
        str(out),
    ]
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (2 * 32, 5 * 32, 3)
    draw(str(weights), tmp_path / "plain.png", "3:5", columns=1)
    assert np.array_equal(pixels[:, :32], np.asarray(Image.open(tmp_path / "plain.png")))
    first, last = pixels[:32, 32:64].astype(int), pixels[:32, 128:].astype(int)
    assert np.abs(first - last).max() > 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"networks": "absent.safetensors"}, "no networks file"),
        ({"weights": "absent.pt"}, "absent.pt"),
        ({"seeds": "4"}, "--seeds"),
        ({"seeds": "0:4000"}, "more than"),
        ({"out": Path("turns.gif")}, ".png"),
    ],
)
def test_mistakes_are_one_sentence(weights, networks, tmp_path, change, sentence):
    asked = {"weights": str(weights), "networks": str(networks), "out": tmp_path / "turns.png"}
    with pytest.raises(UserError, match=sentence) as raised:
        turn(**(asked | {"device": "cpu"} | change))
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "turns.png").exists()


def test_networks_that_cannot_tell_the_yaw(weights, tmp_path):
    asked = {"weights": str(weights), "out": tmp_path / "turns.png", "device": "cpu"}
    other = write_networks(tmp_path / "other.safetensors", 64)
    with pytest.raises(UserError, match="64 px images"):
        turn(networks=str(other), **asked)
    dead = write_networks(tmp_path / "dead.safetensors", 32, gain=0.0)
    with pytest.raises(UserError, match="same yaw in all samples"):
        turn(networks=str(dead), **asked)

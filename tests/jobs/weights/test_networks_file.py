"""Networks files: what is written is read back, and whatever is wrong with one is said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from gan2shape.jobs.weights.networks_file import FORMAT, load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import TrainedNetworks, check_networks, parameters_of
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.packaged import JOINT_FILE, NETWORKS_FILE
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

SIZE, STYLE = 32, 16


@pytest.fixture(scope="module")
def networks() -> TrainedNetworks:
    return tiny_networks("ab" * 32, STYLE, SIZE)


def test_what_is_written_is_read_back_within_half_precision(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    file = tmp_path / "networks.safetensors"
    file.write_bytes(networks_bytes(networks))
    again = load_networks(file)
    assert again.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert again.source == str(file)
    assert again.latent == networks.latent
    for name in ("networks", "camera", "style_dim", "gan_sha256"):
        assert getattr(again, name) == getattr(networks, name)
    assert again.parameters.keys() == networks.parameters.keys()
    for name, value in networks.parameters.items():
        assert again.parameters[name].dtype == torch.float32
        torch.testing.assert_close(again.parameters[name], value, rtol=2**-11, atol=2**-24)

    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for first, second in zip(_outputs(networks, images), _outputs(again, images), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-2)
            assert first.std() > 0
    assert networks_bytes(again) == file.read_bytes()


def _outputs(networks: TrainedNetworks, images: torch.Tensor) -> list[torch.Tensor]:
    shape, encoder = networks.shape_networks(), networks.offset_encoder()
    parts = (shape.depth, shape.albedo, shape.view, shape.light, encoder)
    return [part(images) for part in parts]


def test_networks_without_an_encoder_serve_every_gan(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    alone = TrainedNetworks(
        parameters_of(networks.shape_networks()), networks.networks, networks.camera
    )
    file = tmp_path / "networks.safetensors"
    file.write_bytes(networks_bytes(alone))
    again = load_networks(file)
    assert (again.style_dim, again.gan_sha256) == (None, None)
    assert again.offset_encoder() is None
    assert not [name for name in again.parameters if name.startswith("encoder.")]
    channels = dict.fromkeys((4, 8, 16, 32), 8)
    gan = Gan(Generator(SIZE, STYLE, 2, channels), Discriminator(SIZE, channels), "ab" * 32, "tiny")
    check_networks(again, gan, RunConfig(camera=again.camera, networks=again.networks))
    images = torch.zeros(1, 3, SIZE, SIZE)
    assert again.shape_networks().depth(images).shape == (1, SIZE, SIZE)


def test_teachers_come_along_without_encoders_and_teachers_of_their_own(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    other = tiny_networks("cd" * 32, STYLE, SIZE, seed=1)
    other = replace(other, networks=other.networks.model_copy(update={"max_shift_z": 0.1}))
    taught = networks.with_teachers([other.with_teachers([networks]), networks])
    file = tmp_path / "networks.safetensors"
    file.write_bytes(networks_bytes(taught))
    again = load_networks(file)
    assert again.parameters.keys() == networks.parameters.keys()
    assert [each.networks for each in again.teachers] == [other.networks, networks.networks]
    images = torch.zeros(1, 3, SIZE, SIZE)
    for teacher, origin in zip(again.teachers, (other, networks), strict=True):
        assert teacher.offset_encoder() is None
        assert teacher.teachers == ()
        with torch.no_grad():
            depths = [each.shape_networks().depth(images) for each in (teacher, origin)]
        torch.testing.assert_close(*depths, rtol=0, atol=1e-3)
    assert networks_bytes(again) == file.read_bytes()
    assert again.with_teachers([]).teachers == ()


def _as_file(**about: Any) -> bytes:
    return save({"a": torch.zeros(1)}, metadata={"gan2shape": json.dumps(about)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no networks file .*'gan2shape train networks'.*heads64"),
        (b"nothing of the kind", "not a readable safetensors file of pretrained networks"),
        (save({"a": torch.zeros(1)}), "not a networks file of this program"),
        (save({"a": torch.zeros(1)}, metadata={"gan2shape": "["}), "not a networks file"),
        (save({"a": torch.zeros(1)}, metadata={"gan2shape": "[]"}), "not a networks file"),
        (_as_file(format="gan2shape.networks/0"), "not a networks file"),
        (_as_file(format=FORMAT), "another version"),
        (
            _as_file(
                format=FORMAT, networks={"widht": 8}, camera={}, style_dim=16, gan_sha256="ab"
            ),
            "another version",
        ),
        (
            _as_file(format=FORMAT, networks={}, camera={}, style_dim=None, gan_sha256="ab"),
            "another version",
        ),
        (_as_file(format=FORMAT, networks={}, camera={}, teachers=[8]), "another version"),
    ],
    ids=[
        "absent",
        "noise",
        "bare",
        "json",
        "list",
        "format",
        "empty",
        "setting",
        "size",
        "teacher",
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "networks.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_networks(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", ["forward", "single-image", "refine"])
def test_packaged_networks_have_the_settings_of_their_recipes(recipe: str) -> None:
    gan = load_gan("heads64")
    config = load_settings("heads", recipe)
    for file in (NETWORKS_FILE, JOINT_FILE):
        packaged = load_networks(f"heads64/{file}")
        check_networks(packaged, gan, config.model_copy(update={"networks": packaged.networks}))

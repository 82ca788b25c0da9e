"""GAN training as a job: data read once, checkpoints, going on, and the commands around it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import gan2shape.jobs.training.image_array as gan_data
from gan2shape.cli import INTERRUPTED, main
from gan2shape.jobs.gan.samples import convert, describe, draw
from gan2shape.jobs.progress.gan_display import judgement, line
from gan2shape.jobs.training.gan import LOG, Status, train
from gan2shape.jobs.training.gan_quality import RealImages
from gan2shape.jobs.training.gan_request import Request, architecture
from gan2shape.jobs.training.image_array import dataset, to_images
from gan2shape.jobs.training.loop import read_rows
from gan2shape.pipeline.stylegan2 import load_gan
from gan2shape.pipeline.stylegan2.training.fid import load_inception
from gan2shape.pipeline.stylegan2.training.trainer import TrainingError
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.gan_training import training_config
from tests.inception import TinyInception, write_script

SPEED = "images_per_second"
TINY = ["--size", "16", "--channels", "8/8/8", "--style-dim", "8", "--mapping-layers", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 12)


def write_images(path: Path, count: int, size: int = 16) -> Path:
    path.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    return path


def request(source: Path, out: Path, images: int = 32, **options: Any) -> Request:
    settings = {
        "size": 16,
        "channels": (8, 8, 8),
        "style_dim": 8,
        "mapping_layers": 2,
        "images": images,
        "batch": 4,
        "precision": "float32",
        "r1_interval": 3,
        "ema_ramp_up": 0.0,
    }
    config = training_config(settings | options.pop("settings", {}))
    options = {"checkpoint_seconds": 0.0, "sample_images": 16, "log_images": 4} | options
    return Request(str(source), out, config, **options)


def weights(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_a_training_leaves_weights_grids_and_a_log(folder, tmp_path):
    seen: list[Status] = []
    path = train(request(folder, tmp_path / "out"), seen.append)
    gan = load_gan(path)
    assert (gan.generator.size, gan.generator.style_dim, gan.generator.mapping_depth) == (16, 8, 2)
    assert gan.latent_avg is not None
    out = tmp_path / "out"
    names = sorted(file.name for file in (out / "samples").iterdir())
    assert names == ["00000000.png", "00000016.png", "00000032.png", "real.png"]
    with Image.open(out / "samples" / "00000032.png") as grid:
        assert grid.size == (128, 128)
    rows = read_rows(out / LOG)
    assert [row["images"] for row in rows] == list(range(0, 33, 4))
    assert [row["images"] for row in rows if "quality" in row] == [0, 16, 32]
    assert set(rows[-1]) >= {"d", "g", "real", "fake", "p", "images_per_second", "quality"}
    assert seen[-1].images == seen[-1].total == 32
    assert seen[-1].seconds_left == 0
    assert not list(out.rglob(".tmp-*"))
    for status in seen:
        assert f"{status.images}/32 images" in line(status)
    assert "after 32 images" in judgement(seen[-1])


def test_fid_is_logged_beside_the_other_figure_and_changes_nothing_else(folder, tmp_path):
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    plain = train(request(folder, tmp_path / "plain"))
    seen: list[Status] = []
    notes: list[str] = []
    asked = request(folder, tmp_path / "out", inception=load_inception(net))
    path = train(asked, seen.append, notes.append)
    assert_same_weights(path, plain)
    rows = read_rows(tmp_path / "out" / LOG)
    assert [row["images"] for row in rows if "fid" in row] == [0, 16, 32]
    without = [{k: v for k, v in row.items() if k not in ("fid", SPEED)} for row in rows]
    before = read_rows(tmp_path / "plain" / LOG)
    assert without == [{k: v for k, v in row.items() if k != SPEED} for row in before]
    assert all(row["fid"] > 0 for row in rows if "fid" in row)
    assert rows[-1]["fid"] == pytest.approx(seen[-1].fid, rel=1e-3)
    assert judgement(seen[-1]).endswith(f"), FID {seen[-1].fid:.1f}")
    assert notes.count("Inception features of 12 real images") == 1
    assert not (tmp_path / "plain" / "fid-real.npz").exists()


def test_statistics_of_the_real_images_are_kept_while_they_are_right(folder, tmp_path):
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    notes: list[str] = []

    def fid_of_themselves() -> float | None:
        data = dataset(str(folder), 16, tmp_path)
        real = RealImages(data, tmp_path, load_inception(net), note=notes.append)
        return real.fid(lambda count: [to_images(data[np.arange(count)]).flip(0)])

    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    assert len(notes) == 1
    cache = tmp_path / "fid-real.npz"
    cache.write_bytes(cache.read_bytes()[:-50])
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    write_script(net, TinyInception(1))
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    (folder / "0.png").unlink()
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    numbers = [text.split()[3] for text in notes]
    assert numbers == ["12", "12", "12", "11"]  # new, damaged, other weights, other images


class KillError(Exception):
    """Stands for a kill: nothing of the training's own runs after it."""


def test_a_killed_training_goes_on_as_if_nothing_had_been(folder, tmp_path):
    whole = train(request(folder, tmp_path / "whole"))
    for stop in (8, 20):

        def kill(status: Status, at: int = stop) -> None:
            if status.images >= at:
                raise KillError

        with pytest.raises(KillError):
            train(request(folder, tmp_path / "broken"), kill)
    notes: list[str] = []
    path = train(request(folder, tmp_path / "broken"), on_note=notes.append)
    assert notes == ["going on after 16 images"]  # what was saved last before the second kill
    assert_same_weights(path, whole)
    images = [row["images"] for row in read_rows(tmp_path / "broken" / LOG)]
    assert images == sorted(set(images)) == list(range(0, 33, 4))


def test_sigterm_saves_and_a_larger_budget_goes_on(folder, tmp_path):
    whole = train(request(folder, tmp_path / "whole"))

    def terminate(status: Status) -> None:
        if status.images == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    asked = request(folder, tmp_path / "out", images=20, checkpoint_seconds=3600.0)
    with pytest.raises(KeyboardInterrupt):
        train(asked, terminate)
    assert signal.getsignal(signal.SIGTERM) is before
    notes: list[str] = []
    train(asked, on_note=notes.append)
    assert "going on after 12 images" in notes
    path = train(request(folder, tmp_path / "out", images=32))
    assert_same_weights(path, whole)


def test_a_damaged_state_is_not_used(folder, tmp_path):
    out = tmp_path / "out"
    whole = train(request(folder, tmp_path / "whole"))
    train(request(folder, out, images=16))
    state = out / "state.ckpt"
    state.write_bytes(state.read_bytes()[:-100])
    path = train(request(folder, out))
    assert_same_weights(path, whole)


def test_other_sizes_or_a_file_in_the_way_are_refused(folder, tmp_path):
    train(request(folder, tmp_path / "out", images=4))
    other = request(folder, tmp_path / "out", settings={"channels": (8, 8, 16)})
    with pytest.raises(TrainingError, match="channels 8/8/8, not 8/8/16"):
        train(other)
    with pytest.raises(TrainingError, match="is a file"):
        train(request(folder, folder / "0.png"))
    (tmp_path / "out" / "training.yaml").write_text("settings: [")
    with pytest.raises(TrainingError, match="damaged"):
        train(request(folder, tmp_path / "out"))


def test_one_process_at_a_time(folder, tmp_path):
    asked = request(folder, tmp_path / "out", images=8)

    def again(status: Status) -> None:
        with pytest.raises(UserError, match="Another process"):
            train(asked)

    train(asked, again)
    train(asked)


def test_losses_that_are_not_finite_end_training_and_spare_the_checkpoint(folder, tmp_path):
    out = tmp_path / "out"
    train(request(folder, out, images=8))
    before = (out / "gan.safetensors").read_bytes()
    wild = {"learning_rate": 1e5, "warm_up": 0}
    for log_images in (4, 10**6):  # seen in the figures, or only when there is something to save
        with pytest.raises(TrainingError, match="diverged"):
            train(request(folder, out, images=400, log_images=log_images, settings=wild))
    assert (out / "gan.safetensors").read_bytes() == before


def test_images_are_read_once_into_a_memory_map(folder, tmp_path, monkeypatch):
    data = dataset(str(folder), 16, tmp_path)
    assert isinstance(data, np.memmap)
    assert (data.dtype, data.shape) == (np.uint8, (12, 16, 16, 3))
    for number in range(12):
        with Image.open(folder / f"{number}.png") as image:
            assert np.array_equal(data[number], np.asarray(image))

    def fail(uri: str, size: int) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(gan_data, "load_image", fail)
    assert np.array_equal(dataset(str(folder), 16, tmp_path), data)
    with pytest.raises(AssertionError, match="read again"):
        dataset(str(folder), 8, tmp_path)


def test_unusable_images_are_left_out(folder, tmp_path):
    (folder / "bad.png").write_bytes(b"no image")
    notes: list[str] = []
    assert len(dataset(str(folder), 16, tmp_path, notes.append)) == 12
    assert any("left out 1" in text and "bad.png" in text for text in notes)


def test_too_few_images_are_an_error(tmp_path):
    few = write_images(tmp_path / "few", 3)
    with pytest.raises(TrainingError, match="3 usable images"):
        dataset(str(few), 16, tmp_path)
    assert not list(tmp_path.glob("*.npy*"))


def test_training_begins_with_given_weights(folder, tmp_path):
    first = train(request(folder, tmp_path / "first", images=4))
    sizes = {"size": None, "style_dim": None, "mapping_layers": None}
    settings, initial = architecture(sizes, None, str(first))
    assert settings == {
        "size": 16,
        "style_dim": 8,
        "mapping_layers": 2,
        "channels": (8, 8, 8),
    }
    slow = {"learning_rate": 1e-12}
    path = train(request(folder, tmp_path / "second", initial=initial, settings=slow))
    a, b = weights(first), weights(path)
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a if name != "latent_avg")
    with pytest.raises(TrainingError, match="style dim 8, not 16; leave out --style-dim"):
        architecture(sizes | {"style_dim": 16}, None, str(first))
    with pytest.raises(TrainingError, match="--channels"):
        architecture(sizes, "8,8", None)


# --- the commands -----------------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gan2shape", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    return train(request(write_images(place / "images", 8), place / "out", images=8))


def test_train_command(command, folder, tmp_path):
    out = tmp_path / "out"
    options = [*TINY, "--batch", 4, "--images", 8, "--threads", 1, "--device", "cpu"]
    code, printed, _ = command("train", "gan", folder, "--out", out, *options)
    assert code == 0
    assert str(out / "gan.safetensors") in printed.replace("\n", "")
    assert "sliced Wasserstein" in printed
    assert "FID" not in printed
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    options += ["--inception", net]
    options[options.index("--images") + 1] = 12
    code, printed, _ = command("train", "gan", folder, "--out", out, *options)
    assert code == 0
    assert "going on after 8 images" in printed
    assert "FID" in printed


def test_stopping_the_command(command, folder, tmp_path, monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gan2shape.jobs.training.gan.train", interrupted)
    code, _, err = command("train", "gan", folder, "--out", tmp_path / "out", "--threads", 1)
    assert code == INTERRUPTED
    assert "the same command goes on" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train gan {tmp}/absent --out {tmp}/out", "no folder"),
        ("train gan {tmp}/images --out {tmp}/out --size 48", "power of two"),
        ("train gan {tmp}/images --out {tmp}/out --init {tmp}/none.pt", "none.pt"),
        ("train gan {tmp}/images --out {tmp}/out --init heads64 --size 128", "leave out --size"),
        ("train gan {tmp}/images --out {tmp}/out --set augment.scale=-1", "augment.scale must be"),
        ("train gan {tmp}/images --out {tmp}/out --inception {gan}", "TorchScript"),
        ("gan sample {tmp}/none.pt --out {tmp}/x.png", "none.pt"),
        ("gan sample {gan} --out {tmp}/x.gif", ".png"),
        ("gan sample {gan} --out {tmp}/x.png --seeds 3", "3"),
        ("gan sample {gan} --out {tmp}/x.png --seeds 0:1 --interpolate 4", "two or more"),
        ("gan score {gan} {tmp}/absent", "no folder"),
        ("gan score {tmp}/none.pt {tmp}/images", "none.pt"),
        ("gan score {gan} {tmp}/images --inception {gan}", "TorchScript"),
        ("gan convert {gan} {tmp}/x.onnx", ".safetensors"),
        ("gan convert {gan} {tmp}/absent/x.pt", "existing folder"),
        ("gan info {tmp}/none.pt", "none.pt"),
    ],
)
def test_mistakes_get_one_sentence(command, folder, tmp_path, trained, arguments, sentence):
    fill = {"tmp": tmp_path, "gan": trained}
    code, _, err = command(*(word.format(**fill) for word in arguments.split()))
    assert code == 1
    assert sentence in err
    assert err.startswith("gan2shape: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--learning-rate", "0"), ("--channels", "8/x"), ("--images", "9" * 20), ("--batch", "nan")],
)
def test_options_have_ranges(command, folder, tmp_path, option, value):
    code, _, err = command("train", "gan", folder, "--out", tmp_path / "out", option, value)
    assert code == 2
    assert f"Invalid value for '{option}'" in err
    assert not (tmp_path / "out").exists()


def test_half_precision_halves_the_file_and_hardly_changes_pictures(trained, tmp_path):
    half, z = tmp_path / "half.safetensors", torch.randn(4, 8)
    convert(str(trained), half, half=True)
    assert half.stat().st_size < 0.6 * Path(trained).stat().st_size
    pictures = []
    for path in (trained, half):
        generator = load_gan(path).generator
        pictures.append(generator(generator.mapping(z)))
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=1 / 127.5)


def test_convert_and_back_gives_the_same_weights(trained, tmp_path):
    convert(str(trained), tmp_path / "x.pt")
    assert set(torch.load(tmp_path / "x.pt", weights_only=True)) == {"g_ema", "d", "latent_avg"}
    convert(str(tmp_path / "x.pt"), tmp_path / "y.safetensors")
    assert (tmp_path / "y.safetensors").read_bytes() == trained.read_bytes()


def test_samples_by_seed(trained, tmp_path):
    draw(str(trained), tmp_path / "a.png", "0:8", columns=4)
    draw(str(trained), tmp_path / "b.png", "4:8", columns=4)
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert a.shape == (32, 64, 3)
    assert np.array_equal(a[16:], b)  # an image depends on its seed alone
    draw(str(trained), tmp_path / "c.png", "0:8", truncation=0.0, columns=4)
    c = np.asarray(Image.open(tmp_path / "c.png"))
    assert np.array_equal(c[:, :16], c[:, 16:32])


def test_interpolations_end_at_the_seeds(trained, tmp_path):
    draw(str(trained), tmp_path / "seeds.png", "0:3")
    draw(str(trained), tmp_path / "lines.png", "0:3", interpolate=5)
    seeds, lines = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("seeds", "lines"))
    assert lines.shape == (32, 80, 3)

    def close(first: np.ndarray, second: np.ndarray) -> bool:
        return int(np.abs(first.astype(int) - second.astype(int)).max()) <= 1

    assert close(lines[:16, :16], seeds[:16, :16])
    assert close(lines[:16, -16:], seeds[:16, 16:32])
    assert close(lines[16:, -16:], seeds[:16, 32:48])


def test_score_command(trained, folder, tmp_path, command):
    net = write_script(tmp_path / "net.pt", TinyInception(1))
    code, printed, _ = command(
        "gan", "score", trained, folder, "--inception", net, "--device", "cpu"
    )
    assert code == 0
    assert "12 samples against 12 images" in printed
    rows = [line.split()[:-2] for line in printed.splitlines()[2:]]
    assert rows[0] == ["sliced", "Wasserstein,", "16"]
    assert rows[-1] == ["FID"]


def test_info_fits_one_screen(trained, command):
    code, printed, _ = command("gan", "info", trained)
    assert code == 0
    rows = dict(describe(str(trained)))
    assert rows["image size"] == "16 x 16"
    assert rows["latent"].startswith("8 numbers, 2 mapping layers")
    assert rows["sha256"] in printed
    assert len(printed.splitlines()) < 24

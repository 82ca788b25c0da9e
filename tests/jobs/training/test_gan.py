"""GAN training as a job: data read once, checkpoints, going on, and the commands around it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from gan2shape.cli import INTERRUPTED, main
from gan2shape.jobs.gan.samples import convert, describe, draw
from gan2shape.jobs.training.arrays import CachedRows, read_images, to_images
from gan2shape.jobs.training.gan import GanTraining, architecture, train_gan
from gan2shape.jobs.training.gan_quality import RealImages
from gan2shape.jobs.training.loop import DivergedError, Intervals
from gan2shape.jobs.training.workdir import Cache, read_log
from gan2shape.jobs.weights.inception_file import load_inception
from gan2shape.jobs.weights.stylegan2_file import load_gan
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


def request(source: Path, out: Path, images: int = 32, **options: Any) -> GanTraining:
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
    options.setdefault("intervals", Intervals(16, 4, 0.0))
    return GanTraining(str(source), out, config, **options)


def quiet(*words: Any) -> None:
    """Shows nothing."""


def train(asked: GanTraining, show: Any = quiet, note: Any = quiet) -> Path:
    return train_gan(asked, show, note)


def read(source: Path, size: int, folder: Path, note: Any = quiet) -> CachedRows:
    return read_images(str(source), size, Cache(folder), note)


def weights(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_a_training_leaves_weights_grids_and_a_log(folder, tmp_path):
    seen: list[tuple[Any, ...]] = []
    notes: list[str] = []
    path = train(request(folder, tmp_path / "out"), lambda *words: seen.append(words), notes.append)
    gan = load_gan(path)
    assert (gan.generator.size, gan.generator.style_dim, gan.generator.mapping_depth) == (16, 8, 2)
    assert gan.latent_avg is not None
    out = tmp_path / "out"
    names = sorted(file.name for file in (out / "samples").iterdir())
    assert names == ["00000000.png", "00000016.png", "00000032.png", "real.png"]
    with Image.open(out / "samples" / "00000032.png") as grid:
        assert grid.size == (128, 128)
    rows = read_log(out)
    assert [row["images"] for row in rows] == list(range(0, 33, 4))
    assert [row["images"] for row in rows if "quality" in row] == [0, 16, 32]
    assert set(rows[-1]) >= {"d", "g", "real", "fake", "p", "images_per_second", "quality"}
    assert [words[2:] for words in seen] == [(images, 32) for images in range(0, 33, 4)]
    assert all(words[0] == "GAN" for words in seen)
    assert "losses D" in seen[-1][1]
    judged = [text for text in notes if "sliced Wasserstein distance" in text]
    assert [text.split(":")[0] for text in judged] == [f"after {n} images" for n in (0, 16, 32)]
    assert not list(out.rglob(".tmp-*"))


def test_fid_is_logged_beside_the_other_figure_and_changes_nothing_else(folder, tmp_path):
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    plain = train(request(folder, tmp_path / "plain"))
    notes: list[str] = []
    asked = request(folder, tmp_path / "out", inception=net)
    path = train(asked, note=notes.append)
    assert_same_weights(path, plain)
    rows = read_log(tmp_path / "out")
    assert [row["images"] for row in rows if "fid" in row] == [0, 16, 32]
    without = [{k: v for k, v in row.items() if k not in ("fid", SPEED)} for row in rows]
    before = read_log(tmp_path / "plain")
    assert without == [{k: v for k, v in row.items() if k != SPEED} for row in before]
    assert all(row["fid"] > 0 for row in rows if "fid" in row)
    said, fid = notes[-1].rsplit("), FID ", 1)
    assert said.startswith("after 32 images")
    assert float(fid) == pytest.approx(rows[-1]["fid"], rel=1e-3)
    assert notes.count("Inception features of 12 real images") == 1
    assert not list((tmp_path / "plain" / "cache").glob("inception-*"))


def test_statistics_of_the_real_images_are_kept_while_they_are_right(folder, tmp_path):
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    notes: list[str] = []

    def fid_of_themselves() -> float | None:
        data = read(folder, 16, tmp_path)
        real = RealImages(data, Cache(tmp_path), load_inception(net), notes.append)
        return real.fid(lambda count: [to_images(data.values[np.arange(count)]).flip(0)])

    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    assert len(notes) == 1
    (cached,) = tmp_path.glob("inception-*/*")
    cached.write_bytes(cached.read_bytes()[:-50])
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    write_script(net, TinyInception(1))
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    (folder / "0.png").unlink()
    assert fid_of_themselves() == pytest.approx(0, abs=1e-3)
    numbers = [text.split()[3] for text in notes]
    assert numbers == ["12", "12", "12", "11"]  # new, damaged, other weights, other images
    assert len(list(tmp_path.glob("inception-*"))) == 1


class KillError(Exception):
    """Stands for a kill: nothing of the training's own runs after it."""


def test_a_killed_training_goes_on_as_if_nothing_had_been(folder, tmp_path):
    whole = train(request(folder, tmp_path / "whole"))
    for stop in (8, 20):

        def kill(task: str, stage: str, done: int, total: int, at: int = stop) -> None:
            if done >= at:
                raise KillError

        with pytest.raises(KillError):
            train(request(folder, tmp_path / "broken"), kill)
    notes: list[str] = []
    path = train(request(folder, tmp_path / "broken"), note=notes.append)
    assert notes[0] == "going on after 16 images"  # what was saved last before the second kill
    assert_same_weights(path, whole)
    images = [row["images"] for row in read_log(tmp_path / "broken")]
    assert images == sorted(set(images)) == list(range(0, 33, 4))


def test_sigterm_saves_and_a_larger_budget_goes_on(folder, tmp_path):
    whole = train(request(folder, tmp_path / "whole"))

    def terminate(task: str, stage: str, done: int, total: int) -> None:
        if done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    asked = request(folder, tmp_path / "out", images=20, intervals=Intervals(16, 4, 3600.0))
    with pytest.raises(KeyboardInterrupt):
        train(asked, terminate)
    assert signal.getsignal(signal.SIGTERM) is before
    notes: list[str] = []
    train(asked, note=notes.append)
    assert "going on after 12 images" in notes
    path = train(request(folder, tmp_path / "out", images=32))
    assert_same_weights(path, whole)
    notes.clear()
    train(request(folder, tmp_path / "out", images=24), note=notes.append)
    assert notes == [f"{tmp_path / 'out'} is finished already"]
    path.unlink()
    assert_same_weights(train(request(folder, tmp_path / "out", images=32)), whole)


def test_a_damaged_state_is_not_used(folder, tmp_path):
    out = tmp_path / "out"
    whole = train(request(folder, tmp_path / "whole"))
    train(request(folder, out, images=16))
    state = out / "checkpoints" / "state.ckpt"
    state.write_bytes(state.read_bytes()[:-100])
    path = train(request(folder, out))
    assert_same_weights(path, whole)


def test_other_sizes_or_a_file_in_the_way_are_refused(folder, tmp_path):
    train(request(folder, tmp_path / "out", images=4))
    other = request(folder, tmp_path / "out", settings={"channels": (8, 8, 16)})
    with pytest.raises(UserError, match=r"with other channels \(\[8, 8, 8\], not \[8, 8, 16\]\);"):
        train(other)
    with pytest.raises(UserError, match=r"with other seed \(0, not 1\); give the same command"):
        train(request(folder, tmp_path / "out", settings={"seed": 1}))
    with pytest.raises(UserError, match="is a file"):
        train(request(folder, folder / "0.png"))
    (tmp_path / "out" / "record.yaml").write_text("fixed: [")
    with pytest.raises(UserError, match="damaged"):
        train(request(folder, tmp_path / "out"))


def test_images_that_cannot_be_used_leave_the_directory_to_other_settings(folder, tmp_path):
    few = write_images(tmp_path / "few", 3)
    with pytest.raises(UserError, match="3 usable images"):
        train(request(few, tmp_path / "out"))
    train(request(folder, tmp_path / "out", images=4, settings={"seed": 1}))


def test_one_process_at_a_time(folder, tmp_path):
    asked = request(folder, tmp_path / "out", images=8)

    def again(*words: Any) -> None:
        with pytest.raises(UserError, match="Another process"):
            train(asked)

    train(asked, again)
    train(asked)


def test_losses_that_are_not_finite_end_training_and_spare_the_checkpoint(folder, tmp_path):
    out = tmp_path / "out"
    train(request(folder, out, images=8))
    before = (out / "gan.safetensors").read_bytes()
    asked = request(folder, out, images=400, settings={"warm_up": 0})
    # Settings do not allow such a rate. Within their range this small GAN does not diverge.
    wild = asked.config.model_copy(update={"learning_rate": 1e5})
    for log_images in (4, 10**6):  # seen in the figures, or only when there is something to save
        every = Intervals(16, log_images, 0.0)
        with pytest.raises(DivergedError, match=r"diverged before .* Give a lower"):
            train(replace(asked, config=wild, intervals=every))
    assert (out / "gan.safetensors").read_bytes() == before


def test_images_are_read_once_into_a_memory_map(folder, tmp_path):
    notes: list[str] = []
    data = read(folder, 16, tmp_path, notes.append)
    assert isinstance(data.values, np.memmap)
    assert (data.values.dtype, data.values.shape) == (np.uint8, (12, 16, 16, 3))
    for number in range(12):
        with Image.open(folder / f"{number}.png") as image:
            assert np.array_equal(data.values[number], np.asarray(image))
    assert np.array_equal(read(folder, 16, tmp_path, notes.append).values, data.values)
    assert notes == ["reading 12 images"]
    read(folder, 8, tmp_path, notes.append)
    assert len(notes) == 2
    (cached,) = tmp_path.glob("images-*/values")
    cached.write_bytes(cached.read_bytes()[:-1])
    assert read(folder, 8, tmp_path, notes.append).values.shape == (12, 8, 8, 3)
    assert len(notes) == 3


def test_unusable_images_are_left_out(folder, tmp_path):
    (folder / "bad.png").write_bytes(b"no image")
    notes: list[str] = []
    assert len(read(folder, 16, tmp_path, notes.append).values) == 12
    assert any("left out 1" in text and "bad.png" in text for text in notes)


def test_too_few_images_are_an_error(tmp_path):
    few = write_images(tmp_path / "few", 3)
    with pytest.raises(UserError, match="3 usable images"):
        read(few, 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_training_begins_with_given_weights(folder, tmp_path):
    first = train(request(folder, tmp_path / "first", images=4))
    settings = architecture({}, str(first))
    assert settings == {
        "size": 16,
        "style_dim": 8,
        "mapping_layers": 2,
        "channels": (8, 8, 8),
    }
    slow = {"learning_rate": 1e-12}
    path = train(request(folder, tmp_path / "second", init=str(first), settings=slow))
    a, b = weights(first), weights(path)
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a if name != "latent_avg")
    with pytest.raises(TrainingError, match="style dim 8, not 16; leave out --style-dim or --init"):
        architecture({"style_dim": 16}, str(first))
    with pytest.raises(TrainingError, match="channels 8/8/8, not 8/8/16; leave out --channels"):
        architecture({"channels": (8, 8, 16)}, str(first))
    assert architecture({"size": 32}, None) == {"channels": (128, 128, 128, 64), "size": 32}


# --- the commands -----------------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gan2shape", "gan", *map(str, arguments)])
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
    code, printed, _ = command("train", folder, "--out", out, *options)
    assert code == 0
    assert str(out / "gan.safetensors") in printed.replace("\n", "")
    assert "sliced Wasserstein" in printed
    assert "FID" not in printed
    net = write_script(tmp_path / "net.pt", TinyInception(2))
    options += ["--inception", net]
    options[options.index("--images") + 1] = 12
    code, printed, _ = command("train", folder, "--out", out, *options)
    assert code == 0
    assert "going on after 8 images" in printed
    assert "FID" in printed


def test_stopping_the_command(folder, tmp_path):
    words = ["train", "gan", folder, "--out", tmp_path / "out", *TINY, "--threads", 1]
    words += ["--device", "cpu", "--images", 10**6, "--samples-every", 4]
    process = subprocess.Popen(
        [sys.executable, "-m", "gan2shape", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "after 0 images" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "the same command goes on" in err
    assert (tmp_path / "out" / "gan.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train {tmp}/absent --out {tmp}/out", "no folder"),
        ("train {tmp}/images --out {tmp}/out --size 48", "power of two"),
        ("train {tmp}/images --out {tmp}/out --channels 8/x", "--channels"),
        ("train {tmp}/images --out {tmp}/out --init {tmp}/none.pt", "none.pt"),
        ("train {tmp}/images --out {tmp}/out --init heads64 --size 128", "leave out --size"),
        ("train {tmp}/images --out {tmp}/out --lr 0", "learning_rate"),
        ("train {tmp}/images --out {tmp}/out --inception {gan}", "TorchScript"),
        ("sample {tmp}/none.pt --out {tmp}/x.png", "none.pt"),
        ("sample {gan} --out {tmp}/x.gif", ".png"),
        ("sample {gan} --out {tmp}/x.png --seeds 3", "3"),
        ("sample {gan} --out {tmp}/x.png --seeds 0:1 --interpolate 4", "two or more"),
        ("score {gan} {tmp}/absent", "no folder"),
        ("score {tmp}/none.pt {tmp}/images", "none.pt"),
        ("score {gan} {tmp}/images --inception {gan}", "TorchScript"),
        ("convert {gan} {tmp}/x.onnx", ".safetensors"),
        ("convert {gan} {tmp}/absent/x.pt", "existing folder"),
        ("info {tmp}/none.pt", "none.pt"),
    ],
)
def test_mistakes_get_one_sentence(command, folder, tmp_path, trained, arguments, sentence):
    fill = {"tmp": tmp_path, "gan": trained}
    code, _, err = command(*(word.format(**fill) for word in arguments.split()))
    assert code == 1
    assert sentence in err
    assert err.startswith("gan2shape: ")
    assert len(err.strip().splitlines()) == 1


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
    code, printed, _ = command("score", trained, folder, "--inception", net, "--device", "cpu")
    assert code == 0
    assert "12 samples against 12 images" in printed
    rows = [line.split()[:-2] for line in printed.splitlines()[2:]]
    assert rows[0] == ["sliced", "Wasserstein,", "16"]
    assert rows[-1] == ["FID"]


def test_info_fits_one_screen(trained, command):
    code, printed, _ = command("info", trained)
    assert code == 0
    rows = dict(describe(str(trained)))
    assert rows["image size"] == "16 x 16"
    assert rows["latent"].startswith("8 numbers, 2 mapping layers")
    assert rows["sha256"] in printed
    assert len(printed.splitlines()) < 24

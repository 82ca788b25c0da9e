"""Baselines as jobs: what they leave, going on, what does not fit, and what comes of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from gan2shape.cli import main
from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, prepare
from gan2shape.jobs.run.start import Request as Reconstruction
from gan2shape.jobs.training.arrays import Examples, read_examples, to_images
from gan2shape.jobs.training.loop import DivergedError, Intervals
from gan2shape.jobs.training.networks import NETWORKS, NetworkTraining, train_networks
from gan2shape.jobs.training.workdir import Cache, read_log
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.schemas.errors import ConfigError, UserError
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.network_training import baseline_config
from gan2shape.schemas.settings import CameraConfig
from tests.networks import lpips_weights, tiny_networks

HEADS = Path(__file__).parents[3] / "examples" / "heads64"
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of eight heads."""
    out = tmp_path_factory.mktemp("data") / "heads"
    for part in ("image", "depth", "mask"):
        (out / part).mkdir(parents=True)
        for file in sorted((HEADS / part).iterdir())[:8]:
            shutil.copy(file, out / part)
    return out


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Sums over several threads differ in their last bits from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def request(source: Path, out: Path, method: str = "supervised", **options: Any) -> NetworkTraining:
    settings = {
        "method": method,
        "networks": {"width": 8},
        "images": 16,
        "batch": 4,
        "precision": "float32",
    }
    config = baseline_config(settings | options.pop("settings", {}))
    options.setdefault("intervals", Intervals(8, 4, 0.0))
    return NetworkTraining(str(source), out, config, **options)


def quiet(*words: Any) -> None:
    """Shows nothing."""


def run(asked: NetworkTraining) -> tuple[Path, list[str]]:
    notes: list[str] = []
    return train_networks(asked, quiet, notes.append), notes


def examples_of(
    source: Path, folder: Path, camera: CameraConfig | None = None, note: Any = quiet
) -> Examples:
    return read_examples(str(source), camera or CameraConfig(), Cache(folder), note)


@pytest.fixture(scope="module")
def whole(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervised training that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(request(heads, out, validation=str(heads)))
    return out


def test_true_depth_is_read_once_and_belongs_to_its_image(heads: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(heads, source)
    for file in sorted((HEADS / "image").iterdir())[8:12]:
        shutil.copy(file, source / "image")
        shutil.copy(HEADS / "depth" / f"{file.stem}.tiff", source / "depth")
    images = sorted((source / "image").iterdir())
    images[0].write_bytes(b"no image")
    (source / "depth" / f"{images[2].stem}.tiff").unlink()
    (source / "depth" / f"{images[3].stem}.tiff").write_bytes(b"")
    notes: list[str] = []
    examples = examples_of(source, out, note=notes.append)
    assert len(examples) == 9
    assert len(examples.images) == 11
    assert any(f"left out 2 depths, the first: {images[2]} has no depth" in text for text in notes)
    assert any(images[0].name in text for text in notes)
    rows = scan(str(source)).manifest(1).to_pylist()
    order = [1, 4, 5, 6, 7, 8, 9, 10, 11]
    batch = examples.batch(np.arange(9))
    assert batch.depths is not None
    for place, row in enumerate(order):
        depth, mask = load_truth(rows[row], CameraConfig())
        expected = torch.from_numpy(np.where(mask > 0, depth, np.nan).astype(np.float32))
        assert torch.equal(batch.depths[place].nan_to_num(), expected.nan_to_num())
        assert torch.isfinite(batch.depths[place]).any()
    assert torch.equal(batch.images[1], to_images(examples.images[[3]])[0])

    assert examples.usable is not None
    assert examples.usable.tolist() == [0, *range(3, 11)]
    said = len(notes)
    again = examples_of(source, out, note=notes.append)
    assert again.usable is not None
    assert again.usable.tolist() == examples.usable.tolist()
    assert len(notes) == said
    examples_of(source, out, CameraConfig(max_depth=1.2), notes.append)
    assert notes[said] == "reading 11 depths"  # and the images no more


def test_a_broken_depth_file_is_named(heads: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(heads, tmp_path / "source"))
    for file in (source / "depth").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"No depth file .* a depth file .*\.tiff that is empty"):
        examples_of(source, tmp_path / "out")


def test_a_training_leaves_networks_pictures_and_a_log(whole: Path) -> None:
    networks = load_networks(whole / NETWORKS)
    assert (networks.networks.width, networks.gan_sha256) == (8, None)
    rows = read_log(whole)
    assert [row["images"] for row in rows] == [0, 4, 8, 12, 16]
    assert [row["images"] for row in rows if "side" in row] == [0, 8, 16]
    assert all(row["mad_degrees"] > 0 for row in rows if "side" in row)
    assert set(rows[-1]) >= {"loss", "depth", "normals_degrees", "images_per_second"}
    pictures = sorted(path.name for path in (whole / "pictures").iterdir())
    assert pictures == ["00000000.png", "00000008.png", "00000016.png"]
    tree = yaml.safe_load((whole / "record.yaml").read_text())
    assert tree["fixed"]["settings"]["method"] == "supervised"
    assert tree["about"]["settings"]["images"] == 16
    assert not list(whole.rglob(".tmp-*"))


def test_an_interrupted_training_goes_on_and_ends_as_if_it_had_not_been(
    heads: Path, whole: Path, tmp_path: Path
) -> None:
    def terminate(task: str, stage: str, done: int, total: int) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    asked = request(heads, tmp_path / "out", settings={"images": 12})
    with pytest.raises(KeyboardInterrupt):
        train_networks(replace(asked, intervals=Intervals(8, 4, 3600.0)), terminate, quiet)
    _, notes = run(asked)
    assert "going on after 8 images" in notes
    path, notes = run(request(heads, tmp_path / "out"))  # and a larger budget after the end
    assert "going on after 12 images" in notes
    assert path.read_bytes() == (whole / NETWORKS).read_bytes()
    assert [row["images"] for row in read_log(tmp_path / "out")] == [0, 4, 8, 12, 16]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "unsup3d"}, "a training with other .*method"),
        ({"settings": {"networks": {"width": 16}}}, r"with other networks.width \(8, not 16\);"),
        ({"settings": {"seed": 1}}, r"a training with other seed \(0, not 1\);"),
    ],
)
def test_another_training_in_the_directory(
    heads: Path, whole: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(request(heads, whole, **changes))


def test_images_may_move_but_not_change(heads: Path, whole: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(heads, source)
    shutil.copytree(whole, out)
    _, notes = run(request(source, out))
    assert notes == [f"{out} is finished already"]
    image = next((source / "image").iterdir())
    image.rename(image.with_stem("other"))
    with pytest.raises(UserError, match="a training with other images_sha256;"):
        run(request(source, out))


def test_what_cannot_be_trained_on_is_said(heads: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no true depth to learn from"):
        run(request(heads / "image", tmp_path / "out"))
    with pytest.raises(UserError, match="is a file"):
        run(request(heads, HEADS / "contact-sheet.png"))
    with pytest.raises(UserError, match="no StyleGAN2 weights"):
        run(request(heads, tmp_path / "u", "unsup3d", gan="nowhere.pt"))
    (tmp_path / "out" / "record.yaml").write_text("settings: 3")
    with pytest.raises(UserError, match="is damaged"):
        run(request(heads, tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"Training: decay must be less than or equal to 1"):
        baseline_config({"method": "unsup3d", "decay": 2})
    with pytest.raises(ConfigError, match="Training: symmetric: unknown setting"):
        baseline_config({"method": "supervised", "symmetric": True})


def test_a_training_that_diverges_ends_with_a_sentence(heads: Path, tmp_path: Path) -> None:
    path, _ = run(request(heads, tmp_path / "out", settings={"images": 4}))
    before = path.read_bytes()
    asked = request(heads, tmp_path / "out", settings={"images": 400})
    # Settings do not allow such a rate. Within their range these small networks do not diverge.
    wild = asked.config.model_copy(update={"learning_rate": 1e5})
    for log_images in (4, 10**6):  # seen in the figures, or only when there is something to save
        every = Intervals(8, log_images, 0.0)
        with pytest.raises(DivergedError, match=r"diverged before .* Give a lower"):
            run(replace(asked, config=wild, intervals=every))
    assert path.read_bytes() == before


def test_unsup3d_compares_images_by_what_it_is_given(heads: Path, tmp_path: Path) -> None:
    vgg = tmp_path / "vgg.safetensors"
    save_file(lpips_weights(), vgg)
    cases: dict[str, dict[str, Any]] = {
        "none": {},
        "discriminator": {"gan": "heads64"},
        "vgg16": {"gan": "heads64", "lpips": vgg},
    }
    for name, options in cases.items():
        asked = request(
            heads, tmp_path / name, "unsup3d", settings={"images": 4, "symmetric": name != "none"}
        )
        path, notes = run(replace(asked, **options))
        assert load_networks(path).networks.max_shift_z == 0.1
        about = yaml.safe_load((tmp_path / name / "record.yaml").read_text())["fixed"]["perceptual"]
        assert (about or {"network": "none"})["network"] == name
        (row,) = (row for row in read_log(tmp_path / name) if row["images"])
        assert ("perceptual" in row) == (name != "none")
        assert any("without a perceptual loss" in note for note in notes) == (name == "none")
    with pytest.raises(UserError, match=r"other perceptual\.network \(vgg16, not None\)"):
        run(request(heads, tmp_path / "vgg16", "unsup3d", settings={"images": 8}))


def test_networks_reconstruct_in_one_forward_pass(heads: Path, whole: Path, tmp_path: Path) -> None:
    asked = Reconstruction(
        source=str(heads),
        gan="heads64",
        out=tmp_path / "run",
        config=load_settings("heads", "forward", overrides={"precision": "float32"}),
        networks=str(whole / NETWORKS),
        limit=2,
    )
    made, _ = prepare(asked, Execution("cpu"))
    assert run_shard(made.path, 0, "cpu").fatal is None
    rows = store.read_metrics(made).to_pylist()
    assert [row["status"] for row in rows] == ["done", "done"]
    assert all(0 < row["side"] < 0.1 for row in rows)
    view = store.read_rows(made.path, "view", slice(0, 2))
    assert np.abs(view).max() == 0
    networks = load_networks(whole / NETWORKS).shape_networks()
    batch = examples_of(heads, whole / "cache").batch(np.arange(2))
    with torch.no_grad():
        expected = networks.depth(batch.images).numpy()
    depth = store.read_rows(made.path, "depth", slice(0, 2))
    np.testing.assert_allclose(depth, expected, atol=1e-5)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Gives a command's exit code, and all that it says."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gan2shape", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def test_the_commands(heads: Path, tmp_path: Path, command: Command) -> None:
    small = ["--images", "4", "--batch", "4", "--set", "networks.width=8", "--threads", "1"]
    small += ["--learning-rate", "0.001"]
    for words in (["supervised", "--no-mirror"], ["unsup3d", "--no-symmetric", "--decay", "0.5"]):
        name = words[0]
        code, said = command(
            "train", name, str(heads), "--out", str(tmp_path / name), *words[1:], *small
        )
        assert code == 0
        assert said.strip().endswith(NETWORKS)
        record = yaml.safe_load((tmp_path / name / "record.yaml").read_text())
        settings = record["fixed"]["settings"]
        assert settings["networks"]["width"] == 8
        assert record["about"]["settings"]["learning_rate"] == 0.001
        assert settings["mirror"] == (name == "unsup3d")
        assert settings.get("symmetric", False) is False
        code, said = command("train", name, "--help")
        assert code == 0
        assert "Examples" in said
    code, said = command(
        *("train", "supervised", str(heads), "--out", str(tmp_path / "x")),
        *("--set", "camera.size=48"),
    )
    assert code == 1
    assert "camera: size must be a power of two" in said
    assert not (tmp_path / "x").exists()


def test_finetuning_goes_on_from_networks(heads: Path, tmp_path: Path, command: Command) -> None:
    gan = load_gan("heads64")
    initial = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    file = tmp_path / "initial.safetensors"
    file.write_bytes(networks_bytes(initial))
    out = tmp_path / "out"
    small = [*("--images", "8", "--batch", "4", "--threads", "1"), *("--learning-rate", "0.01")]
    heads_of = ("train", "finetune", str(heads), "--category", "heads")
    asked = [*heads_of, "--networks", str(file), "--gan", "heads64", "--out", str(out), *small]
    code, said = command(*asked)
    assert (code, said.strip().splitlines()[-1]) == (0, str(out / NETWORKS))
    tuned = load_networks(out / NETWORKS)
    assert tuned.networks == initial.networks
    assert tuned.gan_sha256 == gan.sha256
    same = {
        name.split(".")[0]
        for name, value in initial.parameters.items()
        if torch.equal(value.half(), tuned.parameters[name].half())
    }
    assert same == {"encoder"}
    settings = yaml.safe_load((out / "record.yaml").read_text())["fixed"]["settings"]
    assert (settings["mask"], settings["depth_smoothness"]) == ("background", 0.03)
    assert "is finished already" in command(*asked)[1]
    code, said = command(*asked, "--teacher", str(file))
    assert (code, "holds a training with other teachers" in said) == (1, True)
    taught = [*asked[: -len(small) - 1], str(tmp_path / "taught"), *small, "--teacher", str(file)]
    assert command(*taught)[0] == 0
    assert "is finished already" in command(*taught)[1]
    file.write_bytes(networks_bytes(tuned))
    code, said = command(*asked)
    assert code == 1
    assert "holds a training with other networks_sha256;" in said
    file.write_bytes(networks_bytes(replace(initial, gan_sha256="0" * 64)))
    code, said = command(*asked[: -len(small)], *small, "--out", str(tmp_path / "new"))
    assert code == 1
    assert "were trained with another GAN" in said
    code, said = command(*heads_of, "--out", str(out), "--networks", str(tmp_path / "none"))
    assert (code, "There is no networks file" in said) == (1, True)
    masked = ("--set", "mask=given", "--out", str(tmp_path / "masked"))
    code, said = command(*heads_of, "--networks", str(file), *masked)
    assert (code, "takes no mask files" in said) == (1, True)
    code, said = command("train", "finetune", "--help")
    assert (code, "Examples" in said) == (0, True)

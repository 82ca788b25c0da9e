"""Joint training as a job: what it leaves, going on where it was, several processes, errors."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gan2shape.pipeline.method.steps as steps
from gan2shape.cli import INTERRUPTED, main
from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.training import training_set
from gan2shape.jobs.training.joint import Request, pretrain
from gan2shape.jobs.training.processes import plan_processes
from gan2shape.pipeline.networks.trained import load_networks
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.packaged import GAN_FILE, asset_path

HEADS = Path(__file__).parents[3] / "examples" / "heads64"
CYCLE = {"step1": 2, "step2": 2, "view_iterations": 1, "step3": 2}
SETTINGS: dict[str, Any] = {
    "ellipsoid.iterations": 2,
    "networks.width": 8,
    "optimization.cycles": [CYCLE, CYCLE],
    "optimization.batch": 4,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 4,
    "optimization.collapse_ratio": 0.0,
    "inversion.iterations": 2,
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def request(out: Path, **changes: Any) -> Request:
    asked = Request(
        str(HEADS), "heads64", out, load_settings("heads", "scratch", overrides=SETTINGS), limit=4
    )
    return replace(asked, **changes)


def run(asked: Request) -> tuple[Path, list[str]]:
    notes: list[str] = []
    return pretrain(asked, lambda stage, done, total: None, notes.append), notes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "networks"
    run(request(out))
    return out


def test_it_leaves_networks_a_log_and_pictures(whole: Path) -> None:
    networks = load_networks(whole / "networks.safetensors")
    images = torch.zeros(1, 3, 64, 64)
    assert networks.shape_networks().depth(images).shape == (1, 64, 64)
    assert networks.offset_encoder()(images).shape == (1, 256)
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    names = ["ellipsoid"]
    for cycle in ("cycle 1/2", "cycle 2/2"):
        names += [f"{cycle}, {step}" for step in ("albedo", "projection", "views", "shape")]
    assert [row["step"] for row in rows] == names
    assert all(row["loss_at_end"] > 0 for row in rows)
    assert all((row["step"].endswith("shape")) == ("yaw_std" in row) for row in rows)
    pictures = sorted(path.name for path in (whole / "pictures").iterdir())
    assert pictures == ["cycle-01.png", "cycle-02.png"]
    assert not any((whole / "checkpoints").iterdir())


def test_a_finished_training_is_left_alone(whole: Path) -> None:
    before = (whole / "networks.safetensors").stat().st_mtime_ns
    path, notes = run(request(whole))
    assert path.stat().st_mtime_ns == before
    assert "finished already" in notes[0]


@pytest.mark.parametrize("text", ["", "- list", "gan: heads64", "{"])
def test_a_damaged_record_is_said_in_a_sentence(whole: Path, tmp_path: Path, text: str) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "pretrain.yaml").write_text(text)
    with pytest.raises(UserError, match="is damaged; train into another directory"):
        run(request(out))


def test_images_and_gan_may_move(whole: Path, tmp_path: Path) -> None:
    images, gan = tmp_path / "heads", tmp_path / "gan.safetensors"
    shutil.copytree(HEADS, images)
    shutil.copy(asset_path("heads64", GAN_FILE), gan)
    _, notes = run(request(whole, source=str(images), gan=str(gan)))
    assert "finished already" in notes[0]


def test_an_interrupted_training_ends_as_if_it_had_not_been(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    fit_shape = steps.fit_shape

    def stopped(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        fit_shape(*args, **options)

    out = tmp_path / "networks"
    with monkeypatch.context() as patched:
        patched.setattr(steps, "fit_shape", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(request(out))
    assert load_networks(out / "networks.safetensors").networks.width == 8  # of the first cycle
    path, notes = run(request(out))
    assert "going on after 8 steps" in notes
    assert path.read_bytes() == (whole / "networks.safetensors").read_bytes()
    steps_logged = [json.loads(line)["step"] for line in (out / "log.jsonl").open()]
    assert len(steps_logged) == len(set(steps_logged)) == 9


def test_processes_share_the_images_and_agree(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "clear", lambda self: None)
    path, _ = run(request(tmp_path / "two", devices=("cpu", "cpu")))
    networks = load_networks(path)
    assert all(bool(torch.isfinite(value).all()) for value in networks.parameters.values())
    first, second = (
        torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)["state"]["group"]
        for file in sorted(path.parent.glob("checkpoints/process-*/state-*.ckpt"))
    )
    for part in ("networks", "encoder"):
        assert all(value.equal(second[part][name]) for name, value in first[part].items())
    alone = load_networks(whole / "networks.safetensors").parameters
    assert any(not value.equal(alone[name]) for name, value in networks.parameters.items())


def test_latents_of_all_images_come_from_one_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [file.stem for file in sorted((HEADS / "image").iterdir())][:2]
    torch.save({name: torch.randn(256) for name in names}, tmp_path / "latents.pt")

    def no_inversion(*args: Any, **options: Any) -> None:
        raise AssertionError("latents were given")

    monkeypatch.setattr(training_set, "invert", no_inversion)
    asked = request(tmp_path / "given", latents=str(tmp_path / "latents.pt"), limit=2)
    path, _ = run(asked)
    assert load_networks(path).networks.width == 8
    with pytest.raises(UserError, match="holds a training with other latents"):
        run(replace(asked, latents=None))


def test_a_process_that_dies_ends_the_one_that_waits_for_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.jobs.process_group_standin"],
        cwd=HEADS.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith(
        "Process 1 (cpu) ended early; its message is above. Give the same command to go on."
    )


def test_training_goes_on_from_networks(whole: Path, tmp_path: Path) -> None:
    path, _ = run(request(tmp_path / "more", networks=str(whole / "networks.safetensors"), limit=2))
    rows = [json.loads(line) for line in (path.parent / "log.jsonl").open()]
    assert rows[0]["step"] == "cycle 1/2, albedo"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit": 3}, "holds a training with other images, images_sha256"),
        (
            {"config": load_settings("heads", "scratch", overrides=SETTINGS | {"seed": 1})},
            "other settings",
        ),
        ({"gan": "nowhere.pt"}, "no StyleGAN2 weights file nowhere.pt"),
        ({"devices": ("cpu",) * 5}, "has 4 images for 5 processes"),
        ({"networks": "nowhere.safetensors"}, "no networks file nowhere.safetensors"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    whole: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(request(whole, **changes))


def test_processes_divide_the_cores() -> None:
    assert plan_processes("cpu", 2, None)[0] == ("cpu", "cpu")
    assert plan_processes("cpu", None, 3) == (("cpu",), 3)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--set={key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    out = tmp_path / "networks"
    argv = ["gan2shape", "train", "networks", str(HEADS), "--gan", "heads64"]
    argv += ["--category", "heads", "--recipe", "scratch"]
    argv += ["--limit", "2", "--threads", "1", *options]
    monkeypatch.setattr(sys, "argv", [*argv, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "inversion: 2/2" in said
    assert said.strip().endswith("networks.safetensors")

    def stopped(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "fit_shape", stopped)
    monkeypatch.setattr(sys, "argv", [*argv, "--out", str(tmp_path / "b")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err

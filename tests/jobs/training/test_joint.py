"""Joint training as a job: what it leaves, going on where it was, several processes, errors."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan2shape.cli import INTERRUPTED, main
from gan2shape.jobs.training.joint import JointTraining, train_joint
from gan2shape.jobs.training.processes import Compute, plan_compute
from gan2shape.jobs.training.training_set import TrainingImages
from gan2shape.jobs.weights.networks_file import load_networks
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


IMAGES = TrainingImages(str(HEADS), limit=4)


def request(out: Path, limit: int = 4, **changes: Any) -> JointTraining:
    images = replace(IMAGES, limit=limit)
    config = load_settings("heads", "scratch", overrides=SETTINGS)
    asked = JointTraining(images, "heads64", out, config)
    return replace(asked, **changes)


def quiet(*words: Any) -> None:
    """Shows nothing."""


def run(asked: JointTraining, show: Any = quiet) -> tuple[Path, list[str]]:
    notes: list[str] = []
    return train_joint(asked, show, notes.append), notes


def stop_in(stage: str) -> Any:
    """Shows nothing, and is interrupted in a stage."""

    def show(task: str, now: str, done: int, total: int) -> None:
        if now == stage:
            raise KeyboardInterrupt

    return show


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
    assert not (whole / "checkpoints").exists()


def test_a_finished_training_is_left_alone(whole: Path) -> None:
    before = (whole / "networks.safetensors").stat().st_mtime_ns
    path, notes = run(request(whole))
    assert path.stat().st_mtime_ns == before
    assert "finished already" in notes[0]


@pytest.mark.parametrize("text", ["", "- list", "gan: heads64", "{"])
def test_a_damaged_record_is_said_in_a_sentence(whole: Path, tmp_path: Path, text: str) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "record.yaml").write_text(text)
    with pytest.raises(UserError, match="is damaged; choose another --out"):
        run(request(out))


def test_images_and_gan_may_move(whole: Path, tmp_path: Path) -> None:
    images, gan = tmp_path / "heads", tmp_path / "gan.safetensors"
    shutil.copytree(HEADS, images)
    shutil.copy(asset_path("heads64", GAN_FILE), gan)
    _, notes = run(request(whole, images=replace(IMAGES, source=str(images)), gan=str(gan)))
    assert "finished already" in notes[0]


def test_an_interrupted_training_ends_as_if_it_had_not_been(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "networks"
    with pytest.raises(KeyboardInterrupt):
        run(request(out), stop_in("cycle 2/2, shape"))
    assert load_networks(out / "networks.safetensors").networks.width == 8  # of the first cycle
    path, notes = run(request(out))
    assert "going on after 8 steps" in notes
    assert path.read_bytes() == (whole / "networks.safetensors").read_bytes()
    steps_logged = [json.loads(line)["step"] for line in (out / "log.jsonl").open()]
    assert len(steps_logged) == len(set(steps_logged)) == 9


def test_processes_share_the_images_and_agree(whole: Path, tmp_path: Path) -> None:
    two = request(tmp_path / "two", compute=Compute(("cpu", "cpu")))
    with pytest.raises(KeyboardInterrupt):
        run(two, stop_in("cycle 2/2, shape"))
    first, second = (
        torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)["state"]["group"]
        for file in sorted(two.out.glob("checkpoints/process-*/state-8.ckpt"))
    )
    for part in ("networks", "encoder"):
        assert all(value.equal(second[part][name]) for name, value in first[part].items())
    path, notes = run(two)
    assert "going on after 8 steps" in notes
    networks = load_networks(path)
    assert all(bool(torch.isfinite(value).all()) for value in networks.parameters.values())
    alone = load_networks(whole / "networks.safetensors").parameters
    assert any(not value.equal(alone[name]) for name, value in networks.parameters.items())


def test_latents_of_all_images_come_from_one_file(tmp_path: Path) -> None:
    names = [file.stem for file in sorted((HEADS / "image").iterdir())][:2]
    torch.save({name: torch.randn(256) for name in names}, tmp_path / "latents.pt")
    images = replace(IMAGES, latents=str(tmp_path / "latents.pt"), limit=2)
    tasks: set[str] = set()
    path, _ = run(request(tmp_path / "given", images=images), lambda *words: tasks.add(words[0]))
    assert load_networks(path).networks.width == 8
    assert tasks == {"joint training"}  # and no inversion
    with pytest.raises(UserError, match="holds a training with other latents"):
        run(request(tmp_path / "given", limit=2))


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
        ({"limit": 3}, r"holds a training with other images \(4, not 3\), images_sha256;"),
        (
            {"config": load_settings("heads", "scratch", overrides=SETTINGS | {"seed": 1})},
            r"other seed \(0, not 1\);",
        ),
        ({"gan": "nowhere.pt"}, "no StyleGAN2 weights file nowhere.pt"),
        ({"compute": Compute(("cpu",) * 5)}, "has 4 images for 5 processes"),
        ({"networks": "nowhere.safetensors"}, "no networks file nowhere.safetensors"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    whole: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(request(whole, **changes))


def test_processes_divide_the_cores() -> None:
    assert plan_compute("cpu", 2).devices == ("cpu", "cpu")
    assert plan_compute("cpu", None, 3) == Compute(("cpu",), 3)


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


def test_stopping_the_command(tmp_path: Path) -> None:
    options = [f"--set={key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    argv = ["train", "networks", str(HEADS), "--gan", "heads64", "--category", "heads"]
    argv += ["--recipe", "scratch", "--limit", "2", "--threads", "1", *options]
    argv += ["--out", str(tmp_path / "b")]
    names = [file.stem for file in sorted((HEADS / "image").iterdir())][:2]
    torch.save({name: torch.zeros(256) for name in names}, tmp_path / "latents.pt")
    argv += ["--latents", str(tmp_path / "latents.pt"), "--set=ellipsoid.iterations=1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gan2shape", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "ellipsoid: " not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "the same command goes on" in err

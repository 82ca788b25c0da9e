"""Priors as a job: what it leaves, the truth beside it, going on where it was, errors."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from gan2shape.cli import main
from gan2shape.jobs.training.priors import PriorsEstimation, find_priors
from gan2shape.jobs.training.priors_page import LIGHT, VIEW, read_truth
from gan2shape.jobs.training.training_set import TrainingImages
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import load_settings

HEADS = Path(__file__).parents[3] / "examples" / "heads64"
SETTINGS: dict[str, Any] = {
    "ellipsoid.iterations": 2,
    "networks.width": 8,
    "optimization.cycles": [{"step1": 2, "step2": 1, "view_iterations": 1, "step3": 1}],
    "optimization.batch": 4,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 2,
    "optimization.collapse_ratio": 0.0,
    "inversion.iterations": 2,
    "inversion.start_samples": 16,
    "precision": "float32",
}
COLUMNS = [component.column for component in VIEW + LIGHT]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four heads and a table of what is true of them, in another order and of others too."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "image").mkdir()
    names = []
    for path in sorted((HEADS / "image").iterdir())[:4]:
        shutil.copy(path, folder / "image")
        names.append(path.stem)
    names = [*reversed(names), "other"]
    rows = {name: np.arange(5) * 0.01 + place for place, name in enumerate(COLUMNS)}
    pq.write_table(pa.table({"image_id": names, **rows}), folder / "truth.parquet")
    return folder


def request(heads: Path, out: Path, limit: int | None = None, **changes: Any) -> PriorsEstimation:
    config = load_settings("heads", "priors", overrides=SETTINGS)
    images = TrainingImages(str(heads), limit=limit)
    return replace(PriorsEstimation(images, "heads64", out, config, rounds=2), **changes)


def quiet(*words: Any) -> None:
    """Shows nothing."""


def run(asked: PriorsEstimation, show: Any = quiet) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    path = find_priors(asked, show, notes.append)
    return yaml.safe_load(path.read_text()), notes


@pytest.fixture(scope="module")
def whole(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An estimation that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "priors"
    run(request(heads, out))
    return out


def test_it_leaves_priors_that_settings_take(whole: Path) -> None:
    tree = yaml.safe_load((whole / "priors.yaml").read_text())
    config = load_settings("heads", "paper", priors=whole / "priors.yaml")
    assert list(config.view_prior.std) == tree["view_prior"]["std"]
    assert list(config.light_prior.mean or ()) == tree["light_prior"]["mean"]
    about = tree["provenance"]
    assert about["images"] == about["images_used"] == 4
    assert about["rounds"] == 2
    assert about["stable"] is False
    assert len(about["gan"]["sha256"]) == len(about["settings_sha256"]) == 64
    rounds = json.loads((whole / "rounds.json").read_text())
    assert [row["round"] for row in rounds] == [1, 2]
    assert rounds[-1]["view_std"] == tree["view_prior"]["std"]
    assert sorted(path.name for path in whole.iterdir()) == [
        ".lock",
        "checkpoints",
        "finished.json",
        "plotly.min.js",
        "priors.html",
        "priors.yaml",
        "record.yaml",
        "rounds.json",
        "seconds",
    ]


def test_the_truth_is_put_beside_it(heads: Path, whole: Path) -> None:
    figures = yaml.safe_load((whole / "priors.yaml").read_text())["provenance"]["against_truth"]
    true = np.arange(4) * 0.01
    assert figures["yaw"]["true_mean"] == pytest.approx(np.degrees(1 + true.mean()), rel=1e-3)
    assert figures["ambient"]["true_mean"] == pytest.approx(6 + true.mean(), rel=1e-3)
    assert figures["ambient"]["true_std"] == pytest.approx(true.std(), rel=1e-3)
    assert "shift away" not in figures
    html = (whole / "priors.html").read_text()
    assert html.count('"dash":"dash"') == html.count('class="chart"') == len(figures) == 9
    assert "true mean" in html


def test_truth_belongs_to_its_image(heads: Path) -> None:
    ids = [path.stem for path in sorted((heads / "image").iterdir())]
    found = read_truth(str(heads), ids)
    assert found is not None
    assert found[:, 0].tolist() == pytest.approx([0.03, 0.02, 0.01, 0.0])
    assert read_truth(str(heads), [*ids, "unknown"]) is None
    assert read_truth(str(HEADS / "image"), ids) is None


def test_an_interrupted_estimation_ends_as_if_it_had_not_been(
    heads: Path, whole: Path, tmp_path: Path
) -> None:
    def stopped(task: str, stage: str, done: int, total: int) -> None:
        if stage == "cycle 2/2, shape":
            raise KeyboardInterrupt

    out = tmp_path / "priors"
    with pytest.raises(KeyboardInterrupt):
        run(request(heads, out), stopped)
    assert not (out / "priors.yaml").exists()
    _, notes = run(request(heads, out))
    assert "going on after 8 steps" in notes
    assert (out / "priors.yaml").read_bytes() == (whole / "priors.yaml").read_bytes()
    assert (out / "rounds.json").read_bytes() == (whole / "rounds.json").read_bytes()


def test_more_rounds_go_on_where_fewer_ended(heads: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "priors"
    _, notes = run(request(heads, out, rounds=1))
    assert "more --rounds" in notes[-1]
    tree, notes = run(request(heads, out))
    assert any("going on after" in note for note in notes)
    assert tree == yaml.safe_load((whole / "priors.yaml").read_text())


def test_a_finished_estimation_is_left_alone(heads: Path, whole: Path) -> None:
    before = (whole / "priors.yaml").stat().st_mtime_ns
    _, notes = run(request(heads, whole))
    assert "finished already" in notes[0]
    assert (whole / "priors.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit": 3}, r"holds a training with other images \(4, not 3\), images_sha256;"),
        (
            {"config": load_settings("heads", "priors", overrides=SETTINGS | {"seed": 1})},
            r"other seed \(0, not 1\);",
        ),
        ({"gan": "nowhere.pt"}, "no StyleGAN2 weights file nowhere.pt"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    heads: Path, whole: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(request(heads, whole, **changes))


def test_the_command(
    heads: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    arguments = ["train", "priors", str(heads), "--gan", "heads64", "--category", "heads"]
    arguments += [
        "--out",
        str(tmp_path / "out"),
        "--rounds",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
        *flags,
    ]
    monkeypatch.setattr(sys, "argv", ["gan2shape", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "round 1: standard deviation of pitch 4.3°, yaw 14.3°" in said
    assert "true std" in said
    assert "still changed in round 1" in said

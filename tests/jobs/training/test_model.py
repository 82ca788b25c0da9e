"""A model from images alone, in miniature: parts in order, interruption, parts that are brought."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan2shape.jobs.gan.samples import convert
from gan2shape.jobs.training.model import ModelTraining, train_model
from gan2shape.jobs.training.workdir import read_finished
from gan2shape.schemas.errors import UserError

HEADS = Path(__file__).parents[3] / "examples" / "heads64"
STEPS: dict[str, Any] = {
    "limit": 8,
    "ellipsoid.iterations": 2,
    "networks.width": 8,
    "optimization.cycles": [{"step1": 2, "step2": 1, "view_iterations": 1, "step3": 1}],
    "optimization.batch": 4,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 2,
    "optimization.collapse_ratio": 0.0,
    "inversion.iterations": 1,
    "precision": "float32",
}
SMALL = {"batch": 4, "precision": "float32"}
BUDGETS = {
    "gan": SMALL | {"images": 8, "channels": (8, 8, 8, 8), "style_dim": 8},
    "priors": STEPS | {"rounds": 1},
    "networks": STEPS,
    "finetune": SMALL | {"images": 8, "optimization.depth_smoothness": 0.1},
}
FILES = ("gan.safetensors", "joint.safetensors", "networks.safetensors")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for file in sorted((HEADS / "image").iterdir())[:16]:
        shutil.copy(file, folder)
    return folder


def request(images: Path, out: Path, **changes: Any) -> ModelTraining:
    asked = ModelTraining(
        str(images), out, "heads", size=32, budgets=BUDGETS, device="cpu", threads=1
    )
    return replace(asked, **changes)


def run(asked: ModelTraining) -> tuple[list[tuple[Any, ...]], list[str]]:
    shown: list[tuple[Any, ...]] = []
    notes: list[str] = []
    assert train_model(asked, lambda *words: shown.append(words), notes.append) == asked.out
    return shown, notes


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "model"
    shown, _ = run(request(images, out))
    overall = [words for words in shown if words[0] == "model"]
    shares = [words[2] for words in overall]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] == pytest.approx(1)
    stages = list(dict.fromkeys(words[1] for words in overall))
    assert [stage.split(", ")[1] for stage in stages] == [
        *("part 1 of 4 (gan)", "part 2 of 4 (priors)"),
        *("part 3 of 4 (networks)", "part 4 of 4 (finetune)"),
    ]
    assert all(words[4] is None or words[4] >= 0 for words in overall)
    assert overall[-1][4] == pytest.approx(0)
    return out


def test_it_leaves_a_model(whole: Path) -> None:
    from gan2shape.jobs.weights.model import open_model

    model = open_model(whole)
    assert (model.category, model.about.size, model.about.recipe) == ("heads", 32, "forward")
    assert set(model.about.files) == set(FILES)
    assert model.about.view_prior is not None
    assert model.about.figures["sliced_wasserstein"] > 0
    for part in ("gan", "priors", "networks", "finetune"):
        assert read_finished(whole / "parts" / part) is not None


def test_it_can_be_used(whole: Path, images: Path, tmp_path: Path) -> None:
    from gan2shape.jobs.run.shard import run_shard
    from gan2shape.jobs.run.start import Execution, Request, prepare
    from gan2shape.jobs.run.store import read_metrics
    from gan2shape.jobs.weights.choice import choose

    overrides = {"precision": "float32"}
    chosen = choose(model=str(whole), overrides=overrides)
    asked = Request(
        str(images), chosen.gan, tmp_path / "run", chosen.config, networks=chosen.networks, limit=2
    )
    made, _ = prepare(asked, Execution("cpu", 1, 1))
    assert run_shard(made.path, 0, "cpu").fatal is None
    assert [row["status"] for row in read_metrics(made).to_pylist()] == ["done", "done"]


def test_interrupted_it_ends_as_if_it_had_not_been(
    whole: Path, images: Path, tmp_path: Path
) -> None:
    asked = request(images, tmp_path / "model")

    def stop(task: str, stage: str, *more: Any) -> None:
        if task == "joint training" and stage == "cycle 1/1, shape":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(asked, stop, lambda text: None)
    assert not (asked.out / "model.yaml").exists()
    _, notes = run(asked)
    finished = [note for note in notes if note.endswith("is finished already")]
    assert [Path(note.split()[0]).name for note in finished] == ["gan", "priors"]
    assert "going on after 4 steps" in notes
    for name in FILES:
        assert (asked.out / name).read_bytes() == (whole / name).read_bytes()
    shown, notes = run(asked)
    assert len(notes) == 4  # all four are finished already
    assert shown == []


def test_parts_can_be_brought(whole: Path, images: Path, tmp_path: Path) -> None:
    asked = brought(whole, request(images, tmp_path / "model"))
    shown, _ = run(asked)
    assert {words[0] for words in shown} == {"finetune", "model"}
    assert sorted(path.name for path in (asked.out / "parts").iterdir()) == [".lock", "finetune"]
    for name in FILES:
        assert (asked.out / name).read_bytes() == (whole / name).read_bytes()


def test_a_gan_of_another_format_is_converted_first(
    whole: Path, images: Path, tmp_path: Path
) -> None:
    gan = tmp_path / "gan.pt"
    convert(str(whole / FILES[0]), gan)
    asked = brought(whole, request(images, tmp_path / "model"))
    run(replace(asked, gan=str(gan)))
    assert (asked.out / FILES[0]).read_bytes() == (whole / FILES[0]).read_bytes()


def brought(whole: Path, asked: ModelTraining) -> ModelTraining:
    """With all parts but the last brought from another model."""
    priors = str(whole / "parts" / "priors" / "priors.yaml")
    gan, networks, _ = (str(whole / name) for name in FILES)
    return replace(asked, size=None, gan=gan, priors=priors, networks=networks)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"category": "teapots"}, "no category 'teapots'"),
        ({"size": 48}, "power of two"),
        ({"gan": "heads64"}, "makes images of 64 pixels, not 32; leave out --size"),
        ({"budgets": {"teeth": {}}}, "There is no part teeth; the parts are gan, priors"),
        ({"budgets": {"networks": {"optimization.bach": 3}}}, "bach"),
        ({"budgets": {"finetune": {"imges": 3}}}, "imges"),
        ({"masks": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    images: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(request(images, tmp_path / "model", **changes))
    assert not (tmp_path / "model").exists()

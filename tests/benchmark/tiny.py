"""A benchmark small enough for tests: shipped heads, networks of width 8, a few iterations."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gan2shape.jobs.progress import Display
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Outcome
from gan2shape.jobs.run.status import run_status
from gan2shape.jobs.synthetic import description
from gan2shape.schemas.benchmark import Recipe, load_recipe

HEADS = Path(__file__).parents[2] / "examples" / "heads64"
CPU = Execution("cpu", 1, 1)

_BASELINE: dict[str, Any] = {
    "images": 8,
    "networks": {"width": 8},
    "batch": 4,
    "precision": "float32",
}
_STEPS: dict[str, Any] = {
    "optimization.cycles": [{"step1": 1, "step2": 1, "step3": 1}],
    "optimization.batch": 2,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 2,
    "optimization.collapse_ratio": 0.0,
    "optimization.turn_calibration_iterations": 2,
    "inversion.iterations": 2,
    "inversion.start_samples": 16,
    "precision": "float32",
}
_FINETUNE = {
    "recipe": "finetune",
    "training": {"images": 8, "batch": 4, "precision": "float32"},
}
RECIPE: dict[str, Any] = {
    "heads": 3,
    "train_heads": 8,
    "supervised": _BASELINE,
    "unsup3d": _BASELINE | {"warm_up": 0},
    "pretrain": {
        "recipe": "joint",
        "heads": 2,
        "set": _STEPS | {"networks.width": 8, "ellipsoid.iterations": 2},
    },
    "finetune": _FINETUNE,
    "teach": _FINETUNE,
    "forward": {"recipe": "forward", "set": {"precision": "float32"}},
    "tune": {
        "recipe": "single-image",
        "set": {"optimization.cycles": [{"single_image_passes": 2}], "precision": "float32"},
    },
    "refine": {"recipe": "refine", "set": _STEPS},
}


def recipe(**changes: Any) -> Recipe:
    return load_recipe(yaml.safe_dump({"tiny": RECIPE | changes}), "tiny", "tiny.yaml")


def write_heads(
    out: Path,
    seeds: Sequence[int],
    size: int = 64,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Shipped heads under the names of others, in place of drawing these."""
    shipped = sorted(file.stem for file in (HEADS / "image").iterdir())
    table = pq.read_table(HEADS / "truth.parquet").to_pylist()
    rows = []
    for done, seed in enumerate(seeds, 1):
        source = seed % len(shipped)
        for folder in ("image", "depth", "mask", "albedo"):
            (out / folder).mkdir(parents=True, exist_ok=True)
            file = next((HEADS / folder).glob(f"{shipped[source]}.*"))
            shutil.copy(file, out / folder / f"{seed:06d}{file.suffix}")
        rows.append(table[source] | {"seed": seed, "image_id": f"{seed:06d}"})
        on_progress(done, len(seeds))
    (out / "dataset.yaml").write_text(description(seeds, size))
    schema = pq.read_schema(HEADS / "truth.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / "truth.parquet")


def execute(run: store.Run, execution: Execution, show: Any = None) -> Outcome:
    """The run's shards in this process, in place of workers."""
    for shard in store.missing_shards(run):
        outcome = run_shard(run.path, shard, "cpu")
        assert outcome.fatal is None, outcome.fatal
    return Outcome(run_status(run.path), {})


def quiet(notes: list[str] | None = None) -> Display:
    """A display that keeps what is said."""
    said = [] if notes is None else notes
    return Display(lambda *words: None, said.append)

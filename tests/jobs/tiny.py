"""Runs small enough for tests: shipped heads and GAN, a few iterations of every step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, prepare
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import RunConfig

HEADS = Path(__file__).parents[2] / "examples" / "heads64"
CPU = Execution("cpu", 1, 1)
LATENT = 256
"""Numbers in a latent of the shipped GAN."""
SETTINGS: dict[str, Any] = {
    "networks.width": 8,
    "ellipsoid.iterations": 2,
    "optimization.cycles": [{"step1": 1, "step2": 1, "step3": 1}],
    "optimization.batch": 2,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 2,
    "optimization.collapse_ratio": 0.0,
    "inversion.iterations": 1,
    "precision": "float32",
    "group_size": 2,
    "shard_size": 2,
}


def settings(**changes: Any) -> RunConfig:
    """Settings for two images a group; `changes` are nested by "__"."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return load_settings("heads", "paper", overrides=SETTINGS | dotted)


def write_images(folder: Path, count: int) -> Path:
    """Heads `img0.png` and so on, at most sixteen."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(sorted((HEADS / "image").iterdir())[:count]):
        shutil.copy(file, folder / f"img{i}.png")
    return folder


def make_run(folder: Path, images: int = 4, **request: Any) -> store.Run:
    """A run in `folder`/run, of images that are written or of a `source`."""
    if "source" not in request:
        request["source"] = str(write_images(folder / "images", images))
    asked = {"gan": "heads64", "out": folder / "run", "config": settings(), "spread": False}
    return prepare(Request(**asked | request), CPU)[0]


def do_all(run: store.Run) -> list[dict[str, Any]]:
    """Do all shards in this process; returns the rows of the results."""
    outcomes = [run_shard(run.path, plan.index, "cpu") for plan in run.plan]
    assert all(outcome.fatal is None for outcome in outcomes), outcomes
    return list(store.read_metrics(run).to_pylist())


def arrays(run: store.Run) -> dict[str, Any]:
    """All arrays of a run."""
    return {
        spec.name: store.read_rows(run.path, spec.name, slice(0, run.plan.images))
        for spec in run.specs()
    }

"""Runs small enough for tests: shipped heads and GAN at 32 pixels, an iteration of every step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, prepare
from gan2shape.jobs.weights.networks_file import networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

HEADS = Path(__file__).parents[2] / "examples" / "heads64"
CPU = Execution("cpu", 1, 1)
SIZE = 32
LATENT = 256
"""Numbers in a latent of the shipped GAN."""
SETTINGS: dict[str, Any] = {
    "camera.size": SIZE,
    "networks.width": 8,
    "ellipsoid.iterations": 1,
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


def settings(recipe: str = "paper", **changes: Any) -> RunConfig:
    """Settings of two images a group; `changes` are nested by "__"."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return load_settings("heads", recipe, overrides=SETTINGS | dotted)


def forward(**changes: Any) -> RunConfig:
    """Settings of one forward pass, for `networks`."""
    return settings("forward", **{"optimization__cycles": [], **changes})


def networks(folder: Path, **changes: Any) -> str:
    """A file of networks for the shipped GAN and these settings."""
    sha256 = load_gan("heads64").sha256
    path = folder / "networks.safetensors"
    path.write_bytes(networks_bytes(tiny_networks(sha256, LATENT, SIZE, **changes)))
    return str(path)


def write_images(folder: Path, count: int) -> Path:
    """Heads `img0.png` and so on, at most sixteen."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(sorted((HEADS / "image").iterdir())[:count]):
        shutil.copy(file, folder / f"img{i}.png")
    return folder


def write_latents(folder: Path, images: Path) -> str:
    """A latent, none that fits, for every image, so that none has to be found."""
    names = sorted(file.stem for file in images.iterdir())
    values = torch.randn(len(names), LATENT, generator=torch.Generator().manual_seed(0))
    torch.save(dict(zip(names, values, strict=True)), folder / "latents.pt")
    return str(folder / "latents.pt")


def make_run(folder: Path, images: int = 4, **request: Any) -> store.Run:
    """A run in `folder`/run, of images that are written and have latents, or of a `source`."""
    if "source" not in request:
        request["source"] = str(write_images(folder / "images", images))
        request.setdefault("latents", write_latents(folder, folder / "images"))
    asked = {"gan": "heads64", "out": folder / "run", "config": settings(), "spread": False}
    return prepare(Request(**asked | request), CPU)[0]


def make_forward(folder: Path, images: int = 4, **request: Any) -> store.Run:
    """A run that takes random networks as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"config": forward(), "networks": networks(folder), "latents": None}
    return make_run(folder, images, **given | request)


def do_all(run: store.Run) -> list[dict[str, Any]]:
    """Do all shards in this process; returns the rows of the results."""
    outcomes = [run_shard(run.path, plan.index, "cpu") for plan in run.plan]
    assert all(outcome.fatal is None for outcome in outcomes), outcomes
    return list(store.read_metrics(run).to_pylist())


def array(run: store.Run, name: str) -> Any:
    """One array of a run, of all images."""
    return store.read_rows(run.path, name, slice(0, run.plan.images))

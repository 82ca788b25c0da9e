"""A pipeline in miniature for tests of the jobs: the real one's signatures, none of its work.

Its numbers depend on the images, ids and seed alone, so that runs can be compared bit by bit.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from gan2shape.jobs.inputs.latents import load_latents
from gan2shape.jobs.run.engine import Engine
from gan2shape.pipeline.networks.trained import load_networks, networks_bytes
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

SIZE = 32
LATENT = 8
MORTAL = "GAN2SHAPE_TEST_MORTAL"
BAD = "collapse"
"""An image with this in its id fails in the stand-in's optimisation."""


@dataclass
class Gan:
    sha256: str
    generator: Any
    source: str = "gan.bin"

    def to(self, device: str) -> Gan:
        return self


def load_gan(path: str) -> Gan:
    from gan2shape.schemas.errors import UserError

    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        raise UserError(f"There is no weights file {path}.") from None
    return Gan(digest, SimpleNamespace(size=SIZE, style_dim=LATENT))


def invert(
    gan: Gan, images: torch.Tensor, config: Any, *, masks, lpips, seed, precision, on_progress
) -> SimpleNamespace:
    on_progress(1, 1)
    means = images.mean((1, 2, 3))
    latents = means[:, None] * torch.ones(LATENT)
    return SimpleNamespace(
        latents=latents, images=images, l1=means.abs(), failures=[None] * len(images)
    )


def reconstruct(
    targets: Any,
    gan: Gan,
    config: RunConfig,
    *,
    lpips,
    pretrained,
    state,
    on_progress,
    on_checkpoint,
) -> SimpleNamespace:
    """Adds up seeded noise over steps, so that a lost or repeated step shows in the result."""
    total = iterations_total(config, len(targets.ids), pretrained is not None)
    key = "\n".join([str(config.seed), *sorted(targets.ids)]).encode()
    base = int.from_bytes(hashlib.sha256(key).digest()[:4], "big")
    done = 0 if state is None else state["done"]
    relief = torch.zeros(len(targets.ids)) if state is None else state["relief"]
    while done < total:
        for _ in range(config.optimization.cycles[0].step1):
            done += 1
            noise = torch.Generator().manual_seed(base + done)
            relief = relief + torch.rand(1, generator=noise) * 1e-4
            on_progress("step 1", done, total)
            time.sleep(config.ellipsoid.extent)
        on_checkpoint({"done": done, "relief": relief})
    count = len(targets.ids)
    depth = (1 + relief)[:, None, None] + targets.images.mean(1) * 0.01
    return SimpleNamespace(
        depth=depth,
        albedo=targets.images,
        normal=torch.zeros(count, SIZE, SIZE, 3),
        mask=targets.masks,
        view=torch.zeros(count, 6),
        light=torch.zeros(count, 4),
        latent=torch.full((count, LATENT), torch.nan)
        if targets.latents is None
        else targets.latents,
        reconstruction=targets.images,
        failures=["its samples are all alike" if BAD in name else None for name in targets.ids],
        losses={"photometric": relief},
        seconds={"step1": 0.1},
    )


def iterations_total(config: RunConfig, images: int, pretrained: bool) -> int:
    return sum(cycle.step1 for cycle in config.optimization.cycles)


def measure(depth, view, true_depth, true_mask, config) -> dict[str, float]:
    error = (depth - true_depth).abs().mean()
    names = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
    return dict.fromkeys(names, float(error))


@lru_cache(maxsize=1)
def make_engine() -> Engine:
    return Engine(
        load_gan=load_gan,
        load_lpips=lambda path: None,
        load_networks=load_networks,
        load_latents=load_latents,
        invert=invert,
        targets=lambda ids, images, masks, latents: SimpleNamespace(
            ids=ids, images=images, masks=masks, latents=latents
        ),
        iterations_total=iterations_total,
        reconstruct=reconstruct,
        measure=measure,
    )


@lru_cache(maxsize=1)
def make_suicidal_engine() -> Engine:
    """An engine whose optimisation kills its process, every time."""
    return _changed(reconstruct=_die)


@lru_cache(maxsize=1)
def make_mortal_engine() -> Engine:
    """An engine that kills its process after a checkpoint of image 2, if the file that `MORTAL`
    names is not there yet.
    """
    return _changed(reconstruct=_die_once)


@lru_cache(maxsize=1)
def make_broken_engine() -> Engine:
    """An engine whose optimisation raises for the group that holds image 3."""
    return _changed(reconstruct=_raise)


def _changed(reconstruct: Callable[..., Any]) -> Engine:
    return replace(make_engine(), reconstruct=reconstruct)


def _die(targets: Any, *args: Any, **options: Any) -> Any:
    if "img3" in targets.ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return reconstruct(targets, *args, **options)


def _die_once(targets: Any, *args: Any, on_checkpoint: Any, **options: Any) -> Any:
    marker = Path(os.environ[MORTAL])

    def checkpoint(state: Any) -> None:
        on_checkpoint(state)
        if "img2" in targets.ids and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return reconstruct(targets, *args, on_checkpoint=checkpoint, **options)


def _raise(targets: Any, *args: Any, **options: Any) -> Any:
    if "img3" in targets.ids:
        raise RuntimeError("a bug in the pipeline")
    return reconstruct(targets, *args, **options)


def tiny_config(seconds: float = 0.0001, **overrides: Any) -> RunConfig:
    """Settings for the stand-in: 3 steps of 4 iterations of `seconds` each."""
    settings: dict[str, Any] = {
        "camera.size": SIZE,
        "ellipsoid.iterations": 0,
        "ellipsoid.extent": seconds,
        "optimization.cycles": [{"step1": 4, "step2": 0, "step3": 0}] * 3,
        "mask": "none",
        "group_size": 2,
        "shard_size": 2,
    }
    return load_settings("heads", "paper", overrides=settings | overrides)


def write_images(folder: Path, count: int, size: int = SIZE) -> Path:
    """`img0.png` and so on, of different brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.full((size, size, 3), 20 + 10 * i, dtype=np.uint8)
        pixels[4 : 6 + i, 4:20] = 200
        Image.fromarray(pixels).save(folder / f"img{i}.png")
    return folder


def write_weights(folder: Path) -> str:
    path = folder / "gan.bin"
    path.write_bytes(b"weights")
    return str(path)


def write_networks(folder: Path, **changes: Any) -> str:
    """A networks file for the weights that `write_weights` writes, or another with `changes`."""
    networks = tiny_networks(hashlib.sha256(b"weights").hexdigest(), LATENT, SIZE)
    path = folder / "networks.safetensors"
    path.write_bytes(networks_bytes(replace(networks, **changes)))
    return str(path)

"""One image of a shard, from its files to what the optimisation takes, and to its metrics row."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.inputs.images import ImageError, load_image, load_mask
from gan2shape.jobs.run import store
from gan2shape.jobs.run.engine import Engine
from gan2shape.jobs.run.plan import ShardPlan
from gan2shape.pipeline.scene.masks import background_mask
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import COMMITTED, FAILED
from gan2shape.schemas.settings import RunConfig


@dataclass(frozen=True)
class ShardImage:
    """One image on its way through the shard; `error` ends it."""

    position: int
    manifest: dict[str, Any]
    error: str | None = None
    note: str | None = None
    width: int | None = None
    height: int | None = None
    pixels: Tensor | None = None
    """(3, S, S) in [-1, 1]."""
    mask: Tensor | None = None
    """(S, S) in {0, 1}."""
    latent: Tensor | None = None
    """(D,)"""
    inversion_l1: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    """Depth metrics, by their columns in the results."""
    seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of the optimisation's steps."""

    @property
    def id(self) -> str:
        return str(self.manifest["image_id"])


def load_shard_image(row: dict[str, Any], position: int, config: RunConfig) -> ShardImage:
    """Read one image and its mask; a problem becomes the item's error."""
    start = time.perf_counter()
    size = config.camera.size
    item = ShardImage(position, row)
    try:
        image = load_image(row["uri"], size)
        mask = _mask(row, image.pixels, image.alpha, config)
    except ImageError as error:
        return replace(item, error=f"{row['uri']} {error}.")
    return replace(
        item,
        width=image.width,
        height=image.height,
        pixels=torch.from_numpy(image.pixels).permute(2, 0, 1).contiguous() * 2 - 1,
        mask=torch.from_numpy(mask.astype(np.float32)),
        seconds={"load": time.perf_counter() - start},
    )


def _mask(row: dict[str, Any], pixels: Any, alpha: Any, config: RunConfig) -> Any:
    if config.mask == "none":
        return np.ones(pixels.shape[:2], dtype=bool)
    if config.mask == "given" and row["mask_uri"]:
        try:
            mask = load_mask(row["mask_uri"], pixels.shape[0])
        except ImageError as error:
            raise ImageError(f"has a mask, {row['mask_uri']}, that {error}") from error
    elif alpha is not None:
        mask = alpha > 0.5
    elif config.mask == "given":
        raise ImageError("has no mask; give --masks, or use '--set mask=background' or 'mask=none'")
    else:
        mask = background_mask(pixels, config.background_threshold)
    if not mask.any():
        raise ImageError(f"shows no object: its mask ({config.mask}) is empty")
    return mask


def given_latents(
    items: list[ShardImage], plan: ShardPlan, run: store.Run, engine: Engine
) -> list[ShardImage]:
    """Fill in the latents that come with the images: the run's own copy, or a file per image."""
    size = run.record.latent_size
    shared = store.read_latents(run, plan)
    result = list(items)
    for item in items:
        uri = item.manifest["latent_uri"]
        if item.error is not None or uri is None:
            continue
        try:
            if shared is not None:
                latent = torch.from_numpy(shared[item.position])
            else:
                latent = engine.load_latents(uri, [item.id], size)[0].float()
        except (UserError, OSError) as error:
            result[item.position] = replace(item, error=f"The latent cannot be used: {error}")
        else:
            result[item.position] = replace(item, latent=latent)
    return result


def metrics_row(
    run: store.Run, plan: ShardPlan, item: ShardImage, device: torch.device
) -> dict[str, Any]:
    """The image's row in the results; columns that are not named here are null."""
    on_gpu = device.type == "cuda"
    return {
        "image_id": item.id,
        "row": plan.start + item.position,
        "shard": plan.index,
        "status": FAILED if item.error else COMMITTED,
        "error": item.error or item.note,
        "width": item.width,
        "height": item.height,
        "inversion_l1": item.inversion_l1,
        "losses": item.losses,
        "seconds_stages": item.stages,
        "peak_memory_mb": peak_memory_mb(),
        "peak_device_memory_mb": _device_memory_mb(device) if on_gpu else None,
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "config_hash": run.record.config_hash,
        **item.scores,
        **{f"seconds_{name}": value for name, value in item.seconds.items()},
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def _device_memory_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / (1 << 20)

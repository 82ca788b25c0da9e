"""One image on its way through a shard, from its input to its row in the results."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.images import ImageError
from gan2shape.jobs.inputs.input_image import InputImage
from gan2shape.jobs.inputs.latents import load_latents
from gan2shape.jobs.run import store
from gan2shape.jobs.run.plan import ShardPlan
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import COMMITTED, FAILED
from gan2shape.schemas.settings import CameraConfig

SCORES = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")


@dataclass(frozen=True)
class ShardImage:
    """An image and what has been found out about it; `error` ends its way."""

    position: int
    """Among the shard's images."""
    input: InputImage
    error: str | None = None
    note: str | None = None
    """A problem with its ground truth, which does no harm to its shape."""
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
        return self.input.id

    @property
    def manifest(self) -> dict[str, Any]:
        return self.input.manifest


def shard_image(position: int, image: InputImage) -> ShardImage:
    """An image that has just been read."""
    seconds = {} if image.error else {"load": image.seconds}
    return ShardImage(position, image, error=image.error, seconds=seconds)


def given_latents(items: list[ShardImage], plan: ShardPlan, run: store.Run) -> list[ShardImage]:
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
                latent = load_latents(uri, [item.id], size)[0].float()
        except (UserError, OSError) as error:
            result[item.position] = replace(item, error=f"The latent cannot be used: {error}")
        else:
            result[item.position] = replace(item, latent=latent)
    return result


def measured(item: ShardImage, depth: Tensor, view: Tensor, camera: CameraConfig) -> ShardImage:
    """The image with its scores against its ground truth, or a note where that is unusable.

    `depth` (S, S) is canonical, and `view` (6,) turns it to the view of the input.
    """
    start = time.perf_counter()
    try:
        true_depth, true_mask = map(torch.from_numpy, load_truth(item.manifest, camera))
    except ImageError as error:
        return replace(item, note=f"{item.manifest['truth_uri']} {error}.")
    pinhole = Camera.from_config(camera)
    with torch.no_grad():
        seen, covered = render_depth(depth[None], view[None], pinhole)
        found = depth_metrics(seen, covered, true_depth[None], true_mask[None], pinhole)
    scores = {name: float(getattr(found, name)[0]) for name in SCORES}
    seconds = item.seconds | {"metrics": time.perf_counter() - start}
    return replace(item, scores=scores, seconds=seconds)


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
        "width": item.input.width,
        "height": item.input.height,
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

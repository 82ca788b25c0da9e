"""The parts of the pipeline that a shard uses, in one place, so that tests can put in others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.schemas.settings import RunConfig


@dataclass(frozen=True)
class Engine:
    """Entry functions of the pipeline; their signatures are those of the defaults."""

    load_gan: Callable[..., Any]
    load_lpips: Callable[..., Any]
    load_networks: Callable[..., Any]
    load_latents: Callable[..., Tensor]
    invert: Callable[..., Any]
    targets: Callable[..., Any]
    iterations_total: Callable[[RunConfig, int, bool], int]
    reconstruct: Callable[..., Any]
    measure: Callable[[Tensor, Tensor, Tensor, Tensor, RunConfig], dict[str, float]]


@lru_cache(maxsize=1)
def default_engine() -> Engine:
    """The real pipeline."""
    from gan2shape.jobs.inputs.latents import load_latents
    from gan2shape.jobs.weights.lpips_file import load_lpips
    from gan2shape.jobs.weights.networks_file import load_networks
    from gan2shape.jobs.weights.stylegan2_file import load_gan
    from gan2shape.pipeline.perceptual.inversion import invert
    from gan2shape.pipeline.reconstruct import Targets, iterations_total, reconstruct

    return Engine(
        load_gan=load_gan,
        load_lpips=load_lpips,
        load_networks=load_networks,
        load_latents=load_latents,
        invert=invert,
        targets=Targets,
        iterations_total=iterations_total,
        reconstruct=reconstruct,
        measure=measure,
    )


def measure(
    depth: Tensor, view: Tensor, true_depth: Tensor, true_mask: Tensor, config: RunConfig
) -> dict[str, float]:
    """Depth metrics of one image as columns of the results.

    `depth` (S, S) is canonical, `view` (6,) turns it to the input's view; the truth is (S, S).
    """
    camera = Camera.from_config(config.camera)
    with torch.no_grad():
        seen, covered = render_depth(depth[None], view[None], camera)
        found = depth_metrics(seen, covered, true_depth[None], true_mask[None], camera)
    names = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
    return {name: float(getattr(found, name)[0]) for name in names}

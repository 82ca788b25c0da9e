"""Inputs alone, without the GAN: what finetuning does with many images, on those of a group.

Networks that know a category well get closer to a few of its objects in some tens of looks at each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan2shape.pipeline.baselines.finetune import SingleImages
from gan2shape.pipeline.baselines.training import Batch
from gan2shape.pipeline.group import AT_ONCE, Group
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.sampling import YAW
from gan2shape.pipeline.steps import OnIteration
from gan2shape.pipeline.updates import adam_of_shapes, countdown, update
from gan2shape.schemas.baseline_training import FinetuneConfig, single_image_settings
from gan2shape.schemas.config import RunConfig


def look_iterations(looks: int, images: int, config: RunConfig) -> int:
    """Iterations in which `images` are looked at `looks` times each."""
    return math.ceil(looks * images / min(config.optimization.batch, images))


def fit_inputs(group: Group, looks: int, on_iteration: OnIteration) -> None:
    """Fit depth, albedo, view and light to each input `looks` times by `SingleImages`' losses.

    A group is too small for the prior to say how far its yaws spread; they go on spreading as they
    are found at the start, and shapes stay as deep as they are then, on average: neither can be
    told from single inputs.
    """
    networks, targets, random = group.networks, group.targets, group.random
    seed = int(torch.randint(2**31, (), generator=random, device=random.device))
    yaw_std, typical = _at_the_start(group)
    objective = SingleImages(
        _settings(group, seed), group.perceptual, yaw_std=yaw_std, typical=typical
    )
    objective = objective.to(group.device)
    optimizer = adam_of_shapes(group)
    shown = 0
    for _ in countdown(group, optimizer, look_iterations(looks, len(targets.ids), group.config)):
        index = group.draw(min(group.config.optimization.batch, group.alive))
        mirror = torch.rand(len(index), generator=random, device=random.device) < 0.5
        batch = Batch(targets.images[index], masks=targets.masks[index]).mirrored(mirror)
        loss, _ = objective(networks, batch, shown)
        shown += len(index)
        on_iteration(update(group, optimizer, index, loss))


def _settings(group: Group, seed: int) -> FinetuneConfig:
    config = group.config
    own = {"camera": config.camera, "networks": config.networks, "precision": config.precision}
    return FinetuneConfig.model_validate(single_image_settings(config) | own | {"seed": seed})


@torch.no_grad()
def _at_the_start(group: Group) -> tuple[float, Tensor]:
    """What is found in the inputs: yaws' spread about the prior's mean, and mean depth (S, S)."""
    images = group.targets.images[group.active()]
    with autocast(group.device, group.config.precision):
        depths, views = (
            torch.cat([network(part) for part in images.split(AT_ONCE)])
            for network in (group.networks.depth, group.networks.view)
        )
    variance = (views[:, YAW] - group.config.view_prior.mean[YAW]).square().mean()
    return float(variance.sqrt()), depths.mean(0)

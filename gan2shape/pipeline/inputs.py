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
    are found at the start, and with them the relief stays as deep as it is.
    """
    networks, targets, random = group.networks, group.targets, group.random
    seed = int(torch.randint(2**31, (), generator=random, device=random.device))
    objective = SingleImages(_settings(group, seed), group.perceptual, yaw_std=_yaw_std(group))
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
def _yaw_std(group: Group) -> float:
    """Spread about the prior's mean of the yaws that are found in the inputs."""
    with autocast(group.device, group.config.precision):
        views = [group.networks.view(part) for part in group.targets.images.split(AT_ONCE)]
    yaw = torch.cat(views)[group.active(), YAW]
    variance: Tensor = (yaw - group.config.view_prior.mean[YAW]).square().mean()
    return float(variance.sqrt())

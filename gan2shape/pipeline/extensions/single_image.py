"""Inputs alone, without the GAN: what finetuning does with many images, on those of a group.

Networks that know a category well get closer to a few of its objects in some tens of looks at each.
Where they had teachers these look likewise. In the end the shapes learn the mean of what all of
them see in the inputs and in their mirror images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.method.group import AT_ONCE, Group
from gan2shape.pipeline.method.optimizer import adam, adam_of_shapes, countdown, update
from gan2shape.pipeline.method.sampling import YAW
from gan2shape.pipeline.method.steps import OnIteration
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.pipeline.training.finetune import SingleImages
from gan2shape.pipeline.training.trainer import Batch
from gan2shape.schemas.network_training import FinetuneConfig, single_image_settings
from gan2shape.schemas.settings import RunConfig

CONSENSUS_PASSES = 60
"""Looks at each input in which its mean shape is learnt."""


def single_image_iterations(looks: int, images: int, config: RunConfig, teachers: int = 0) -> int:
    """Iterations in which networks and teachers look at `images` `looks` times each, and agree."""
    agreeing = _iterations(CONSENSUS_PASSES, images, config) if looks else 0
    return (1 + teachers) * _iterations(looks, images, config) + agreeing


def fit_single_images(group: Group, looks: int, relief: float, on_iteration: OnIteration) -> None:
    """Fit depth, albedo, view and light to each input `looks` times by `SingleImages`' losses, then
    depth to the mean of what networks and teachers come to.

    A group is too small for the prior to say how far its yaws spread; they go on spreading as they
    are found at the start, and shapes become `relief` times as deep as they are then, on average:
    neither can be told from single inputs.
    """
    _look(group, looks, relief, on_iteration)
    opinions = [group.networks]
    for teacher in group.teachers:
        asked = replace(group, networks=teacher.shape_networks().to(group.device))
        _look(asked, looks, relief, on_iteration)
        opinions.append(asked.networks)
    _agree(group, opinions, on_iteration)


def _iterations(looks: int, images: int, config: RunConfig) -> int:
    return math.ceil(looks * images / min(config.optimization.batch, images))


def _look(group: Group, looks: int, relief: float, on_iteration: OnIteration) -> None:
    """Looks at the inputs by the group's networks."""
    networks, targets, random = group.networks, group.targets, group.random
    seed = int(torch.randint(2**31, (), generator=random, device=random.device))
    yaw_std, found = _at_the_start(group)
    objective = SingleImages(
        _settings(group, seed), group.perceptual, yaw_std=yaw_std, typical=relief * found
    )
    objective = objective.to(group.device)
    optimizer = adam_of_shapes(group)
    shown = 0
    for _ in countdown(group, optimizer, _iterations(looks, len(targets.ids), group.config)):
        index = group.draw(min(group.config.optimization.batch, group.alive))
        mirror = torch.rand(len(index), generator=random, device=random.device) < 0.5
        batch = Batch(targets.images[index], masks=targets.masks[index]).mirrored(mirror)
        loss, _ = objective(networks, batch, shown)
        shown += len(index)
        on_iteration(update(group, optimizer, index, loss))


def _agree(group: Group, opinions: list[ShapeNetworks], on_iteration: OnIteration) -> None:
    """Fit depth, as it is seen in the inputs, to the mean of the opinions."""
    images, masks, config = group.targets.images, group.targets.masks, group.config
    means = [
        consensus_depth(opinions, *part, config.precision, config.renderer, mirrored=True)
        for part in zip(images.split(AT_ONCE), masks.split(AT_ONCE), strict=True)
    ]
    mean, view = torch.cat(means), _found(group, group.networks.view, images)
    optimizer = adam(group, depth=group.networks.depth_net)
    for _ in countdown(group, optimizer, _iterations(CONSENSUS_PASSES, len(images), config)):
        index = group.draw(min(config.optimization.batch, group.alive))
        with autocast(group.device, config.precision):
            depth = group.networks.depth(images[index])
        seen, _ = render_depth(depth, view[index], group.camera, config.renderer)
        loss, _ = consensus_error(seen, mean[index], group.camera)
        on_iteration(update(group, optimizer, index, loss))


def _settings(group: Group, seed: int) -> FinetuneConfig:
    config = group.config
    own = {"camera": config.camera, "networks": config.networks, "precision": config.precision}
    return FinetuneConfig.model_validate(single_image_settings(config) | own | {"seed": seed})


def _at_the_start(group: Group) -> tuple[float, Tensor]:
    """What is found in the inputs: yaws' spread about the prior's mean, and mean depth (S, S)."""
    images, networks = group.targets.images[group.active()], group.networks
    yaw = _found(group, networks.view, images)[:, YAW]
    variance = (yaw - group.config.view_prior.mean[YAW]).square().mean()
    return float(variance.sqrt()), _found(group, networks.depth, images).mean(0)


@torch.no_grad()
def _found(group: Group, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a network of the group finds in images (B, 3, S, S), (B, ...)."""
    with autocast(group.device, group.config.precision):
        return torch.cat([network(part) for part in images.split(AT_ONCE)])

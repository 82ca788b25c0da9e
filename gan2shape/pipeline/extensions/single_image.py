"""Fitting to each input alone, without the GAN (setting `single_image_passes` of a cycle).

It is what finetuning does with many images, on those of a group. Networks that know a category well
come closer to a few of its objects in some tens of passes over each. Teachers that they have had
are fitted too. In the end the shapes learn the mean of what all of them see in the inputs and in
their mirror images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.extensions.single_image_losses import SingleImages
from gan2shape.pipeline.method.group import AT_ONCE, Group
from gan2shape.pipeline.method.optimizer import adam, adam_of_shapes, countdown, update
from gan2shape.pipeline.method.steps import OnIteration, draw_inputs
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import YAW
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.pipeline.scene.shape import mirrored_where
from gan2shape.schemas.network_training import FinetuneConfig, single_image_settings
from gan2shape.schemas.settings import RunConfig

CONSENSUS_PASSES = 60
"""Passes over the inputs in which their mean shapes are learnt: the depth network then shows more
than half of what it has to change."""


def single_image_iterations(passes: int, images: int, config: RunConfig, teachers: int = 0) -> int:
    """Iterations of `passes` over `images` for networks and teachers, and of their consensus."""
    agreeing = _iterations(CONSENSUS_PASSES, images, config) if passes else 0
    return (1 + teachers) * _iterations(passes, images, config) + agreeing


def fit_single_images(
    group: Group,
    on_iteration: OnIteration,
    *,
    passes: int,
    relief: float,
    teachers: Sequence[TrainedNetworks] = (),
) -> None:
    """Fit all networks to each input by `SingleImages`, then depth to the consensus.

    A group is too small for the prior to say how far its yaws spread, and single inputs do not tell
    it, nor how deep shapes are. So yaws go on spreading as they are found at the start, and shapes
    become `relief` times as deep as they are then, on average.

    Args:
        passes: how often each input is shown to the networks and to the teachers.
        relief: how deep shapes become over how deep they are at the start.
        teachers: networks that are fitted too and take part in the consensus.
    """
    _fit(group, passes, relief, on_iteration)
    fitted = [group.networks]
    for teacher in teachers:
        other = replace(group, networks=teacher.shape_networks().to(group.device))
        _fit(other, passes, relief, on_iteration)
        fitted.append(other.networks)
    _agree(group, fitted, on_iteration)


def _iterations(passes: int, images: int, config: RunConfig) -> int:
    return math.ceil(passes * images / min(config.optimization.batch, images))


def _fit(group: Group, passes: int, relief: float, on_iteration: OnIteration) -> None:
    """Fit the group's networks to the inputs."""
    networks, targets, random = group.networks, group.targets, group.random
    seed = int(torch.randint(2**31, (), generator=random, device=random.device))
    yaw_std, found = _at_the_start(group)
    objective = SingleImages(
        _settings(group, seed), group.perceptual, yaw_std=yaw_std, typical=relief * found
    )
    objective = objective.to(group.device)
    optimizer = adam_of_shapes(group)
    shown = 0
    for _ in countdown(group, optimizer, _iterations(passes, len(targets.ids), group.config)):
        index = draw_inputs(group)
        mirror = torch.rand(len(index), generator=random, device=random.device) < 0.5
        images, masks = (
            mirrored_where(maps[index], mirror) for maps in (targets.images, targets.masks)
        )
        loss, _, correction = objective(networks, images, masks, shown)
        objective.advance(correction)
        shown += len(index)
        on_iteration(update(group, optimizer, index, loss))


def _agree(group: Group, networks: list[ShapeNetworks], on_iteration: OnIteration) -> None:
    """Fit depth, as it is seen in the inputs, to the mean of the networks' shapes."""
    images, masks, config = group.targets.images, group.targets.masks, group.config
    means = [
        consensus_depth(networks, *part, config.precision, config.renderer, mirrored=True)
        for part in zip(images.split(AT_ONCE), masks.split(AT_ONCE), strict=True)
    ]
    mean, view = torch.cat(means), _found(group, group.networks.view, images)
    optimizer = adam(group, depth=group.networks.depth_net)
    for _ in countdown(group, optimizer, _iterations(CONSENSUS_PASSES, len(images), config)):
        index = draw_inputs(group)
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

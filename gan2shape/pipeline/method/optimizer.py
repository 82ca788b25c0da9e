"""Optimiser steps of a group: of some of its networks, on losses of some of its images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gan2shape.pipeline.method.group import Group

_GO, _SKIP, _DONE = 0, 1, 2  # what an iteration comes to; the worst of all processes counts


class AllFailedError(Exception):
    """No image of the group is left to go on with."""


def update(group: Group, optimizer: torch.optim.Optimizer, index: Tensor, loss: Tensor) -> Tensor:
    """Do one optimiser step on the mean of losses (B,) of inputs `index` (B,), and return the mean.

    A loss that is not finite ends its image. The step is then left out, by all processes alike:
    gradients would carry the damage to the other images of the group. Raises `AllFailedError` when
    no image is left.
    """
    bad = index[~torch.isfinite(loss)].tolist()
    for image in bad:
        group.fail(image, "its loss is not finite")
    verdict = _DONE if not group.alive else _SKIP if bad else _GO
    verdict = group.process_group.worst(verdict, group.device)
    if verdict == _DONE:
        raise AllFailedError
    mean = loss.mean()
    if verdict == _GO:
        optimizer.zero_grad(set_to_none=True)
        mean.backward()
        group.process_group.average(p for part in optimizer.param_groups for p in part["params"])
        optimizer.step()
    return mean.detach()


def adam(group: Group, **networks: nn.Module) -> torch.optim.Adam:
    """Adam over networks by their names in `LearningRates`, each with its own rate."""
    options = group.config.optimization
    return torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": getattr(options.learning_rates, name)}
            for name, network in networks.items()
        ],
        betas=options.betas,
        weight_decay=options.weight_decay,
        fused=True,
    )


def adam_of_shapes(group: Group) -> torch.optim.Adam:
    """Adam over the networks of depth, albedo, view and light."""
    networks = group.networks
    return adam(
        group,
        depth=networks.depth_net,
        albedo=networks.albedo_net,
        view=networks.view_net,
        light=networks.light_net,
    )


def countdown(group: Group, optimizer: torch.optim.Optimizer, count: int) -> Iterator[int]:
    """Yield 0 to count - 1, and set the learning rates of each iteration as the variant says."""
    rates = [float(part["lr"]) for part in optimizer.param_groups]
    for iteration in range(count):
        share = group.variant.learning_rate(iteration, count)
        for part, rate in zip(optimizer.param_groups, rates, strict=True):
            part["lr"] = rate * share
        yield iteration

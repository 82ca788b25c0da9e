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
    """One optimiser step on the mean of per-image losses (B,), which is returned.

    A loss that is not finite ends its image; the step is left out, since gradients would carry
    the damage to the other images of the group, and by all processes alike.
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
    """Adam over the networks named as in `LearningRates`, each with its own rate."""
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
    """0 to count - 1, with the learning rates falling to zero over the last `decay` of them."""
    rates = [float(part["lr"]) for part in optimizer.param_groups]
    ramp = group.config.optimization.decay * count
    for iteration in range(count):
        share = min(1.0, (count - iteration) / ramp) if ramp else 1.0
        for part, rate in zip(optimizer.param_groups, rates, strict=True):
            part["lr"] = rate * share
        yield iteration

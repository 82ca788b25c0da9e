"""How far projected samples are really turned (setting `turn_calibration_iterations`).

The GAN follows a rendering's yaw by most of it, its pitch by half, its roll hardly at all. Taken
for turned as far as was asked about every axis, samples would teach the view network turns that
they do not show.

As a rule only the axes are held against each other: how far a turn moves things depends on the
relief, and a relief that is wrong would confirm itself. Symmetry puts it right. Without symmetry
nothing does, and samples that count as turned further than they are make shapes as much too
shallow; where the relief is about right already the yaw can count as far as it is followed, too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan2shape.pipeline.method.estimate import Estimate
from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.method.optimizer import adam, countdown, update
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import YAW

BATCH = 32
"""Renderings in an iteration."""
RENDERINGS = 8
"""Renderings of every image that the taught network is tried on."""
LEAST = 0.1
"""Share of a turn that the network is taken to see in renderings, even if it sees less."""


@dataclass(frozen=True)
class Response:
    """How predictions (.., D) follow known changes (.., D) of what they are about.

    gain: (D,) predicted change for a change of 1.
    noise: (D,) standard deviation of what is predicted besides.
    """

    gain: Tensor
    noise: Tensor


def response(changes: Tensor, predictions: Tensor) -> Response:
    """Measure how predicted changes (K, D) follow known ones (K, D); gain 0 where none changes."""
    power = changes.square().sum(0)
    gain = (changes * predictions).sum(0) / power.clamp_min(torch.finfo(power.dtype).tiny)
    return Response(gain, (predictions - gain * changes).square().mean(0).sqrt())


def calibrate_turns(group: Group, iterations: int) -> None:
    """Scale the turns of the group's projected samples, axis by axis, to what the samples show.

    A copy of the view network learns the known views of renderings in `iterations` steps. Its
    response to turns of samples over that to turns of renderings tells how far the samples follow.
    An axis keeps what it follows in comparison with the yaw, and the yaw's turns stay; with
    `calibrate_yaw` every axis keeps what it follows.
    """
    samples = group.projected
    if group.process_group.worst(int(not group.alive), group.device):
        return
    estimate = Estimate(group)
    network = _taught(group, estimate, iterations)
    active = group.active()
    turns, seen, asked, found = [], [], [], []
    with torch.no_grad():
        for image in active.tolist():
            index = torch.full((RENDERINGS,), image, device=group.device)
            pseudo, views = estimate.pseudo_samples(index)
            turns.append(_centred(samples.turns[image]))
            seen.append(_centred(_views(group, network, samples.images[image].float())))
            asked.append(_centred(views))
            found.append(_centred(_views(group, network, pseudo.image)))
    followed = response(torch.cat(turns), torch.cat(seen)).gain
    visible = response(torch.cat(asked), torch.cat(found)).gain
    share = (followed / visible.clamp_min(LEAST)).clamp_min(0)
    if not group.config.optimization.calibrate_yaw:
        share = share / share[YAW].clamp_min(LEAST)
        share[YAW] = 1
    samples.turns.mul_(share.clamp_max(1))


def _taught(group: Group, estimate: Estimate, iterations: int) -> nn.Module:
    """A copy of the group's view network that knows renderings."""
    network = copy.deepcopy(group.networks.view_net)
    std = torch.tensor(group.config.view_prior.std, device=group.device)
    moves = std > 0
    optimizer = adam(group, view=network)
    for _ in countdown(group, optimizer, iterations):
        index = group.draw(BATCH)
        pseudo, views = estimate.pseudo_samples(index)
        error = (_views(group, network, pseudo.image) - views)[:, moves] / std[moves]
        update(group, optimizer, index, error.square().mean(1))
    return network


def _views(group: Group, network: nn.Module, images: Tensor) -> Tensor:
    with autocast(group.device, group.config.precision):
        return (network(images) * group.networks.view_scale).float()


def _centred(values: Tensor) -> Tensor:
    """Without their mean: what an image's own view is off by is the same for all that it became."""
    return values - values.mean(0)

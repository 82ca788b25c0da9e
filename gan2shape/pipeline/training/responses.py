"""Renderings of the shapes as they stand, whose views and lights are known.

They teach the view network turns before the GAN's projected samples can be trusted, and they tell
how much of a turn or of another light the networks see.
"""

from __future__ import annotations

import torch

from gan2shape.pipeline.extensions.turn_calibration import Response, response
from gan2shape.pipeline.method.estimate import Estimate, render
from gan2shape.pipeline.method.group import Group, ProjectedSamples
from gan2shape.pipeline.method.sampling import light_spread
from gan2shape.pipeline.precision import autocast

BATCH = 32
"""Images rendered at once."""
COPIES = 4
"""Renderings of every image that a response is measured on."""
SHARE = 0.5
"""Spread of their changes over the prior's: turned images stay within what networks have seen."""


@torch.no_grad()
def rendered_samples(group: Group) -> ProjectedSamples:
    """Samples as `collect_samples` makes them, but of the renderings in place of the GAN's images.

    Images that have failed have none (zeros).
    """
    estimate = Estimate(group)
    count, size = len(group.failures), group.camera.size
    copies = group.config.optimization.projected_samples
    shape = (count, copies)
    images = torch.zeros(*shape, 3, size, size, dtype=torch.float16, device=group.device)
    masks = torch.zeros(*shape, size, size, device=group.device)
    turns = torch.zeros(*shape, 6, device=group.device)
    for index in group.active().split(BATCH):
        for copy in range(copies):
            pseudo, views = estimate.pseudo_samples(index)
            images[index, copy] = pseudo.image.clamp(-1, 1).half()
            masks[index, copy] = pseudo.mask
            turns[index, copy] = views - estimate.view[index]
    return ProjectedSamples(images, masks, turns)


@torch.no_grad()
def responses(group: Group) -> tuple[Response, Response]:
    """How the view and the light network respond to turns and to changed lights of renderings."""
    estimate, networks = Estimate(group), group.networks
    view_spread = SHARE * torch.tensor(group.config.view_prior.std, device=group.device)
    spread = SHARE * light_spread(group.config.light_prior).to(group.device)
    turns, seen_turns, changes, seen_changes = [], [], [], []
    for index in group.active().split(BATCH):
        shapes, view, light = estimate.shapes[index], estimate.view[index], estimate.light[index]
        plain = render(group, shapes, view, light).image
        for _ in range(COPIES):
            turn, change = (
                std * torch.randn(len(index), len(std), generator=group.random, device=group.device)
                for std in (view_spread, spread)
            )
            turned = render(group, shapes, view + turn, light).image
            relit = render(group, shapes, view, light + change).image
            with autocast(group.device, group.config.precision):
                seen_turns.append(networks.view(turned) - networks.view(plain))
                seen_changes.append(networks.light(relit) - networks.light(plain))
            turns.append(turn)
            changes.append(change)
    return (
        response(torch.cat(turns), torch.cat(seen_turns)),
        response(torch.cat(changes), torch.cat(seen_changes)),
    )

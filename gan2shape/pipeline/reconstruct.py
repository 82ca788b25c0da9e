"""GAN2Shape for one group of images: from inputs to shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.method import steps
from gan2shape.pipeline.method.group import Group, Targets, new_group
from gan2shape.pipeline.method.schedule import (
    OnProgress,
    iterations_total,
    make_schedule,
    run_schedule,
)
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.settings import RunConfig

__all__ = ["Shapes", "Targets", "iterations_total", "reconstruct", "shapes_of"]


@dataclass(frozen=True)
class Shapes:
    """What was found for N images; NaN where an image failed.

    depth: (N, S, S) canonical depth in scene units.
    albedo: (N, 3, S, S) canonical albedo in [-1, 1].
    normal: (N, S, S, 3) unit normals of the canonical depth.
    mask: (N, S, S) 1 where the shape covers the object in the input's view.
    view: (N, 6) rotations in radians, translations in scene units.
    light: (N, 4) ambient, diffuse, direction x and y, in [-1, 1].
    latent: (N, D) the latents that came in, NaN where none did.
    reconstruction: (N, 3, S, S) the input as rendered from the above.
    failures: N reasons, None where all went well.
    losses: name to (N,) values of the final reconstruction.
    seconds: name of a step to wall time for the whole group.
    """

    depth: Tensor
    albedo: Tensor
    normal: Tensor
    mask: Tensor
    view: Tensor
    light: Tensor
    latent: Tensor
    reconstruction: Tensor
    failures: list[str | None]
    losses: dict[str, Tensor]
    seconds: dict[str, float]


def reconstruct(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    *,
    lpips: PerceptualLoss | None = None,
    pretrained: TrainedNetworks | None = None,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: Callable[[dict[str, Any]], None] | None = None,
) -> Shapes:
    """Find the shapes of a group of images that share their networks.

    Args:
        targets: the images, their masks and latents.
        gan: frozen generator and discriminator of the images' category.
        config: the run's settings.
        lpips: perceptual loss for steps 1 and 3 in place of the discriminator's features.
        pretrained: networks to start from, in place of the ellipsoid and random ones. Without
            cycles in the settings the shapes are what these networks make of the images.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called with (step's name, iterations done, iterations in all).
        on_checkpoint: called after every step with a state that `torch.save` takes.
    Raises:
        UserError: the images, latents, settings, networks and GAN do not fit each other.
    """
    group = new_group(targets, gan, config, lpips, pretrained)
    clock = run_schedule(
        group,
        make_schedule(config, pretrained is not None),
        iterations_total(config, len(targets.ids), pretrained is not None, len(group.teachers)),
        state=state,
        on_progress=on_progress,
        on_checkpoint=on_checkpoint,
    )
    return shapes_of(group, clock)


@torch.no_grad()
def shapes_of(group: Group, clock: dict[str, float]) -> Shapes:
    """Read the shapes off the group's networks and render every input once more."""
    targets, estimate = group.targets, steps.Estimate(group)
    shapes, view, light = estimate.shapes, estimate.view, estimate.light
    seen = [steps.render(group, shapes[part], view[part], light[part]) for part in estimate.parts]
    image = torch.cat([part.image for part in seen])
    covered = torch.cat([part.mask for part in seen])
    masks = group.loss_masks(torch.arange(len(view), device=group.device)) * covered
    with autocast(group.device, group.config.precision):
        distances = [
            group.perceptual(image[part], targets.images[part], masks[part])
            for part in estimate.parts
        ]
    perceptual = torch.cat(distances).float()
    latents = targets.latents
    if latents is None:
        size = (len(view), group.gan.generator.style_dim)
        latents = torch.full(size, float("nan"), device=group.device)
    found = Shapes(
        depth=shapes.depth,
        albedo=shapes.albedo,
        normal=shapes.normals,
        mask=covered * targets.masks,
        view=view,
        light=light,
        latent=latents.clone(),
        reconstruction=image.clamp(-1, 1),
        failures=list(group.failures),
        losses={
            "photometric": masked_l1(image, targets.images, masks),
            "perceptual": perceptual,
        },
        seconds=clock,
    )
    for index, reason in enumerate(found.failures):
        if reason is not None:
            for value in (*vars(found).values(), *found.losses.values()):
                if isinstance(value, Tensor):
                    value[index] = float("nan")
    return found

"""What networks make of images together, and of the images' mirror images.

Networks of one origin are wrong in the same places, those of another origin in others, and one
network elsewhere in an image than in its mirror image. The mean is less wrong than each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.perceptual.losses import depth_errors, masked_mean
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import Backend, render_depth

DEPTH_WEIGHT = 80.0
"""Weight of errors of depth in scene units, where those of normals in radians have 1: the object is
about 0.1 deep, which makes both errors about as large."""
TINY = 1e-8
"""Least spread of depth in scene units that is divided by: a plane has none."""


@torch.no_grad()
def consensus_depth(
    networks: Sequence[ShapeNetworks],
    images: Tensor,
    masks: Tensor,
    precision: str,
    renderer: Backend = "auto",
    *,
    mirrored: bool = False,
) -> Tensor:
    """Mean depth (B, S, S) in scene units of the shapes that several networks see in images.

    It is as far away as the first network's. What the networks do not agree on averages out and
    leaves a flatter shape, so the mean is made as deep as their shapes are on average.

    Args:
        images: (B, 3, S, S) in [-1, 1].
        masks: (B, S, S). The depth is NaN outside of them, and where one of the shapes has none.
        precision: of the networks, as in the settings.
        mirrored: take the mean with what the networks see in the mirror images too.
    """
    depths, inside = [], masks > 0
    for network in networks:
        for flipped in (False, True) if mirrored else (False,):
            shown = images.flip(-1) if flipped else images
            with autocast(images.device, precision):
                depth, view = network.depth(shown), network.view(shown)
            depth, seen = render_depth(depth, view, network.camera, renderer)
            depths.append(depth.flip(-1) if flipped else depth)
            inside = inside & ((seen.flip(-1) if flipped else seen) > 0)
    far = torch.stack(depths)  # (networks or twice as many, B, S, S)
    level = masked_mean(far, inside)[..., None, None]
    centred = far - level
    mean = centred.mean(0)
    relief = masked_mean(centred.square(), inside).sqrt().mean(0)
    deeper = relief / masked_mean(mean.square(), inside).sqrt().clamp(min=TINY)
    return torch.where(inside, level[0] + deeper[:, None, None] * mean, torch.nan)


def consensus_error(seen: Tensor, mean: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """How far depths (B, S, S), as seen in images, are from their `consensus_depth`.

    Returns weighted errors (B,) of depth and normals, and those of normals alone in radians.
    """
    far, apart = depth_errors(seen, mean, camera)
    return DEPTH_WEIGHT * far + apart, apart

"""What networks make of images together, and of the images' mirror images.

Networks of one origin are wrong in the same places, those of another origin in others, and one
network elsewhere in an image than in its mirror image. The mean is less wrong than each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.perceptual.losses import masked_mean
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import Backend, render_depth
from gan2shape.pipeline.training.supervised import depth_errors

DEPTH_WEIGHT = 80.0
"""On errors of depth in scene units against the mean, where those of normals in radians have 1."""
TINY = 1e-8


@torch.no_grad()
def consensus_depth(
    opinions: Sequence[ShapeNetworks],
    images: Tensor,
    masks: Tensor,
    precision: str,
    renderer: Backend = "auto",
    *,
    mirrored: bool = False,
) -> Tensor:
    """Mean depth (B, S, S) of the networks' shapes in images (B, 3, S, S), as far away as the
    first's, NaN outside of masks (B, S, S) and where one of them has none.

    What they do not agree on averages out and leaves a flatter shape, so it is made as deep as
    theirs are on average. With `mirrored` it is the mean of what they see in the mirror images too.
    """
    depths, inside = [], masks > 0
    for networks in opinions:
        for flipped in (False, True) if mirrored else (False,):
            shown = images.flip(-1) if flipped else images
            with autocast(images.device, precision):
                depth, view = networks.depth(shown), networks.view(shown)
            depth, seen = render_depth(depth, view, networks.camera, renderer)
            depths.append(depth.flip(-1) if flipped else depth)
            inside = inside & ((seen.flip(-1) if flipped else seen) > 0)
    far = torch.stack(depths)  # (opinions, B, S, S)
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

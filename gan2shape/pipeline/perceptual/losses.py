"""Losses per target, so that one image's trouble can be told from the others'."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape.pipeline.networks.shape_networks import BORDER_COLUMNS
from gan2shape.pipeline.perceptual.feature_distance import feature_distance, weighted_l1
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import erode
from gan2shape.pipeline.stylegan2.discriminator import Discriminator

TINY = 1e-8
"""Under the root of a squared distance, whose slope is infinite at zero."""

PerceptualLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, 3, S, S), targets (B, 3, S, S), masks (B, S, S)) to distances (B,)."""


def masked_l1(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute difference over the masked pixels of every image.

    Args:
        images, targets: (B, C, H, W).
        masks: (B, H, W) weights in [0, 1].
    Returns:
        (B,); 0 where a mask is empty.
    """
    return weighted_l1(images, targets, masks[:, None])


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean (..., B) of values (..., B, H, W) by weights (B, H, W); 0 where there are none."""
    return (values * weights).sum((-2, -1)) / weights.sum((-2, -1)).clamp(min=1e-6)


def relative_relief(depth: Tensor, other: Tensor, masks: Tensor) -> Tensor:
    """How deep depth is (B,) beside another one: the slope of the one over the other, all (B, S,
    S), inside masks.
    """
    depth, other = (
        (values - masked_mean(values, masks)[:, None, None]) * masks for values in (depth, other)
    )
    return (other * depth).sum((1, 2)) / other.square().sum((1, 2)).clamp(min=1e-8)


def discriminator_distance(discriminator: Discriminator, blocks: int) -> PerceptualLoss:
    """Masked L1 between features of the discriminator's first blocks, summed (section 3.2)."""

    def distance(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = discriminator.features(targets, blocks)
        found = discriminator.features(images, blocks)
        return feature_distance(found, wanted, masks)

    return distance


def depth_errors(depth: Tensor, truth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Mean absolute error of depth, and mean distance of unit normals: (B,) each.

    Args:
        depth: (B, S, S) in scene units.
        truth: (B, S, S), NaN outside the object.
    Returns:
        The first in scene units, after the mean error over the object is taken out: the network
        knows no absolute distance (its raw output loses its mean), and SIDE asks for none. The
        second is nearly the mean angle in radians. Both over the object without the columns at the
        sides, where networks' depth is fixed, normals also without the object's outermost pixels;
        0 where nothing is left.
    """
    inside = torch.isfinite(truth)
    inside[:, :, :BORDER_COLUMNS] = False
    inside[:, :, -BORDER_COLUMNS:] = False
    error = torch.where(inside, depth - truth, 0.0)
    offset = error.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    far = _mean((error - offset[:, None, None]).abs(), inside)
    filled = torch.where(torch.isfinite(truth), truth, camera.max_depth)
    gap = normals_from_depth(depth, camera) - normals_from_depth(filled, camera)
    return far, _mean((gap.square().sum(-1) + TINY).sqrt(), erode(inside))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean (B,) of values (B, S, S) over the pixels that are true in `where`; 0 without any."""
    return torch.where(where, values, 0.0).sum((1, 2)) / where.sum((1, 2)).clamp(min=1)

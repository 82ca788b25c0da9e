"""Losses per target, so that one image's trouble can be told from the others'."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.perceptual.feature_distance import feature_distance, weighted_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.discriminator import Discriminator

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


def share_of_distance(
    distance: PerceptualLoss,
    share: float,
    images: Tensor,
    targets: Tensor,
    masks: Tensor,
    random: Generator,
    precision: str,
) -> Tensor:
    """Distances (B,) of a random share of the images, which stands for all: 0 for the others.

    Features cost more than everything else of a step together. The arguments are those of the
    distance, the share in (0, 1], what draws it, and the features' precision.
    """
    if share == 1:
        with autocast(images.device, precision):
            return distance(images, targets, masks)
    order = torch.randperm(len(images), generator=random, device=random.device)
    part = order[: max(round(share * len(images)), 1)]
    with autocast(images.device, precision):
        found = distance(images[part], targets[part], masks[part])
    return images.new_zeros(len(images)).index_add(0, part, found * len(images) / len(part))

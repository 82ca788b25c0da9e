"""Losses per target, so that one image's trouble can be told from the others'."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.distance import feature_distance, weighted_l1

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


def discriminator_distance(discriminator: Discriminator, blocks: int) -> PerceptualLoss:
    """Masked L1 between features of the discriminator's first blocks, summed (section 3.2)."""

    def distance(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = discriminator.features(targets, blocks)
        found = discriminator.features(images, blocks)
        return feature_distance(found, wanted, masks)

    return distance

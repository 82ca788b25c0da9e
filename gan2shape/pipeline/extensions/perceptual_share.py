"""Perceptual distances of some targets, for all (setting `perceptual_share`).

Features cost more than everything else of an iteration together.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.perceptual.losses import PerceptualLoss


def distances_of_share(
    distance: PerceptualLoss,
    images: Tensor,
    targets: Tensor,
    masks: Tensor,
    random: Generator,
    share: float,
) -> Tensor:
    """Distances (B,) of a random share (0 to 1) of the images, and 0 for the others.

    Those that are compared weigh so much more that the mean stays the same on average.

    Args:
        distance: of images (B, 3, S, S) from targets under masks (B, S, S), (B,).
    """
    if share == 1:
        return distance(images, targets, masks)
    order = torch.randperm(len(images), generator=random, device=random.device)
    part = order[: max(round(share * len(images)), 1)]
    found = distance(images[part], targets[part], masks[part])
    return images.new_zeros(len(images)).index_add(0, part, found * len(images) / len(part))

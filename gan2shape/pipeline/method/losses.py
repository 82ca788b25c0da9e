"""The reconstruction loss of steps 1 and 3 (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.pipeline.method.estimate import render
from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.perceptual.losses import masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.shape import Shape


@dataclass(frozen=True)
class Fit:
    """One iteration of step 3, as terms of its loss see it.

    index: (B,) which inputs.
    turns: (B, P, 6) how far each of their P projected samples is turned from the input.
    shapes: the B shapes found in the inputs.
    view, light: (B, 6) and (B, 4) found in the inputs.
    views: (B, 1 + P, 6) found in every input, and then in its samples.
    """

    group: Group
    index: Tensor
    turns: Tensor
    shapes: Shape
    view: Tensor
    light: Tensor
    views: Tensor


Terms = Sequence[tuple[float, Callable[[Fit], Tensor]]]
"""Weights and terms (B,) that are added to the loss of step 3."""


def reconstruction_loss(
    group: Group,
    shapes: Shape,
    view: Tensor,
    light: Tensor,
    targets: Tensor,
    masks: Tensor,
    symmetric: bool,
) -> Tensor:
    """loss(I, Pi(Lambda(d, a, l), d, v)) = L1 + weight * perceptual distance, (B,).

    With symmetry it is the sum over the sides of the shapes, inside all their renderings.

    Args:
        shapes: B of them.
        view, light: (B, 6) and (B, 4).
        targets: (B, 3, S, S) in [-1, 1].
        masks: weights (B, S, S) of their pixels.
        symmetric: whether objects are taken for symmetric.
    """
    weight = group.config.optimization.perceptual_weight
    sides = group.variant.sides(shapes, group.random) if symmetric else [shapes]
    renderings = [render(group, side, view, light) for side in sides]
    for rendering in renderings:
        masks = masks * rendering.mask
    losses = []
    for rendering in renderings:
        loss = masked_l1(rendering.image, targets, masks)
        if weight:
            loss = loss + weight * _distances(group, rendering.image, targets, masks)
        losses.append(loss)
    return torch.stack(losses).sum(0)


def _distances(group: Group, images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
    def distance(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
        with autocast(group.device, group.config.precision):
            return group.perceptual(images, targets, masks)

    return group.variant.distances(distance, images, targets, masks, group.random)

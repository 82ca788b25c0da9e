"""L1 between feature maps, with a backward pass that keeps their memory format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def feature_distance(maps: Sequence[Tensor], targets: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Weighted mean absolute difference of each pair of maps, summed over the pairs: (B,) float32.

    Args:
        maps, targets: pairs of (B, C, H, W), any floating type.
        weights: (B, S, S) at least 0, averaged to each map's size.
    """
    total = weights.new_zeros(len(weights), dtype=torch.float32)
    for ours, theirs in zip(maps, targets, strict=True):
        pooled = functional.adaptive_avg_pool2d(
            weights[:, None].float(), (ours.shape[2], ours.shape[3])
        )
        total = total + weighted_l1(ours, theirs, pooled)
    return total


def weighted_l1(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Mean over channels and weighted mean over pixels of |a - b|: (B,) float32.

    `a` and `b` are (B, C, H, W), `weights` (B, 1, H, W); 0 where all weights of a sample are 0. No
    gradient flows to the weights, and there is no second derivative.
    """
    total = weights.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    result: Tensor = _WeightedL1.apply(a, b.to(a.dtype), weights / total)
    return result


class _WeightedL1(torch.autograd.Function):
    """The plain formula's gradient comes out in another memory format than channels_last maps
    have, which makes every operation behind it several times slower.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference, weights)
        gap = difference.abs().mean(dim=1, keepdim=True, dtype=torch.float32)
        return (gap * weights).sum(dim=(1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        difference, weights = ctx.saved_tensors
        slope = (grad[:, None, None, None] * weights / difference.shape[1]).to(difference.dtype)
        ours = difference.sgn() * slope
        theirs = -ours if ctx.needs_input_grad[1] else None
        return ours if ctx.needs_input_grad[0] else None, theirs, None

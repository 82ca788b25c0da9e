"""How alike two pictures are: mean differences and structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, SIGMA = 11, 1.5
"""Pixels of SSIM's Gaussian window and its standard deviation, as published."""
STABLE_MEAN, STABLE_SPREAD = 0.01**2, 0.03**2
"""Of the published formula, for values on [0, 1]."""


def l1(images: Tensor, truths: Tensor, masks: Tensor | None = None) -> Tensor:
    """Mean absolute difference (N,) on [0, 1] of images (N, 3, S, S) in [-1, 1].

    With masks (N, S, S) over the pixels that are set in them; NaN where there are none.
    """
    _check(images, truths)
    gap = (images - truths).abs().mean(1) / 2  # (N, S, S)
    if masks is None:
        return gap.mean((1, 2))
    inside = masks > 0.5
    return torch.where(inside, gap, 0).sum((1, 2)) / inside.sum((1, 2))


def ssim(images: Tensor, truths: Tensor) -> Tensor:
    """Structural similarity (N,) of images (N, 3, S, S) in [-1, 1]; 1 is equal (Wang et al., 2004).

    A Gaussian window of 11 pixels with a standard deviation of 1.5, on values on [0, 1], averaged
    over the channels and over all pixels whose window lies in the image.
    """
    _check(images, truths)
    a, b = images.double() / 2 + 0.5, truths.double() / 2 + 0.5
    mean_a, mean_b, square_a, square_b, product = _window_means(
        torch.stack([a, b, a * a, b * b, a * b])
    )
    spread = square_a - mean_a**2 + square_b - mean_b**2
    shared = product - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + STABLE_MEAN) * (2 * shared + STABLE_SPREAD)
    largest = (mean_a**2 + mean_b**2 + STABLE_MEAN) * (spread + STABLE_SPREAD)
    return (likeness / largest).mean((1, 2, 3)).to(images.dtype)


def _window_means(values: Tensor) -> Tensor:
    """Means of (..., S, S) under the Gaussian window: (..., S - 10, S - 10)."""
    offsets = torch.arange(WINDOW, dtype=values.dtype, device=values.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    flat = values.reshape(-1, 1, *values.shape[-2:])
    flat = functional.conv2d(flat, weights.view(1, 1, 1, -1))
    flat = functional.conv2d(flat, weights.view(1, 1, -1, 1))
    return flat.reshape(*values.shape[:-2], *flat.shape[-2:])


def _check(images: Tensor, truths: Tensor) -> None:
    if images.ndim != 4 or images.shape != truths.shape or min(images.shape[2:]) < WINDOW:
        raise ValueError(
            f"images {tuple(images.shape)} and truths {tuple(truths.shape)} should both be "
            f"(N, 3, S, S) with S of at least {WINDOW}"
        )

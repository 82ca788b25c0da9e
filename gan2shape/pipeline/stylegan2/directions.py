"""Linear directions in W: which way, and how far apart, the values of an attribute lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 5
"""Parts of the samples that take turns in validating."""
RIDGES = tuple(10.0**power for power in range(-5, 2))
"""Penalties that are tried, in shares of the number of samples."""


@dataclass(frozen=True)
class Direction:
    """How a scalar attribute lies in W, as far as it is linear."""

    vector: Tensor
    """(D,): w + delta * vector has the attribute of w changed by delta."""
    r2: float
    """Share of the attribute's variance that the latents explain, cross-validated."""


def linear_direction(latents: Tensor, values: Tensor) -> Direction:
    """The best linear direction for an attribute, by ridge regression on standardised latents.

    Many vectors change what the regression predicts by one unit. This is the one along which
    latents of different values differ on the whole: moved latents stay where latents are dense. On
    64 px heads it turns farther, and truer to the angle, than the normal of the regression's level
    sets. Of several ridges the one with the least cross-validated error is taken.

    Args:
        latents: (N, D), random samples in no special order, N >= 10.
        values: (N,), in any unit.
    Returns:
        A direction of the latents' type and device.
    Raises:
        ValueError: the shapes do not fit, or the values are all the same or not finite.
    """
    if latents.dim() != 2 or values.shape != latents.shape[:1] or len(values) < 2 * FOLDS:
        raise ValueError(
            f"latents {tuple(latents.shape)} and values {tuple(values.shape)} should be (N, D) and "
            f"(N,) with N of at least {2 * FOLDS}"
        )
    x, y = latents.double(), values.double()
    x, y = x - x.mean(dim=0), y - y.mean()
    variance = float(y.square().mean())
    if not 0 < variance < float("inf"):
        raise ValueError("the values are all the same or not finite")
    standard = x / x.std(dim=0).clamp_min(1e-12)
    errors = {ridge: _validated_error(standard, y, ridge) for ridge in RIDGES}
    best = min(errors, key=errors.__getitem__)
    predicted = standard @ _ridge(standard, y, best)
    vector = x.T @ predicted / predicted.square().sum()
    return Direction(vector.to(latents), 1 - errors[best] / variance)


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """Coefficients (D,) of centred y (N,) on centred x (N, D)."""
    penalty = ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x + penalty, x.T @ y)


def _validated_error(x: Tensor, y: Tensor, ridge: float) -> float:
    """Mean squared error for samples that the regression has not seen."""
    fold = torch.arange(len(x), device=x.device) % FOLDS
    total = 0.0
    for number in range(FOLDS):
        seen, unseen = fold != number, fold == number
        middle, mean = x[seen].mean(dim=0), y[seen].mean()
        slopes = _ridge(x[seen] - middle, y[seen] - mean, ridge)
        total += float(((x[unseen] - middle) @ slopes + mean - y[unseen]).square().sum())
    return total / len(x)

"""Fréchet Inception distance, for Inception weights that the user has.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium"
(NeurIPS 2017). The network resizes and normalises the images itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Mean (F,) and covariance (F, F) of features, float64 on the CPU."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Inception:
    """A feature network and where it runs."""

    network: Any
    device: torch.device
    sha256: str
    """Of the file that it came from."""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features (N, F) float32, on the network's device, of images (N, 3, S, S) in [-1, 1]."""
        pixels = images.to(self.device).add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        found: Tensor = self.network(pixels.contiguous(), return_features=True)
        return found.flatten(1).float()

    def statistics(self, parts: Iterable[Tensor]) -> Statistics:
        """Statistics of the features of images that come in parts (n, 3, S, S)."""
        return statistics(torch.cat([self.features(part) for part in parts]))


def statistics(features: Tensor) -> Statistics:
    """Statistics of features (N, F), N >= 2; the covariance is the unbiased one."""
    values = features.double()
    covariance = torch.cov(values.T).reshape(values.shape[1], values.shape[1])
    return Statistics(values.mean(dim=0).cpu(), covariance.cpu())


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): 0 for equal statistics, never below.

    Features may be fewer than their dimensions: the roots are taken of symmetric matrices, whose
    eigenvalues are real, and where rounding makes these negative they count as 0.
    """
    root = _root(a.covariance)
    overlap = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean - b.mean).square().sum()
    return max(float(apart + a.covariance.trace() + b.covariance.trace() - 2 * overlap), 0.0)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T

"""Feature networks with the signature of the StyleGAN2-ADA code's Inception file, or without it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyInception(nn.Module):
    """Mean values of `side` x `side` parts of uint8 images, as features (N, 3 * side^2); without
    `return_features` something else, as the real file gives class scores.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        assert images.dtype == torch.uint8
        parts = functional.adaptive_avg_pool2d(images.float(), (self.side, self.side)).flatten(1)
        return parts if return_features else parts.sum(dim=1, keepdim=True)


class NoInception(nn.Module):
    """Another network."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def write_script(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network).save(str(path))
    return path

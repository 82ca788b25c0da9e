"""LPIPS with VGG16 features (Zhang et al., CVPR 2018), for weights that the user has."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# mean and spread of ImageNet's colours on the range [-1, 1]
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# convolutions of each slice: index in VGG16's feature list and width
SLICES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 64), (2, 64)),
    ((5, 128), (7, 128)),
    ((10, 256), (12, 256), (14, 256)),
    ((17, 512), (19, 512), (21, 512)),
    ((24, 512), (26, 512), (28, 512)),
)
WIDTHS = tuple(group[-1][1] for group in SLICES)
TINY = 1e-10
"""Added to the length of feature vectors that are divided by it."""


class Lpips(nn.Module):
    """Perceptual distance of images in [-1, 1]."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None])
        inputs = 3
        self.slices = nn.ModuleList()
        for group in SLICES:
            layers = nn.ModuleList()
            for _, width in group:
                layers.append(nn.Conv2d(inputs, width, 3, padding=1))
                inputs = width
            self.slices.append(layers)
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in WIDTHS])

    def activations(self, images: Tensor, count: int = len(SLICES)) -> list[Tensor]:
        """VGG16's maps (B, C, H, W) at the end of the first `count` of its five sizes, for `images`
        (B, 3, S, S), S >= 16.
        """
        x = (images - self.shift) / self.scale
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for index in range(count):
            if index:
                x = functional.max_pool2d(x, 2)
            for layer in self.slices[index]:  # type: ignore[attr-defined]
                x = functional.relu_(layer(x))
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> list[Tensor]:
        """Five maps (B, C, H, W) float32 of unit length along the channels, for `images` (B, 3, S,
        S), S >= 16.
        """
        maps = []
        for x in self.activations(images):
            y = x.float()
            # clamped under the root, whose slope is infinite at zero
            length = y.square().sum(dim=1, keepdim=True).clamp_min(TINY * TINY).sqrt()
            maps.append(y / (length + TINY))
        return maps

    def distance(self, a: list[Tensor], b: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """Distance per image, (B,), of two results of `features`.

        `weights` (B, S, S) weigh the pixels, averaged to each map's size.
        """
        total = a[0].new_zeros(len(a[0]))
        for x, y, head in zip(a, b, self.heads, strict=True):
            gap = ((x - y).square() * head[:, None, None]).sum(dim=1)  # (B, H, W)
            if weights is None:
                total = total + gap.mean(dim=(1, 2))
            else:
                w = functional.adaptive_avg_pool2d(weights[:, None].to(gap.dtype), gap.shape[1:])[
                    :, 0
                ]
                total = total + (gap * w).sum(dim=(1, 2)) / w.sum(dim=(1, 2)).clamp_min(1e-6)
        return total

    def forward(self, a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
        """Distance per image, (B,), of two sets of images (B, 3, S, S) in [-1, 1]."""
        return self.distance(self.features(a), self.features(b), weights)

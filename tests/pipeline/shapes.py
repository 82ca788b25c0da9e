"""Depth maps and views that the renderer's tests share."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera

KINDS = ("plane", "bump", "rough", "folded", "cliff")


def depth_map(kind: str, camera: Camera, batch: int, seed: int = 0) -> Tensor:
    """Depths (batch, S, S) float64: smooth, noisy, or so steep that turned views see them fold."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1, 1, camera.size, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    noise = torch.randn(batch, camera.size, camera.size, generator=generator, dtype=torch.float64)
    plane = 1 + 0.02 * x - 0.01 * y
    bump = 1.03 - 0.09 * torch.exp(-4 * (x**2 + y**2))
    return {
        "plane": plane.expand(batch, -1, -1) + 1e-4 * noise,
        "bump": bump.expand(batch, -1, -1) + 1e-5 * noise,
        "rough": bump + 0.004 * noise,
        "folded": bump + 0.05 * torch.sin(9 * x + noise[:, :1, :1]) + 1e-4 * noise,
        "cliff": torch.where(x.abs() + y.abs() < 0.6, 0.92, 1.08) + 1e-4 * noise,
    }[kind].contiguous()


def views(batch: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Views (batch, 6) float64 with all six numbers at work."""
    generator = torch.Generator().manual_seed(seed + 1000)
    spread = torch.tensor([0.2, 0.5, 0.2, 0.006, 0.006, 0.01], dtype=torch.float64)
    return scale * spread * torch.randn(batch, 6, generator=generator, dtype=torch.float64)


def textures(camera: Camera, batch: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Random textures (batch, channels, S, S) float64 in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed + 2000)
    shape = (batch, channels, camera.size, camera.size)
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1


def symmetric_albedo(camera: Camera) -> Tensor:
    """Smooth colours (1, 3, S, S), alike on both sides."""
    line = torch.linspace(-1, 1, camera.size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    waves = [torch.cos(5 * x) * torch.sin(3 * y), torch.cos(3 * x + 0 * y), torch.sin(5 * y)]
    return 0.5 * torch.stack(waves)[None]

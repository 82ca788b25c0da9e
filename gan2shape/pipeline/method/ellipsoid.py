"""The ellipsoid that depth networks start from (step 0)."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.settings import EllipsoidShape

ERROR_SCALE = 100.0
"""Depth is compared in hundredths of a scene unit, and its smoothness measured in them. The object
is about ten of these deep, which makes losses of the order of one."""


def ellipsoid_depth(masks: Tensor, camera: Camera, config: EllipsoidShape) -> Tensor:
    """Ellipsoidal cap over each mask's bounding box, at `far` outside it (GAN2Shape, section 3.1).

    Args:
        masks: object masks (B, S, S) in {0, 1}; an empty one counts as the whole frame.
    Returns:
        depth (B, S, S) in scene units.
    """
    top, bottom = _extent(masks.amax(2))
    left, right = _extent(masks.amax(1))
    pixels = torch.arange(camera.size, device=masks.device, dtype=masks.dtype)
    half_height = ((bottom - top) / 2).clamp(min=1) * config.extent
    half_width = ((right - left) / 2).clamp(min=1) * config.extent
    y = (pixels - ((top + bottom) / 2)[:, None]) / half_height[:, None]  # (B, S)
    x = (pixels - ((left + right) / 2)[:, None]) / half_width[:, None]
    squared = y.square()[:, :, None] + x.square()[:, None, :]  # (B, S, S)
    rim = config.radius**2 - (config.radius - (config.far - config.near)) ** 2
    cap = config.radius - (config.radius**2 - squared.clamp(max=1) * rim).sqrt() + config.near
    return torch.where(squared <= 1, cap, config.far)


def ellipsoid_error(depth: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error (B,) of depths (B, S, S) in scene units, in units of 1 / `ERROR_SCALE`."""
    return (ERROR_SCALE * (depth - wanted)).square().mean((1, 2))


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last occupied index of every row (B, S); the whole row where none is."""
    occupied = torch.where(occupied.amax(1, keepdim=True) > 0, occupied, torch.ones_like(occupied))
    size = occupied.shape[1]
    index = torch.arange(size, device=occupied.device, dtype=occupied.dtype)
    first = torch.where(occupied > 0, index, size).amin(1)
    last = torch.where(occupied > 0, index, -1.0).amax(1)
    return first, last

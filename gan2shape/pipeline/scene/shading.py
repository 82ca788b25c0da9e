"""Lambertian shading under one directional light (Unsup3D, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GRAZING = 0.1
"""Least share of a light's direction that leads away from the camera."""


def light_direction(light: Tensor) -> Tensor:
    """Unit direction (B, 3) of a light (B, 4): (x, y, 1) normalised, in the normals' convention."""
    check_light(light)
    return functional.normalize(
        torch.cat([light[:, 2:], torch.ones_like(light[:, :1])], dim=1), dim=1
    )


def light_strengths(light: Tensor) -> tuple[Tensor, Tensor]:
    """Ambient and diffuse strength (B,), each l/2 + 0.5 of the raw number in [-1, 1]."""
    check_light(light)
    return light[:, 0] / 2 + 0.5, light[:, 1] / 2 + 0.5


def diffuse_shading(normals: Tensor, light: Tensor) -> Tensor:
    """max(0, <n, l>) (B, 1, S, S) of unit normals (B, S, S, 3) and light (B, 4)."""
    if normals.ndim != 4 or normals.shape[-1] != 3:
        raise ValueError(f"normals must be (B, S, S, 3), not {tuple(normals.shape)}")
    x, y, z = (part[:, None, None] for part in light_direction(light).unbind(-1))
    nx, ny, nz = normals.unbind(-1)
    return (nx * x + ny * y + nz * z).clamp(min=0).unsqueeze(1)


def turn_light(light: Tensor, rotation: Tensor) -> Tensor:
    """Lights (B, 4) whose directions are turned by rotations (3, 3) or (B, 3, 3).

    A direction is kept as (x, y, 1), which no light has that comes from behind; such a one is
    brought round until it grazes.
    """
    x, y, z = (rotation.to(light) @ light_direction(light)[..., None])[..., 0].unbind(-1)
    z = z.clamp(min=GRAZING)
    return torch.cat([light[:, :2], torch.stack([x / z, y / z], dim=1)], dim=1)


def light_like(light: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """What becomes of an estimated light (B, 4) when the true one goes from `before` (B, 4) to
    `after` (4,), which gives the direction.

    Ambient and diffuse strength change by the same factors as the true ones: an estimate may take
    all light for brighter, and the object for darker, than they are.
    """
    factors = (after[:2] + 1) / (before[:, :2] + 1)
    strengths = (light[:, :2] + 1) * factors.to(light) - 1
    return torch.cat([strengths, after[2:].to(light).expand(len(light), 2)], dim=1)


def shade(albedo: Tensor, normals: Tensor, light: Tensor) -> Tensor:
    """Texture (B, 3, S, S) in [-1, 1]-like units: albedo (B, 3, S, S) lit by light (B, 4).

    Not clamped: a bright light may take it above 1.
    """
    ambient, diffuse = (part[:, None, None, None] for part in light_strengths(light))
    shading = ambient + diffuse * diffuse_shading(normals, light)  # (B, 1, S, S)
    return (albedo / 2 + 0.5) * shading * 2 - 1


def check_light(light: Tensor) -> None:
    """Raise ValueError unless `light` is (B, 4)."""
    if light.ndim != 2 or light.shape[1] != 4:
        raise ValueError(f"light must be (B, 4), not {tuple(light.shape)}")

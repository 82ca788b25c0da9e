"""Pinhole camera, rays through pixel centres, rigid views and projection.

Camera frame: x right, y down, z away from the camera. Pixel centres lie at integer coordinates
0 .. size-1, so the principal point is (size-1)/2. A view turns the object about the rotation centre
(0, 0, rotation_depth) and then shifts it (GAN2Shape, section 3; Unsup3D, section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.schemas.settings import CameraConfig

PITCH, YAW, ROLL = 0, 1, 2
"""Places of the rotations about x, y and z in a view."""


@dataclass(frozen=True)
class Camera:
    """Square pinhole camera and the depth range of the object in scene units."""

    size: int
    fov_degrees: float = 10.0
    min_depth: float = 0.9
    max_depth: float = 1.1
    rotation_depth: float = 1.0

    @classmethod
    def from_config(cls, config: CameraConfig) -> Camera:
        return cls(
            size=config.size,
            fov_degrees=config.fov_degrees,
            min_depth=config.min_depth,
            max_depth=config.max_depth,
            rotation_depth=config.rotation_depth,
        )

    @property
    def center(self) -> float:
        """Principal point in pixels, the same for x and y."""
        return (self.size - 1) / 2

    @property
    def focal(self) -> float:
        """Focal length in pixels: the outermost pixel centres lie at half the field of view."""
        return self.center / math.tan(math.radians(self.fov_degrees) / 2)

    @property
    def margin(self) -> float:
        """How far a rendered depth may leave [min_depth, max_depth], in scene units."""
        return (self.max_depth - self.min_depth) / 2

    @property
    def lower_clamp(self) -> float:
        """Smallest depth of a rendering."""
        return self.min_depth - self.margin

    @property
    def upper_clamp(self) -> float:
        """Largest depth of a rendering, and the depth of pixels that nothing covers."""
        return self.max_depth + self.margin

    @property
    def near(self) -> float:
        """Points nearer than this are taken to be behind the camera: they have no projection."""
        return 0.01 * self.min_depth


def pixel_rays(camera: Camera, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Rays through pixel centres at unit depth, (S, S, 3) indexed [row, column]."""
    offsets = (torch.arange(camera.size, device=device, dtype=dtype) - camera.center) / camera.focal
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)  # (S, S, 3)


def unproject(depth: Tensor, camera: Camera) -> Tensor:
    """Points (B, S, S, 3) seen at `depth` (B, S, S) along each pixel's ray."""
    check_depth(depth, camera)
    return depth.unsqueeze(-1) * pixel_rays(camera, depth.device, depth.dtype)


def project(points: Tensor, camera: Camera) -> Tensor:
    """Pixel coordinates (..., 2) as (x, y) of points (..., 3).

    Points behind `camera.near` are projected as if they lay at it, which keeps the result finite.
    """
    z = points[..., 2:].clamp(min=camera.near)
    return points[..., :2] / z * camera.focal + camera.center


def rotation_matrix(rotations: Tensor) -> Tensor:
    """R = Rz Ry Rx (B, 3, 3) of rotations (B, 3) about x, y, z in radians, right-handed."""
    if rotations.ndim != 2 or rotations.shape[-1] != 3:
        raise ValueError(f"rotations must be (B, 3), not {tuple(rotations.shape)}")
    sx, sy, sz = rotations.sin().unbind(-1)
    cx, cy, cz = rotations.cos().unbind(-1)
    rows = [
        torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], dim=-1),
        torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], dim=-1),
        torch.stack([-sy, cy * sx, cy * cx], dim=-1),
    ]
    return torch.stack(rows, dim=-2)  # (B, 3, 3)


def transform(points: Tensor, view: Tensor, camera: Camera, inverse: bool = False) -> Tensor:
    """Points (B, ..., 3) moved by view (B, 6): turned about the rotation centre, then shifted.

    With `inverse` the motion is undone: from the view's frame back into the canonical one.
    """
    check_view(view)
    if points.shape[-1] != 3 or points.shape[0] not in (1, view.shape[0]):
        raise ValueError(
            f"points must be (B, ..., 3) for view {tuple(view.shape)}, not {tuple(points.shape)}"
        )
    rotation = rotation_matrix(view[:, :3])  # (B, 3, 3)
    between = (view.shape[0],) + (1,) * (points.ndim - 2) + (3,)
    pivot = points.new_tensor([0.0, 0.0, camera.rotation_depth])
    shift = view[:, 3:].reshape(between)
    x, y, z = (points - pivot - shift if inverse else points - pivot).split(1, dim=-1)
    # Written out: a matrix product would lose digits to TF32 or autocast where they are on.
    columns = (rotation.mT if inverse else rotation).unbind(-1)
    for_x, for_y, for_z = (column.reshape(between) for column in columns)
    turned = x * for_x + y * for_y + z * for_z + pivot
    return turned if inverse else turned + shift


def check_depth(depth: Tensor, camera: Camera) -> None:
    """Raise ValueError unless `depth` is (B, S, S) for this camera."""
    if depth.ndim != 3 or depth.shape[1:] != (camera.size, camera.size):
        raise ValueError(
            f"depth must be (B, {camera.size}, {camera.size}), not {tuple(depth.shape)}"
        )


def check_view(view: Tensor) -> None:
    """Raise ValueError unless `view` is (B, 6)."""
    if view.ndim != 2 or view.shape[1] != 6:
        raise ValueError(f"view must be (B, 6), not {tuple(view.shape)}")

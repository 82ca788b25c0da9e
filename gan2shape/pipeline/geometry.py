"""Surface normals of a depth map, and how rough a map is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.camera import Camera, unproject


def surface_tangents(depth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Central differences of points along u and v inside the border, each (B, S-2, S-2, 3)."""
    points = unproject(depth, camera)  # (B, S, S, 3)
    along_u = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    along_v = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    return along_u, along_v


def normals_from_depth(depth: Tensor, camera: Camera) -> Tensor:
    """Unit normals (B, S, S, 3) of a depth map (B, S, S) in scene units.

    The normal is the exactly normalised cross(tu, tv) of central differences, so +z points away
    from the camera; the border pixels, which lack a neighbour, get (0, 0, 1).
    """
    along_u, along_v = surface_tangents(depth, camera)
    # The cross product is about (2/focal)^2 long (3e-5 at S=64), far above this floor.
    inner = functional.normalize(torch.linalg.cross(along_u, along_v), dim=-1, eps=1e-15)
    return pad_normals(inner)


def pad_normals(inner: Tensor) -> Tensor:
    """Normals (B, S-2, S-2, 3) with a border of (0, 0, 1) around them: (B, S, S, 3)."""
    x, y, z = inner.unbind(-1)
    edge = (1, 1, 1, 1)
    return torch.stack(
        [functional.pad(x, edge), functional.pad(y, edge), functional.pad(z, edge, value=1.0)],
        dim=-1,
    )


def smoothness(values: Tensor) -> Tensor:
    """Mean absolute second differences (B,) of maps (B, S, S) or (B, C, S, S).

    The sum of the means of |d2/dx2|, |d2/dy2| and twice |d2/dxdy| (Unsup3D's and GAN2Shape's
    penalty).
    """
    if values.ndim not in (3, 4):
        raise ValueError(f"values must be (B, S, S) or (B, C, S, S), not {tuple(values.shape)}")
    dx = values[..., :, 1:] - values[..., :, :-1]
    dy = values[..., 1:, :] - values[..., :-1, :]
    dxx = dx[..., :, 1:] - dx[..., :, :-1]
    dyy = dy[..., 1:, :] - dy[..., :-1, :]
    dxy = dx[..., 1:, :] - dx[..., :-1, :]
    return (
        dxx.abs().flatten(1).mean(1)
        + dyy.abs().flatten(1).mean(1)
        + 2 * dxy.abs().flatten(1).mean(1)
    )

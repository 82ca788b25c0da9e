"""The depth grid as a triangle mesh: faces, vertices on the screen, and depth from faces."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera, project, transform, unproject


def grid_faces(size: int, device: torch.device | str = "cpu") -> Tensor:
    """Vertex indices (2 (S-1)^2, 3) of the grid's triangles; pixel (row v, column u) is v * S + u.

    Quad k = v * (S-1) + u has the faces 2k: (v,u) (v,u+1) (v+1,u) and 2k+1: (v,u+1) (v+1,u+1)
    (v+1,u).
    """
    index = torch.arange(size * size, device=device).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)], dim=2)
    return faces.reshape(-1, 3)


def screen_vertices(depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Vertices (B, S, S, 3) = pixel x, pixel y, z of depth (B, S, S) under view (B, 6)."""
    points = transform(unproject(depth, camera), view, camera)
    return torch.cat([project(points, camera), points[..., 2:]], dim=-1)


def depth_from_faces(screen: Tensor, face_ids: Tensor, camera: Camera) -> Tensor:
    """Depth (B, S, S) of screen vertices (B, S, S, 3) where face_ids (B, S, S) are seen.

    1/z is interpolated linearly over the screen, which is perspective-correct, and the result is
    held in [min_depth - margin, max_depth + margin]; pixels without a face (id -1) get the upper
    end. Differentiable in the vertices' x, y and z; which face is seen is not differentiated.
    """
    batch, size = screen.shape[:2]
    covered = face_ids >= 0
    corners = grid_faces(size, screen.device)[face_ids.clamp(min=0)]  # (B, S, S, 3)
    flat = screen.reshape(batch, size * size, 3)
    index = corners.reshape(batch, -1, 1).expand(-1, -1, 3)
    picked = flat.gather(1, index).reshape(batch, size, size, 3, 3)  # [..., corner, xyz]
    # Any sound triangle will do where nothing is seen: its values are replaced below.
    pixel = torch.arange(size, device=screen.device, dtype=screen.dtype)
    row, column = torch.meshgrid(pixel, pixel, indexing="ij")
    anchor = torch.stack([column, row, torch.ones_like(row)], dim=-1)  # (S, S, 3)
    spare = anchor[:, :, None] + anchor.new_tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    picked = torch.where(covered[..., None, None], picked, spare)
    weights = barycentric(picked[..., :2], anchor[..., :2])
    nearness = (weights / picked[..., 2]).sum(-1)  # (B, S, S)
    z = (1 / nearness).clamp(camera.lower_clamp, camera.upper_clamp)
    return torch.where(covered, z, torch.full_like(z, camera.upper_clamp))


def barycentric(corners: Tensor, points: Tensor) -> Tensor:
    """Weights (..., 3) of points (..., 2) in triangles with corners (..., 3, 2)."""
    a, b, c = (corners - points.unsqueeze(-2)).unbind(-2)
    parts = [_cross(b, c), _cross(c, a)]
    area = _cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    first, second = parts[0] / area, parts[1] / area
    return torch.stack([first, second, 1 - first - second], dim=-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

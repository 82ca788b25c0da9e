"""The renderer written for reading: every pixel against every triangle, plain torch, no tricks.

Slow, for small grids only. Visibility is chosen without gradients; all else is differentiable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera


def rotation(view: Tensor) -> Tensor:
    """R = Rz Ry Rx (3, 3) of one view (6,)."""
    x, y, z = view[:3]
    one, zero = torch.ones_like(x), torch.zeros_like(x)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries).reshape(3, 3)

    rx = matrix(one, zero, zero, zero, x.cos(), -x.sin(), zero, x.sin(), x.cos())
    ry = matrix(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
    rz = matrix(z.cos(), -z.sin(), zero, z.sin(), z.cos(), zero, zero, zero, one)
    return rz @ ry @ rx


def render_one(
    texture: Tensor, depth: Tensor, view: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor]:
    """Image (C, S, S), depth (S, S) and mask (S, S) of texture (C, S, S) on depth (S, S)."""
    size = camera.size
    focal = (size - 1) / 2 / math.tan(math.radians(camera.fov_degrees / 2))
    middle = (size - 1) / 2
    pivot = depth.new_tensor([0.0, 0.0, camera.rotation_depth])
    index = torch.arange(size, dtype=depth.dtype)
    row, column = torch.meshgrid(index, index, indexing="ij")
    ray = torch.stack([(column - middle) / focal, (row - middle) / focal, torch.ones_like(row)], -1)
    turn = rotation(view)

    points = (depth[..., None] * ray - pivot) @ turn.T + pivot + view[3:]  # (S, S, 3)
    screen = points[..., :2] / points[..., 2:] * focal + middle

    faces = []
    for v in range(size - 1):
        for u in range(size - 1):
            a, b = v * size + u, v * size + u + 1
            c, d = a + size, b + size
            faces += [(a, b, c), (b, d, c)]
    corner = torch.tensor(faces)  # (F, 3)
    xy = screen.reshape(-1, 2)[corner]  # (F, 3, 2)
    z = points.reshape(-1, 3)[corner][..., 2]  # (F, 3)

    pixel = torch.stack([column, row], -1).reshape(-1, 1, 2)  # (S*S, 1, 2)
    with torch.no_grad():
        weight = _weights(xy, pixel)  # (S*S, F, 3)
        distance = 1 / (weight / z).sum(-1)
        hit = (weight > -1e-5).all(-1) & (z > camera.near).all(-1)
        distance = torch.where(hit, distance, torch.inf)
        nearest, face = distance.min(1)
        covered = nearest.isfinite()
    weight = _weights(xy[face], pixel[:, 0])  # (S*S, 3)
    inside = 1 / (weight / z[face]).sum(-1)
    low = camera.min_depth - (camera.max_depth - camera.min_depth) / 2
    high = camera.max_depth + (camera.max_depth - camera.min_depth) / 2
    seen = torch.where(covered, inside.clamp(low, high), high).reshape(size, size)

    source = (seen[..., None] * ray - pivot - view[3:]) @ turn + pivot
    position = source[..., :2] / source[..., 2:] * focal + middle
    return _bilinear(texture, position), seen, covered.reshape(size, size).to(depth.dtype)


def render(
    texture: Tensor, depth: Tensor, view: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor]:
    """`render_one` for a batch."""
    each = [render_one(*one, camera) for one in zip(texture, depth, view, strict=True)]
    return tuple(torch.stack(part) for part in zip(*each, strict=True))  # type: ignore[return-value]


def _weights(xy: Tensor, pixel: Tensor) -> Tensor:
    """Barycentric weights (..., 3) of pixels (..., 2) in triangles (..., 3, 2)."""

    def twice_area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    a, b, c = xy.unbind(-2)
    parts = [twice_area(pixel, b, c), twice_area(a, pixel, c), twice_area(a, b, pixel)]
    return torch.stack(parts, -1) / twice_area(a, b, c)[..., None]


def _bilinear(texture: Tensor, position: Tensor) -> Tensor:
    """Texture (C, S, S) at pixel coordinates (S, S, 2), which are held inside the image."""
    edge = texture.shape[-1] - 1
    x, y = position.clamp(0, edge).unbind(-1)
    left = x.detach().floor().clamp(max=edge - 1)
    top = y.detach().floor().clamp(max=edge - 1)
    fx, fy = x - left, y - top
    i, j = top.long(), left.long()
    upper = texture[:, i, j] * (1 - fx) + texture[:, i, j + 1] * fx
    lower = texture[:, i + 1, j] * (1 - fx) + texture[:, i + 1, j + 1] * fx
    return upper * (1 - fy) + lower * fy

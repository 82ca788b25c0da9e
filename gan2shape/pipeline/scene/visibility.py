"""What images show of the points of shapes that are seen in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, project, rotation_matrix, transform, unproject
from gan2shape.pipeline.scene.shape import Shape

HIDDEN = 0.01
"""In scene units: a point that is farther behind what its pixel shows is hidden there."""
GRAZING, FACING = 0.15, 0.5
"""Cosines between normal and line of sight at which a pixel begins to count, and counts in full."""


def seen_on(
    shapes: Shape,
    view: Tensor,
    maps: Tensor,
    masks: Tensor,
    front: Tensor,
    covered: Tensor,
    camera: Camera,
) -> tuple[Tensor, Tensor]:
    """Read maps of images at the points of the shapes in them, and tell how well each is seen.

    A point is not seen where it faces away, is behind another, or lies outside of the mask.

    Args:
        shapes: B of them.
        view: (B, 6) radians and scene units.
        maps: (B, C, S, S) in the images' frames.
        masks: (B, S, S), 1 where the images show the object.
        front, covered: the shapes' depth in the views and where they cover them, (B, S, S) each,
            as `render_depth` gives them.
    Returns:
        The maps in the canonical frame (B, C, S, S), differentiable in shapes and views, and how
        well each point is seen (B, 1, S, S) in [0, 1], without gradient.
    """
    # The outline's own pixels mix object and background.
    inside = -functional.max_pool2d(-(masks * covered)[:, None], 3, 1, padding=1)
    maps = torch.cat([maps, inside, front[:, None]], 1)
    found, distance = _sampled(shapes, view, maps, camera)
    found, weight, front = found.tensor_split([-2, -1], 1)
    with torch.no_grad():
        facing = torch.einsum("bj,bvuj->bvu", rotation_matrix(view[:, :3])[:, 2], shapes.normals)
        weight = weight * ((facing - GRAZING) / (FACING - GRAZING)).clamp(0, 1)[:, None]
        weight = weight * (distance - front < HIDDEN)
    return found, weight


@torch.no_grad()
def on_shapes(shapes: Shape, view: Tensor, maps: Tensor, camera: Camera) -> Tensor:
    """Read maps (B, C, S, S) of images at the points of the shapes in them, hidden ones too.

    Views are (B, 6). Returns the maps in the canonical frame (B, C, S, S), 0 at points outside of
    the image.
    """
    return _sampled(shapes, view, maps, camera)[0]


def _sampled(shapes: Shape, view: Tensor, maps: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The maps at the shapes' points (B, C, S, S), and the points' distances (B, 1, S, S)."""
    points = transform(unproject(shapes.depth, camera), view, camera)
    grid = project(points, camera) / (camera.size - 1) * 2 - 1
    return functional.grid_sample(maps, grid, align_corners=True), points[..., 2][:, None]

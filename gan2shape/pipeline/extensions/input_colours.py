"""The albedo under which a shape's rendering is its input: for pictures that look like it.

The albedo network gives blurred features and colours drawn towards the category's average. In
pseudo samples these would tell the encoder to project another person, and pictures of the shape
turned or relit would show another one. The input shows the right ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, project, rotation_matrix, transform, unproject
from gan2shape.pipeline.scene.render import Backend, render_depth
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.schemas.settings import RunConfig

DARKEST = 0.05
"""Added to brightnesses in [0, 2] before they are divided: dark pixels are mostly noise."""
GAIN = (0.4, 2.5)
HIDDEN = 0.01
"""In scene units: a point so far behind what its pixel shows is not what it shows."""
GRAZING, FACING = 0.15, 0.5
"""Cosines between normal and line of sight at which a pixel begins to count, and counts in full."""
PRIOR = 0.02
"""Weight of the albedo as it is, where a point seen in full weighs 1."""


@torch.no_grad()
def paint(
    shapes: Shape,
    view: Tensor,
    light: Tensor,
    images: Tensor,
    masks: Tensor,
    camera: Camera,
    renderer: Backend = "auto",
    *,
    symmetric: bool,
) -> Shape:
    """Shapes with albedos corrected by what the inputs show of them.

    Every visible point's albedo is multiplied by input over rendering. A point that the input hides
    takes the factor of its mirror image where objects are symmetric, and stays as it is where they
    are not, or that is hidden too.

    Args:
        shapes: B of them.
        view, light: (B, 6) and (B, 4) of the inputs.
        images, masks: inputs (B, 3, S, S) in [-1, 1] and where they show the object (B, S, S).
        symmetric: whether objects may be taken for symmetric.
    """
    rendering = shapes.render(view, light, camera, renderer)
    gain = ((images + 1 + DARKEST) / (rendering.image + 1 + DARKEST)).clamp(*GAIN)
    gain, weight = _seen_on(*(shapes, view, gain, masks, rendering.depth, rendering.mask, camera))
    mirrored = (1 - weight) * weight.flip(-1) * symmetric
    total = weight + mirrored + PRIOR
    gain = (weight * gain + mirrored * gain.flip(-1) + PRIOR) / total
    return replace(shapes, albedo=(shapes.albedo / 2 + 0.5).mul(gain).clamp(0, 1) * 2 - 1)


def seen_on(
    shapes: Shape,
    view: Tensor,
    maps: Tensor,
    masks: Tensor,
    camera: Camera,
    renderer: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """What maps (B, C, S, S) of inputs show of the points of their shapes, (B, C, S, S) in the
    canonical frame, and how well each point is seen, (B, 1, S, S) in [0, 1].

    The former is differentiable in shapes and views (B, 6). A point is not seen where it faces
    away, is behind another, or outside of the object's masks (B, S, S).
    """
    with torch.no_grad():
        front, covered = render_depth(shapes.depth, view, camera, renderer)
    return _seen_on(shapes, view, maps, masks, front, covered, camera)


@torch.no_grad()
def on_shapes(shapes: Shape, view: Tensor, maps: Tensor, camera: Camera) -> Tensor:
    """What maps (B, C, S, S) of inputs hold at the points of their shapes, hidden ones too.

    (B, C, S, S) in the canonical frame; 0 at points outside of the input.
    """
    return _sampled(shapes, view, maps, camera)[0]


def _seen_on(
    shapes: Shape,
    view: Tensor,
    maps: Tensor,
    masks: Tensor,
    front: Tensor,
    covered: Tensor,
    camera: Camera,
) -> tuple[Tensor, Tensor]:
    """The same, from the shapes' depth in the views and where they cover them, (B, S, S) each."""
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


def _sampled(shapes: Shape, view: Tensor, maps: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """That, and how far away the points are in the views (B, 6), (B, 1, S, S)."""
    points = transform(unproject(shapes.depth, camera), view, camera)
    grid = project(points, camera) / (camera.size - 1) * 2 - 1
    return functional.grid_sample(maps, grid, align_corners=True), points[..., 2][:, None]


def painted_albedo(results: Mapping[str, Tensor], images: Tensor, config: RunConfig) -> Tensor:
    """Albedos (B, 3, S, S) of a run's results under their arrays' names, corrected by their inputs.

    Nothing is taken of an input (B, 3, S, S) from where the result's mask is empty.
    """
    camera, symmetric = Camera.from_config(config.camera), config.optimization.symmetric
    shapes = Shape.of(results["depth"], results["albedo"], camera)
    view, light, mask = (results[name] for name in ("view", "light", "mask"))
    return paint(
        shapes, view, light, images, mask, camera, config.renderer, symmetric=symmetric
    ).albedo

"""What people see of a training: sheets of pictures."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gan2shape.jobs.gan.samples import write_grid
from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.reconstruct import shapes_of
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.pictures import normal_picture, turn

SHOWN = 8
TURN_DEGREES = 35.0
COLUMNS = 6


@torch.no_grad()
def write_pictures(path: Path, group: Group) -> Tensor:
    """A row for each of the first images: input, reconstruction, albedo, normals, turned left and
    right. Returns the views (N, 6) that the networks see in all images.
    """
    shapes = shapes_of(group, {})
    write_sheet(
        path,
        group.targets.images[:SHOWN],
        shapes.reconstruction[:SHOWN],
        shapes.depth[:SHOWN],
        shapes.albedo[:SHOWN],
        shapes.view[:SHOWN],
        shapes.light[:SHOWN],
        shapes.mask[:SHOWN],
        group.camera,
    )
    return shapes.view


def write_sheet(
    path: Path,
    images: Tensor,
    reconstruction: Tensor,
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    mask: Tensor,
    camera: Camera,
) -> None:
    """The rows of `write_pictures` for any shapes; the names are those of `Shapes`."""
    angle = math.radians(TURN_DEGREES)
    turns = torch.tensor([[0.0, angle, 0.0], [0.0, -angle, 0.0]])
    turned = turn(depth, albedo, view, light, turns, camera)  # (B, 2, 3, S, S)
    normals = normal_picture(depth, view, camera, mask=mask)
    flat = torch.stack([images, reconstruction, albedo, normals], 1)
    sheet = torch.cat([flat, turned], 1).flatten(0, 1)  # (B * COLUMNS, 3, S, S)
    path.parent.mkdir(exist_ok=True)
    write_grid(path, sheet.nan_to_num().cpu(), COLUMNS)

"""Pictures of many images: grids of them, and sheets of what is known of each."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gan2shape.jobs.files import write_whole
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.pictures import normal_picture, turn

Pixels = npt.NDArray[np.uint8]
COLUMNS = 8
SHOWN = 8
"""Most images of a sheet."""
TURN_DEGREES = 35.0


def grid(pixels: Pixels, columns: int = COLUMNS) -> Pixels:
    """Images (N, S, S, 3) side by side in rows of `columns`, black where there are none left."""
    count, size = pixels.shape[:2]
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, size, size, 3), np.uint8)
    cells[:count] = pixels
    cells = cells.reshape(rows, columns, size, size, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * size, columns * size, 3)


def write_grid(path: Path, images: Tensor, columns: int = COLUMNS) -> None:
    """Write images (N, 3, S, S) in [-1, 1] as a PNG of rows of `columns`."""
    pixels = images.clamp(-1, 1).add(1.0).mul(127.5).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grid(pixels.permute(0, 2, 3, 1).numpy(), columns)).save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


@torch.no_grad()
def write_sheet(
    path: Path,
    images: Tensor,
    camera: Camera,
    *,
    reconstruction: Tensor,
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    mask: Tensor,
) -> None:
    """Write a row for each of the first images: input, reconstruction, albedo, normals, turned left
    and right.

    The tensors are those of `Shapes`, (B, ...) each, for images (B, 3, S, S) in [-1, 1].
    """
    found = [part[:SHOWN] for part in (images, reconstruction, albedo, depth, view, light, mask)]
    images, reconstruction, albedo, depth, view, light, mask = found
    angle = math.radians(TURN_DEGREES)
    turns = torch.tensor([[0.0, angle, 0.0], [0.0, -angle, 0.0]])
    turned = turn(depth, albedo, view, light, turns, camera)  # (B, 2, 3, S, S)
    normals = normal_picture(depth, view, camera, mask=mask)
    flat = torch.stack([images, reconstruction, albedo, normals], 1)
    sheet = torch.cat([flat, turned], 1)  # (B, columns, 3, S, S)
    path.parent.mkdir(exist_ok=True)
    write_grid(path, sheet.flatten(0, 1).nan_to_num().cpu(), sheet.shape[1])

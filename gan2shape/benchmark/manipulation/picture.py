"""A sheet of some heads: rows are methods, columns are changes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan2shape.jobs.files import write_whole

SHOWN = 3
SMALLEST = 128
"""Smaller pictures are enlarged by a whole factor to about this side."""
HEADER, GAP, MARGIN = 34, 18, 12
INK, PAPER = (40, 40, 40), (255, 255, 255)


def write_picture(
    path: Path,
    titles: Sequence[str],
    inputs_at: int,
    heads: Sequence[tuple[Tensor, dict[str, Tensor]]],
) -> None:
    """Write a PNG with a block for each head.

    Args:
        titles: of the K changes.
        inputs_at: the column, among the K, before which the input is shown.
        heads: input (3, S, S) and pictures (K, 3, S, S) by row, uint8.
    """
    size = heads[0][0].shape[-1]
    side = size * max(1, SMALLEST // size)
    columns = [*titles[:inputs_at], "Input", *titles[inputs_at:]]
    rows = list(heads[0][1])
    block = len(rows) * side + GAP
    font = ImageFont.load_default(16)
    left = int(max(font.getlength(row) for row in rows)) + 2 * MARGIN
    sheet = Image.new("RGB", (left + len(columns) * side, HEADER + len(heads) * block), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        place = (left + (column + 0.5) * side, HEADER / 2)
        pen.text(place, title, fill=INK, font=font, anchor="mm")
    for number, (own, pictures) in enumerate(heads):
        for row, (title, images) in enumerate(pictures.items()):
            top = HEADER + number * block + row * side
            pen.text((left - MARGIN, top + side / 2), title, fill=INK, font=font, anchor="rm")
            cells = [*images[:inputs_at], own if row == 0 else None, *images[inputs_at:]]
            for column, cell in enumerate(cells):
                if cell is not None:
                    sheet.paste(_tile(cell, side), (left + column * side, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


def _tile(pixels: Tensor, side: int) -> Image.Image:
    """(3, S, S) uint8, enlarged without smoothing."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return image.resize((side, side), Image.Resampling.NEAREST)

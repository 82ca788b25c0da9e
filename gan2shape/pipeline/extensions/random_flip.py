"""One side of a symmetric object at a time (setting `symmetry_sides: random`).

The paper compares every target with the shape and with its mirror image. One of the two, drawn at
random, has the same objective on average at half the cost.
"""

from __future__ import annotations

import torch
from torch import Generator

from gan2shape.pipeline.scene.shape import Shape


def random_side(shapes: Shape, random: Generator) -> list[Shape]:
    """Return the B shapes with a random half of them mirrored, as the only side to compare."""
    draw = torch.rand(len(shapes.depth), generator=random, device=random.device)
    return [shapes.mirrored_where(draw < 0.5)]

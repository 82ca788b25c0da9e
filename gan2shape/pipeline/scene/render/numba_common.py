"""What the compiled CPU kernels share: how they are compiled, the lens, and the pose of a view.

All arithmetic is float64 whatever the arrays hold: it keeps an identity view exact. Every kernel
works on the images first .. last-1 of a batch, touches nothing else and releases the GIL, so
callers may split a batch over threads. Loops that only compute stand apart from those that look
things up, so that the compiler can vectorise them.

Numba's disk cache watches only the file of the outermost kernel: after a change to this file,
remove the `.nbc` and `.nbi` files in `__pycache__`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(*freedoms: str) -> Callable[[Kernel], Kernel]:
    """Compile without the GIL, cached on disk where Numba finds a place that it may write to.

    `freedoms` are fastmath flags besides fusing multiplication and addition.
    """

    def compile_one(kernel: Kernel) -> Kernel:
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "fastmath": {"contract", *freedoms},
        }
        try:
            result: Kernel = njit(cache=True, **options)(kernel)
        except RuntimeError:
            result = njit(**options)(kernel)
        return result

    return compile_one


class Lens(NamedTuple):
    """What the kernels need to know of a camera, in pixels and scene units."""

    focal: float
    center: float
    pivot: float
    """Depth of the rotation centre."""
    near: float
    low: float
    high: float
    """Ends of the range that rendered depths are held in."""


@compiled()
def pose(view: Array, rotation: Array, slopes: Array) -> None:
    """Fill R (3, 3) = Rz Ry Rx and its derivatives (3, 3, 3) by the angles of one view (6,)."""
    sx, cx = math.sin(view[0]), math.cos(view[0])
    sy, cy = math.sin(view[1]), math.cos(view[1])
    sz, cz = math.sin(view[2]), math.cos(view[2])
    rotation[0, 0], rotation[0, 1], rotation[0, 2] = (
        cz * cy,
        cz * sy * sx - sz * cx,
        cz * sy * cx + sz * sx,
    )
    rotation[1, 0], rotation[1, 1], rotation[1, 2] = (
        sz * cy,
        sz * sy * sx + cz * cx,
        sz * sy * cx - cz * sx,
    )
    rotation[2, 0], rotation[2, 1], rotation[2, 2] = -sy, cy * sx, cy * cx
    for row in range(3):
        # d/dx mixes the last two columns, d/dz the first two rows.
        slopes[0, row, 0] = 0.0
        slopes[0, row, 1] = rotation[row, 2]
        slopes[0, row, 2] = -rotation[row, 1]
        slopes[2, 0, row] = -rotation[1, row]
        slopes[2, 1, row] = rotation[0, row]
        slopes[2, 2, row] = 0.0
    slopes[1, 0, 0], slopes[1, 0, 1], slopes[1, 0, 2] = -cz * sy, cz * cy * sx, cz * cy * cx
    slopes[1, 1, 0], slopes[1, 1, 1], slopes[1, 1, 2] = -sz * sy, sz * cy * sx, sz * cy * cx
    slopes[1, 2, 0], slopes[1, 2, 1], slopes[1, 2, 2] = -cy, -sy * sx, -sy * cx


@compiled()
def pull_angles(slopes: Array, turned: Array, grad_view: Array) -> None:
    """Gradient by the three angles of one view from that by R (3, 3)."""
    for axis in range(3):
        total = 0.0
        for row in range(3):
            for column in range(3):
                total += slopes[axis, row, column] * turned[row, column]
        grad_view[axis] = total

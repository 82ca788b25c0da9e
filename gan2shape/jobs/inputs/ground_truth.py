"""Ground-truth depth of one manifest row, as it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gan2shape.jobs.inputs.images import load_depth, load_mask
from gan2shape.schemas.settings import CameraConfig

Array = npt.NDArray[np.float32]


def load_truth(row: Mapping[str, Any], camera: CameraConfig) -> tuple[Array, Array]:
    """True depth in scene units and object mask in {0, 1}, each (S, S) float32.

    The object is where the row's mask says so, or else where the depth is nearer than the
    background (`max_depth`); pixels without a finite depth are never part of it and hold
    `max_depth`. Raises `ImageError` when a file cannot be used.
    """
    depth = load_depth(row["truth_uri"], camera.size)
    finite = np.isfinite(depth)
    depth = np.where(finite, depth, np.float32(camera.max_depth))
    if row.get("mask_uri"):
        mask = finite & load_mask(row["mask_uri"], camera.size)
    else:
        mask = finite & (depth < camera.max_depth - 1e-4)
    return depth, mask.astype(np.float32)

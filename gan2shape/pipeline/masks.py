"""Object masks from a plain dark background, on arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage


def background_mask(image: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.bool_]:
    """The object in front of a dark background.

    `image` is (S, S, 3) in [0, 1]. A pixel belongs to the object when its brightest channel is
    above `threshold`; holes (pupils, dark hair enclosed by skin) are filled and only the largest
    connected piece is kept. Returns (S, S), all false when nothing is above the threshold.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (S, S, 3), not {image.shape}")
    bright = ndimage.binary_fill_holes(image.max(axis=2) > threshold)
    labels, count = ndimage.label(bright)
    if count == 0:
        return np.zeros(image.shape[:2], dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())

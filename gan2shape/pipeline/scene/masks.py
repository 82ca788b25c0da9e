"""Object masks from a plain dark background."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor


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


def object_masks(images: Tensor, threshold: float) -> Tensor:
    """The objects (B, S, S) bool in images (B, 3, S, S) in [-1, 1], by `background_mask`."""
    pixels = (images / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
    found = [torch.from_numpy(background_mask(image, threshold)) for image in pixels]
    return torch.stack(found).to(images.device)

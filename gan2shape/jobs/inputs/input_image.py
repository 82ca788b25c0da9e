"""One image of the manifest with its mask, as the pipeline takes them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.inputs.images import ImageError, load_image, load_mask
from gan2shape.pipeline.scene.masks import background_mask
from gan2shape.schemas.settings import RunConfig


@dataclass(frozen=True)
class InputImage:
    """An image that was read; `error` says why there is nothing to work on."""

    manifest: dict[str, Any]
    error: str | None = None
    width: int | None = None
    """Of the file, in pixels; so is the height."""
    height: int | None = None
    pixels: Tensor | None = None
    """(3, S, S) in [-1, 1]."""
    mask: Tensor | None = None
    """(S, S) in {0, 1}."""
    seconds: float = 0.0
    """That reading took."""

    @property
    def id(self) -> str:
        return str(self.manifest["image_id"])


def load_input_image(row: dict[str, Any], config: RunConfig) -> InputImage:
    """Read the image of a manifest row and its mask; a problem becomes the image's error."""
    start = time.perf_counter()
    try:
        image = load_image(row["uri"], config.camera.size)
        mask = _mask(row, image.pixels, image.alpha, config)
    except ImageError as error:
        return InputImage(row, error=f"{row['uri']} {error}.")
    return InputImage(
        row,
        width=image.width,
        height=image.height,
        pixels=torch.from_numpy(image.pixels).permute(2, 0, 1).contiguous() * 2 - 1,
        mask=torch.from_numpy(mask.astype(np.float32)),
        seconds=time.perf_counter() - start,
    )


def _mask(row: dict[str, Any], pixels: Any, alpha: Any, config: RunConfig) -> Any:
    if config.mask == "none":
        return np.ones(pixels.shape[:2], dtype=bool)
    if config.mask == "given" and row["mask_uri"]:
        try:
            mask = load_mask(row["mask_uri"], pixels.shape[0])
        except ImageError as error:
            raise ImageError(f"has a mask, {row['mask_uri']}, that {error}") from error
    elif alpha is not None:
        mask = alpha > 0.5
    elif config.mask == "given":
        raise ImageError("has no mask; give --masks, or use '--set mask=background' or 'mask=none'")
    else:
        mask = background_mask(pixels, config.background_threshold)
    if not mask.any():
        raise ImageError(f"shows no object: its mask ({config.mask}) is empty")
    return mask

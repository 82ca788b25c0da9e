"""Read images, masks and depth from anywhere; whatever is wrong with a file becomes a sentence.

Every array comes back square, of the run's size, from the same centre crop and resize.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Array = npt.NDArray[np.float32]

MAX_PIXELS = 100_000_000
"""Largest image that is decoded; a JPEG is first reduced by its decoder, so it may be larger."""
MAX_BYTES = 512 << 20
"""Largest file that is read from an object store; local files are read piece by piece."""
MIN_SIDE = 8
DEPTH_RANGE_8BIT = (0.9, 1.1)
"""Scene depth of white and black in the 8-bit layout of Unsup3d's loaders."""


class ImageError(Exception):
    """A file cannot be used; the message is the reason, and the image's row in the results."""


@dataclass(frozen=True)
class LoadedImage:
    """An image, ready for the pipeline."""

    pixels: Array
    """(S, S, 3) in [0, 1]; transparent parts are composited over black."""
    alpha: Array | None
    """(S, S) in [0, 1], where the file has transparent parts."""
    width: int
    height: int


def load_image(uri: str, size: int) -> LoadedImage:
    """Read the image at `uri`, upright, cropped to its central square, resized to `size`.

    Grey, palette, 16-bit, CMYK and transparent images and the first frame of animations are
    converted. Raises `ImageError` with the reason when the file is missing, empty, damaged, no
    image, or too large.
    """
    with _decoded(uri, size) as (picture, (width, height)):
        if min(width, height) < MIN_SIDE:
            raise ImageError(f"is {width} x {height} pixels, less than {MIN_SIDE} on a side")
        colours, alpha = _channels(_central_square(picture), size)
    return LoadedImage(colours, alpha, width, height)


def load_mask(uri: str, size: int) -> npt.NDArray[np.bool_]:
    """Read a mask, (S, S): true where the image at `uri` is brighter than half its range."""
    with _decoded(uri, size) as (picture, _):
        square = _central_square(picture)
        if square.mode == "P":  # label images: 0 is background
            labels = (np.asarray(square) > 0).astype(np.float32)
            return _resized(labels[..., None], size)[..., 0] > 0.5
        colours, alpha = _channels(square, size)
        values = colours.max(axis=2)
        if alpha is not None and values.max() == values.min():
            values = alpha
        return values > max(0.5 * float(values.max()), 0.0)  # 0 and 1 make a mask too


def load_depth(uri: str, size: int) -> Array:
    """Read ground-truth depth in scene units, (S, S); NaN where the file has no depth.

    Takes float TIFF and `.npy`, and 8-bit PNG in the layout of Unsup3d (white 0.9, black 1.1).
    """
    if uri.lower().endswith(".npy"):
        try:
            depth = np.load(io.BytesIO(_bytes(uri)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ImageError(f"ground truth is no NumPy array: {_one_line(error)}") from error
    else:
        with _decoded(uri, size, draft=False) as (picture, _):
            depth = np.array(picture)
    if depth.dtype == np.uint8:
        near, far = DEPTH_RANGE_8BIT
        grey = depth if depth.ndim == 2 else depth[..., 0]
        depth = far - grey.astype(np.float32) / 255 * (far - near)
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise ImageError(
            f"ground truth must be a 2D floating-point image, not {depth.dtype} {depth.shape}"
        )
    depth = depth.astype(np.float32)
    depth = np.where(np.isfinite(depth), depth, np.float32(np.nan))
    if np.isnan(depth).all():
        raise ImageError("ground truth holds no number")
    left, top, side = _crop(depth.shape[1], depth.shape[0])
    return _resized(depth[top : top + side, left : left + side, None], size)[..., 0]


@contextmanager
def _decoded(
    uri: str, size: int, draft: bool = True
) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """The decoded first frame of `uri` and its full size; what a decoder raises is `ImageError`."""
    with _opened(uri) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's own size warnings; the limit is ours
                with Image.open(file) as picture:
                    full = picture.size
                    if draft and picture.format == "JPEG":
                        picture.draft(None, (2 * size, 2 * size))
                    width, height = picture.size
                    if width * height > MAX_PIXELS:
                        raise ImageError(
                            f"has {width * height / 1e6:.0f} million pixels ({width} x {height}); "
                            f"the limit is {MAX_PIXELS / 1e6:.0f} million"
                        )
                    picture.load()
                    yield picture, full
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"is too large: {_one_line(error)}") from error
        except Image.UnidentifiedImageError as error:
            raise ImageError("is not an image that can be read") from error
        except MemoryError as error:
            raise ImageError("does not fit in memory") from error
        except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error
            raise ImageError(f"is damaged: {_one_line(error)}") from error


@contextmanager
def _opened(uri: str) -> Iterator[BinaryIO]:
    try:
        if "://" in uri:
            file = cast(BinaryIO, io.BytesIO(_bytes(uri)))
        else:
            if os.path.getsize(uri) == 0:
                raise ImageError("is empty (0 bytes)")
            file = open(uri, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        raise ImageError("is missing") from error
    except OSError as error:
        raise ImageError(f"cannot be opened: {error.strerror or _one_line(error)}") from error
    with file:
        yield file


def _bytes(uri: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(uri, "rb") as file:
            data = cast(bytes, file.read(MAX_BYTES + 1))
    except FileNotFoundError as error:
        raise ImageError("is missing") from error
    except Exception as error:  # every object store has its own exceptions
        raise ImageError(f"cannot be read: {_one_line(error)}") from error
    if not data:
        raise ImageError("is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise ImageError(f"is larger than {MAX_BYTES >> 20} MB")
    return data


def _crop(width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the central square."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def _central_square(picture: Image.Image) -> Image.Image:
    """The upright central square of a decoded picture."""
    upright = ImageOps.exif_transpose(picture)
    left, top, side = _crop(*upright.size)
    return upright.crop((left, top, left + side, top + side))


def _channels(square: Image.Image, size: int) -> tuple[Array, Array | None]:
    """Colours (S, S, 3) in [0, 1] over black, and alpha (S, S) where there is any."""
    mode = square.mode
    if mode.startswith("I") or mode == "F":
        grey = _wide_grey(np.asarray(square), mode)
        return np.repeat(_resized(grey[..., None], size), 3, axis=2), None
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in square.info:
        # Premultiplied colours are the composite over black, and resizing them is right.
        premultiplied = _converted(square, "RGBA").convert("RGBa")
        values = _resized(_floats(premultiplied, size), size)
        alpha = values[..., 3]
        return np.ascontiguousarray(values[..., :3]), (alpha if alpha.min() < 1 else None)
    return _resized(_floats(_converted(square, "RGB"), size), size), None


def _floats(square: Image.Image, size: int) -> Array:
    """(side, side, C) in [0, 1]; a very large picture is averaged down first, to bound memory."""
    factor = square.size[0] // (4 * size)
    if factor > 1:
        square = square.reduce(factor)
    return cast(Array, np.asarray(square, dtype=np.float32) / np.float32(255))


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return cast(Image.Image, ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB"))
    return picture.convert(mode)


def _wide_grey(values: npt.NDArray[Any], mode: str) -> Array:
    """Grey of more than 8 bits as [0, 1]: by the range of the type, never by clipping."""
    if mode == "F":
        finite = values[np.isfinite(values)]
        if finite.size < values.size or finite.min() < 0 or finite.max() > 1:
            raise ImageError("is a floating-point image with values outside 0 to 1")
        return values.astype(np.float32)
    if values.min() < 0:
        raise ImageError("is an integer image with negative values")
    # Pillow gives 16-bit files as 32-bit integers too; only larger values tell a wider file.
    limit = 65535 if values.max() <= 65535 else 2**31 - 1
    return (values.astype(np.float64) / limit).astype(np.float32)


def _resized(values: Array, size: int) -> Array:
    """Resize square (side, side, C) with antialiasing to (size, size, C)."""
    side, _, channels = values.shape
    if side == size:
        return np.ascontiguousarray(values, dtype=np.float32)
    method = Image.Resampling.BOX if side % size == 0 else Image.Resampling.BICUBIC
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(channels)]
    resized = np.stack([np.asarray(plane.resize((size, size), method)) for plane in planes], axis=2)
    return np.clip(resized, np.nanmin(values), np.nanmax(values)).astype(np.float32)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

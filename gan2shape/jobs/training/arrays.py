"""Images, and their true depth, as memory-mapped arrays: read once, for all epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.images import ImageError, load_image
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.progress import Note
from gan2shape.jobs.training.workdir import Cache
from gan2shape.pipeline.training.trainer import Batch
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig

Pixels = npt.NDArray[np.uint8]
VALUES, ABOUT = "values", "about.json"
MIN_IMAGES = 8
PIECE = 1024
"""Items in memory at a time."""


@dataclass(frozen=True)
class CachedRows:
    """What was read of the usable ones of many files."""

    values: npt.NDArray[Any]
    """(N, ...) memory-mapped, in the order of the files."""
    kept: npt.NDArray[np.int64]
    """(N,) the numbers of the files that they come from."""
    key: Any
    """Tells them from those of other files."""


@dataclass(frozen=True)
class Examples:
    """Images to learn from, and their true depth where it is wanted."""

    images: Pixels
    """(N, S, S, 3)"""
    depths: npt.NDArray[np.float32] | None = None
    """(M, S, S) in scene units, NaN outside the object."""
    usable: npt.NDArray[np.int64] | None = None
    """(M,) the images that these depths are of, in ascending order."""

    def __len__(self) -> int:
        return len(self.images if self.depths is None else self.depths)

    def batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        """The examples of `rows` (B,), which are in ascending order, as the disk likes it."""
        if self.depths is None or self.usable is None:
            return Batch(to_images(self.images[rows]))
        return Batch(to_images(self.images[self.usable[rows]]), torch.from_numpy(self.depths[rows]))


def read_images(
    source: str, size: int, cache: Cache, note: Note, most: int | None = None, name: str = "images"
) -> CachedRows:
    """The images of `source` as uint8 (N, S, S, 3), kept in `cache` under `name`.

    Of more than `most` images a random choice, always the same. Images that cannot be used are left
    out, with a note. Raises `ScanError` or `UserError` when too few are left.
    """
    found = scan(source).images
    if most is not None:
        found = tuple(found[row] for row in subset(len(found), most))

    def read(uri: str) -> Pixels:
        return np.round(load_image(uri, size).pixels * 255).astype(np.uint8)

    def check(kept: int, reasons: Sequence[str]) -> None:
        if kept < MIN_IMAGES:
            why = f" ({reasons[0]})" if reasons else ""
            raise UserError(
                f"{source} has {kept} usable images{why}; at least {MIN_IMAGES} are needed, "
                "and thousands to be of use."
            )

    key = [size, [[image.path, image.size] for image in found]]
    uris = [image.path for image in found]
    like = np.empty((size, size, 3), np.uint8)
    return _cached(cache, name, key, uris, read, like, check, note)


def read_examples(
    source: str, camera: CameraConfig, cache: Cache, note: Note, name: str = ""
) -> Examples:
    """The images of a data set with their true depth, kept in `cache` under names with `name`.

    Images without usable depth are left out, with a note. Raises `UserError` when there is none
    with it.
    """
    images = read_images(source, camera.size, cache, note, name=f"{name}images")
    manifest = scan(source).manifest(1).to_pylist()
    rows = [manifest[number] for number in images.kept]
    if not any(row["truth_uri"] for row in rows):
        raise UserError(
            f"{source} has no true depth to learn from; give a data set with depth/ beside image/, "
            "such as 'gan2shape synth heads' makes."
        )

    def read(row: dict[str, Any]) -> npt.NDArray[np.float32]:
        if not row["truth_uri"]:
            raise ImageError("has no depth")
        try:
            depth, mask = load_truth(row, camera)
        except ImageError as error:
            raise ImageError(f"has a depth file {row['truth_uri']} that {error}") from error
        if not mask.any():
            raise ImageError("shows no object")
        return np.where(mask > 0, depth, np.float32(np.nan))

    def check(kept: int, reasons: Sequence[str]) -> None:
        if not kept:
            raise UserError(f"No depth file of {source} can be used; the first: {reasons[0]}.")

    key = [images.key, camera.model_dump(), [[row["truth_uri"], row["mask_uri"]] for row in rows]]
    like = np.empty((camera.size, camera.size), np.float32)
    depths = _cached(cache, f"{name}depths", key, rows, read, like, check, note)
    return Examples(images.values, depths.values, depths.kept)


def to_images(pixels: Pixels) -> Tensor:
    """(N, S, S, 3) uint8 as (N, 3, S, S) float32 in [-1, 1], in channels_last."""
    values = torch.from_numpy(np.ascontiguousarray(pixels))
    return values.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def subset(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of `count` row numbers, a random choice in ascending order, always the same
    one.
    """
    return np.sort(_shuffled(count)[:most])


def others(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` row numbers that `subset` does not choose, likewise."""
    return np.sort(_shuffled(count)[most : 2 * most])


def _shuffled(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)


def _cached(
    cache: Cache,
    name: str,
    key: Any,
    files: Sequence[Any],
    read: Callable[[Any], npt.NDArray[Any]],
    like: npt.NDArray[Any],
    check: Callable[[int, Sequence[str]], None],
    note: Note,
) -> CachedRows:
    """What `read` makes of the `files`, arrays like `like`; it raises `ImageError` for unusable
    ones. `check(usable files, reasons of the others)` may raise.
    """

    def attempt(file: Any) -> npt.NDArray[Any] | str:
        try:
            return read(file)
        except ImageError as error:
            return f"{file['uri'] if isinstance(file, dict) else file} {error}"

    def make(folder: Path) -> None:
        note(f"reading {len(files)} {name}")
        kept, reasons = [], []
        with (folder / VALUES).open("wb") as target:
            for number, result in enumerate(_in_pieces(attempt, files)):
                if isinstance(result, str):
                    reasons.append(result)
                else:
                    target.write(result.tobytes())
                    kept.append(number)
            target.flush()
            os.fsync(target.fileno())
        check(len(kept), reasons)
        if reasons:
            note(f"left out {len(reasons)} {name}, the first: {reasons[0]}")
        write_whole(folder / ABOUT, json.dumps({"kept": kept}).encode())

    def load(folder: Path) -> CachedRows:
        kept = np.array(json.loads((folder / ABOUT).read_text())["kept"], np.int64)
        shape = (len(kept), *like.shape)
        return CachedRows(np.memmap(folder / VALUES, like.dtype, "r", shape=shape), kept, key)

    return cache.get(name, key, make, load)


def _in_pieces(
    read: Callable[[Any], npt.NDArray[Any] | str], files: Sequence[Any]
) -> Iterator[npt.NDArray[Any] | str]:
    """Results in order, with few of them in memory at a time."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(files), PIECE):
            yield from pool.map(read, files[start : start + PIECE])

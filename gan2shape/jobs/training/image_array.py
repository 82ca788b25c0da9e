"""The images of a training as one memory-mapped array: read once, shared by every later run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.files import replacing, write_whole
from gan2shape.jobs.inputs.images import ImageError, load_image
from gan2shape.jobs.inputs.scan import Found, scan
from gan2shape.pipeline.stylegan2.training.trainer import TrainingError

Pixels = npt.NDArray[np.uint8]
DATASET = "dataset.npy"
MIN_IMAGES = 8


def dataset(
    source: str,
    size: int,
    out: Path,
    note: Callable[[str], None] = lambda text: None,
    most: int | None = None,
) -> Pixels:
    """The images of `source` as memory-mapped uint8 (N, S, S, 3), in `out`; read once.

    Of more than `most` images a random choice, always the same. Images that cannot be used are left
    out. Raises `ScanError` or `TrainingError` when too few are left.
    """
    path, record = out / DATASET, out / f"{DATASET}.json"
    found = scan(source).images
    if most is not None:
        found = tuple(found[row] for row in subset(len(found), most))
    key = _listing_key(found, size)
    if path.exists() and record.exists() and json.loads(record.read_text()).get("key") == key:
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    uris = [image.path for image in found]
    note(f"reading {len(uris)} images")
    with replacing(path) as file:
        bad = _read_images(uris, size, Path(file.name))
        kept = len(uris) - len(bad)
        if kept < MIN_IMAGES:
            why = f" ({next(iter(bad.values()))})" if bad else ""
            raise TrainingError(
                f"{source} has {kept} usable images{why}; at least {MIN_IMAGES} are needed, "
                "and thousands to be of use."
            )
        if bad:
            note(f"left out {len(bad)} images, the first: {next(iter(bad.values()))}")
    about = {
        "key": key,
        "images": kept,
        "left_out": list(bad.values())[:100],
        "rows_left_out": list(bad),
    }
    write_whole(record, json.dumps(about).encode())
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def dataset_key(out: Path) -> str:
    """Which images `dataset` put into `out`."""
    return str(json.loads((out / f"{DATASET}.json").read_text())["key"])


def rows_left_out(out: Path) -> set[int]:
    """Which of the images of the listing `dataset` could not use."""
    return set(json.loads((out / f"{DATASET}.json").read_text())["rows_left_out"])


def to_images(pixels: Pixels) -> Tensor:
    """(N, S, S, 3) uint8 as (N, 3, S, S) float32 in [-1, 1], in channels_last."""
    values = torch.from_numpy(np.ascontiguousarray(pixels))
    return values.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def subset(count: int, most: int) -> npt.NDArray[np.int64]:
    """`most` of `count` indices, at random, always the same ones, in order."""
    return np.sort(_shuffled(count)[:most])


def others(count: int, most: int) -> npt.NDArray[np.int64]:
    """`most` indices besides those of `subset`, likewise."""
    return np.sort(_shuffled(count)[most : 2 * most])


def _shuffled(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)


def _read_images(uris: list[str], size: int, path: Path) -> dict[int, str]:
    """Write the usable images to `path`; returns the others' rows and a reason for each."""

    def read(uri: str) -> Pixels | str:
        try:
            return np.round(load_image(uri, size).pixels * 255).astype(np.uint8)
        except ImageError as error:
            return f"{uri} {error}"

    bad: dict[int, str] = {}
    raw = path.with_name(f"{path.name}.raw")
    kept = 0
    try:
        with open(raw, "wb") as file, ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for row, result in enumerate(_in_pieces(pool, read, uris)):
                if isinstance(result, str):
                    bad[row] = result
                else:
                    file.write(result.tobytes())
                    kept += 1
        with open(path, "wb") as target:
            header = {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (kept, size, size, 3),
            }
            np.lib.format.write_array_header_2_0(target, header)
            with open(raw, "rb") as source:
                while piece := source.read(1 << 24):
                    target.write(piece)
    finally:
        raw.unlink(missing_ok=True)
    return bad


def _in_pieces(
    pool: ThreadPoolExecutor, read: Callable[[str], Pixels | str], uris: list[str]
) -> Iterator[Pixels | str]:
    """Results in order, with few images in memory at a time."""
    for start in range(0, len(uris), 1024):
        yield from pool.map(read, uris[start : start + 1024])


def _listing_key(found: Sequence[Found], size: int) -> str:
    listing = [[image.path, image.size] for image in found]
    return hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()

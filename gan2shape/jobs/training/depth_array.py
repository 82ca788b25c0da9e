"""Images with their true depth as memory-mapped arrays: read once, like the images alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gan2shape.jobs.files import replacing, write_whole
from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.images import ImageError
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.training.image_array import Pixels, dataset, rows_left_out, to_images
from gan2shape.pipeline.training.trainer import Batch
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig

TRUTH = "truth.npy"
PIECE = 1024


@dataclass(frozen=True)
class Examples:
    """Images of a folder to learn from, and their true depth where it is wanted."""

    images: Pixels
    """(N, S, S, 3)"""
    depths: npt.NDArray[np.float32] | None = None
    """(N, S, S) in scene units, NaN outside the object."""
    usable: npt.NDArray[np.int64] | None = None
    """Which of the images have such depth."""

    def __len__(self) -> int:
        return len(self.images if self.usable is None else self.usable)

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Examples (B,), in the order of the disk."""
        rows = np.sort(indices if self.usable is None else self.usable[indices])
        images = to_images(self.images[rows])
        if self.depths is None:
            return Batch(images)
        return Batch(images, torch.from_numpy(self.depths[rows]))


def true_dataset(
    source: str,
    camera: CameraConfig,
    out: Path,
    note: Callable[[str], None] = lambda text: None,
) -> Examples:
    """The images of a data set with their true depth, as memory-mapped arrays in `out`.

    Images without usable depth are left out. Raises `UserError` when there are none with it.
    """
    images = dataset(source, camera.size, out, note)
    manifest = scan(source).manifest(1).to_pylist()
    left_out = rows_left_out(out)
    rows = [row for number, row in enumerate(manifest) if number not in left_out]
    if not any(row["truth_uri"] for row in rows):
        raise UserError(
            f"{source} has no true depth to learn from; give a data set with depth/ beside image/, "
            "such as 'gan2shape synth heads' makes."
        )
    path, record = out / TRUTH, out / f"{TRUTH}.json"
    named = [[row["truth_uri"], row["mask_uri"]] for row in rows]
    key = hashlib.sha256(json.dumps([camera.model_dump(), named]).encode()).hexdigest()
    if not path.exists() or not record.exists() or json.loads(record.read_text())["key"] != key:
        note(f"reading the true depth of {len(rows)} images")
        bad = _read_depths(rows, camera, path)
        if bad:
            note(f"left out {len(bad)} images, the first: {next(iter(bad.values()))}")
        about = {"key": key, "rows_left_out": list(bad)}
        write_whole(record, json.dumps(about).encode())
    depths = np.load(path, mmap_mode="r")
    usable = np.setdiff1d(
        np.arange(len(rows)), np.array(json.loads(record.read_text())["rows_left_out"], dtype=int)
    )
    if not len(usable):
        raise UserError(f"None of the depth files of {source} can be used; see the note above.")
    return Examples(images, depths, usable)


def _read_depths(rows: list[dict[str, Any]], camera: CameraConfig, path: Path) -> dict[int, str]:
    """Write the true depths (N, S, S), NaN outside the objects; returns a reason for each that is
    missing, by its number.
    """
    bad: dict[int, str] = {}

    def read(row: dict[str, Any]) -> npt.NDArray[np.float32] | str:
        if not row["truth_uri"]:
            return f"{row['uri']} has no depth"
        try:
            depth, mask = load_truth(row, camera)
        except ImageError as error:
            return f"{row['truth_uri']} {error}"
        if not mask.any():
            return f"{row['uri']} shows no object"
        return np.where(mask > 0, depth, np.float32(np.nan))

    shape = (len(rows), camera.size, camera.size)
    with replacing(path) as file:
        depths = np.lib.format.open_memmap(file.name, "w+", np.dtype(np.float32), shape)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, len(rows), PIECE):
                found = pool.map(read, rows[start : start + PIECE])
                for number, result in enumerate(found, start):
                    if isinstance(result, str):
                        bad[number] = result
                        depths[number] = np.nan
                    else:
                        depths[number] = result
        depths.flush()
    return bad

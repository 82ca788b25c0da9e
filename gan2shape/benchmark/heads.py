"""The heads of a benchmark: drawn once, in pieces that an interruption leaves whole."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from torch import Tensor

from gan2shape.benchmark.plan import KEY_SHOWN, HeadSet
from gan2shape.jobs.files import TEMPORARY, write_whole
from gan2shape.jobs.inputs.images import ImageError
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.progress import Show
from gan2shape.jobs.report.reference_rows import average_depth
from gan2shape.jobs.synthetic import description, write_heads
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig

PIECE = 500
"""Heads that are drawn from one point to go on from to the next."""
TABLE, ABOUT = "truth.parquet", "dataset.yaml"
FOLDERS = ("image", "depth", "mask", "albedo")


def make_heads(folder: Path, heads: HeadSet, show: Show) -> bool:
    """Draw the heads into `folder`, unless they are there; returns whether there was need to.

    Raises `UserError` when the folder holds anything else.
    """
    if is_complete(folder, heads):
        return False
    if folder.exists():
        raise UserError(
            f"{folder} does not hold the {heads}; give the options that it was made with, or "
            "another directory."
        )
    pieces = folder.with_name(f"{TEMPORARY}heads-{heads.key[:KEY_SHOWN]}")
    for start in range(0, heads.count, PIECE):
        seeds, piece = heads.seeds[start : start + PIECE], pieces / f"{start:06d}"
        if not (piece / TABLE).exists():  # which is written last

            def drawn(done: int, total: int, before: int = start) -> None:
                show("heads", "heads", before + done, heads.count)

            write_heads(piece, seeds, heads.size, on_progress=drawn)
    _join(pieces, folder, heads)
    return True


def is_complete(folder: Path, heads: HeadSet) -> bool:
    """Whether `folder` holds exactly these heads."""
    try:
        about = yaml.safe_load((folder / ABOUT).read_text())
        seeds = pq.read_table(folder / TABLE, columns=["seed"])["seed"].to_pylist()
        found = (about["size"], about["recipe"], seeds)
    except (OSError, yaml.YAMLError, pa.ArrowInvalid, KeyError, TypeError):
        return False
    return found == (heads.size, heads.recipe, list(heads.seeds))


def _join(pieces: Path, folder: Path, heads: HeadSet) -> None:
    """Make one data set of the pieces: it appears whole, under its name."""
    whole, *others = sorted(piece for piece in pieces.iterdir() if piece.is_dir())
    for piece in others:
        for name in FOLDERS:
            for file in (piece / name).iterdir():
                file.replace(whole / name / file.name)
    if not is_complete(whole, heads):
        table = pa.concat_tables([pq.read_table(piece / TABLE) for piece in (whole, *others)])
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_whole(whole / ABOUT, description(heads.seeds, heads.size).encode())
        write_whole(whole / TABLE, buffer.getvalue())
    whole.replace(folder)
    shutil.rmtree(pieces)


def entries(folder: Path) -> list[dict[str, Any]]:
    """A manifest's entry for each head, in the order of their seeds."""
    return list(scan(str(folder.resolve())).manifest(1).to_pylist())


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Raises `UserError` in place of what a damaged file in the heads' `folder` raises."""
    try:
        yield
    except ImageError as error:
        raise UserError(
            f"A file of the heads in {folder} {error}; remove that folder and give the same "
            "'gan2shape benchmark heads' again, which draws these heads anew."
        ) from error


def average_file(cache: Path, heads: HeadSet) -> Path:
    """Where the average true depth of the heads is kept."""
    return cache / f"average-{heads.key[:KEY_SHOWN]}.npy"


def make_average(file: Path, folder: Path, heads: HeadSet, show: Show) -> bool:
    """Average the true depths of the heads in `folder`; returns whether there was need to.

    Raises `UserError` when one of them cannot be used.
    """
    if file.exists():
        return False
    rows = entries(folder)

    def told() -> Iterator[dict[str, Any]]:
        for done, row in enumerate(rows, 1):
            yield row
            show("true depths", "true depths", done, len(rows))

    with usable(folder):
        mean = average_depth(told(), CameraConfig(size=heads.size)).result()
    buffer = io.BytesIO()
    np.save(buffer, mean.numpy())
    write_whole(file, buffer.getvalue())
    return True


def read_average(file: Path) -> Tensor | None:
    """The average depth (S, S) float64; `None` where it has not been made."""
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except FileNotFoundError:
        return None

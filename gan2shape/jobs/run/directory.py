"""The run directory as it is made and opened: its record, its manifest, its arrays while empty."""

from __future__ import annotations

import io
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from gan2shape.jobs.files import TEMPORARY, only_process
from gan2shape.jobs.run import arrays as zarr_arrays
from gan2shape.jobs.run.arrays import ARRAYS
from gan2shape.jobs.run.commits import COMMITS
from gan2shape.jobs.run.plan import RunPlan, ShardPlan
from gan2shape.jobs.run.record import RunError, RunRecord, Segment, read_record
from gan2shape.jobs.run.storage import Storage, bytes_record
from gan2shape.schemas.manifest import MANIFEST_SCHEMA
from gan2shape.schemas.results import ArraySpec, array_specs

RECORD = "run.yaml"
MANIFEST = "manifest/segment-0.parquet"
LATENTS = "latents/segment-0.npy"
METRICS = "metrics"
CHECKPOINTS = "checkpoints"
LOCK = "lock"
UNFINISHED = ".unfinished"
"""Stands in a directory that is being made a run, and is all that lets one be made over again."""
_ENTRIES = {"manifest", "latents", ARRAYS, METRICS, COMMITS, CHECKPOINTS, UNFINISHED}


class DamageError(RunError):
    """What a run has committed is not there as it was written."""


@dataclass(frozen=True)
class Run:
    """An open run directory."""

    path: Path
    record: RunRecord

    @property
    def files(self) -> Storage:
        """The files of the run."""
        return Storage(self.path)

    @property
    def plan(self) -> RunPlan:
        """Shards and groups of this run."""
        return self.record.plan

    @property
    def size(self) -> int:
        """Width and height of all images and maps."""
        return self.record.config.camera.size

    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays of `arrays.zarr`."""
        return array_specs(self.size, self.record.latent_size)

    def checkpoints(self, shard: int) -> Path:
        """Where `shard` keeps its optimisation state and progress."""
        return self.path / CHECKPOINTS / f"shard-{shard:06d}"

    def damaged(self, what: str, remedy: str = "") -> DamageError:
        """The error that says what is wrong, and which command mends it."""
        remedy = remedy or f"'gan2shape resume {self.path}' computes the shard again"
        return DamageError(f"In {self.path}, {what}; {remedy}.")


# Making and opening


def create_run(
    path: Path,
    record: RunRecord,
    manifest: pa.Table,
    latents: npt.NDArray[np.float32] | None = None,
) -> Run:
    """Make the run directory: manifest, empty arrays, and `run.yaml` last (it makes it a run).

    `latents` (N, D) are those given for all images at once. `record.segments` is made here. `path`
    must not exist, or be empty, or be what a killed creation left.
    """
    check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        check_free(path)  # now that no other process makes one there
        files = Storage(path)
        if (path / UNFINISHED).exists():
            _remove_unfinished(path)
        files.put(UNFINISHED, b"")
        for folder in (METRICS, COMMITS, CHECKPOINTS):
            (path / folder).mkdir()
        run = Run(
            path, replace(record, segments=(_write_segment(files, record, manifest, latents),))
        )
        put_array_files(run)
        files.put(RECORD, run.record.dump())
        files.remove(UNFINISHED)
        return run


def _write_segment(
    files: Storage,
    record: RunRecord,
    manifest: pa.Table,
    latents: npt.NDArray[np.float32] | None,
) -> Segment:
    buffer = io.BytesIO()
    # Row groups are whole shards, so that a task reads its own rows and not a million others.
    shard = record.config.shard_size
    pq.write_table(manifest, buffer, row_group_size=shard * max(1, 4096 // shard))
    contents = {MANIFEST: buffer.getvalue()}
    if latents is not None:
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(latents, dtype=np.float32))
        contents[LATENTS] = buffer.getvalue()
    for name, data in contents.items():
        files.put(name, data)
    records = {name: bytes_record(data) for name, data in contents.items()}
    return Segment(len(manifest), -(-len(manifest) // shard), records)


def check_free(path: Path) -> None:
    """Raise `RunError` unless a run can be made at `path`."""
    if path.is_file():
        raise RunError(f"{path} is a file; give another directory to --out.")
    if (path / RECORD).exists():
        raise RunError(
            f"{path} is a run already: finish it with 'gan2shape resume {path}', or give another "
            f"directory to --out."
        )
    names = {entry.name for entry in path.iterdir()} - {LOCK} if path.is_dir() else set()
    held = {name for name in names if not name.startswith(TEMPORARY)}
    if held and (UNFINISHED not in held or held - _ENTRIES):
        raise RunError(f"{path} exists and is not empty; give another directory to --out.")


def _remove_unfinished(path: Path) -> None:
    """Empty a directory whose creation was killed before it became a run: nothing is in it."""
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def open_run(path: Path) -> Run:
    """Open a run directory.

    Raises `RunError` when there is none, or its record or manifest is missing or damaged.
    """
    run = Run(path, read_record(path / RECORD))
    check_segments(run)
    return run


def check_segments(run: Run, verify: bool = False) -> None:
    """Raise `DamageError` unless manifest and given latents are those that the run began with.

    Compares presence and size, with `verify` also content.
    """
    for segment in run.record.segments:
        for name, record in segment.files.items():
            if damage := run.files.damage(name, record, verify):
                raise run.damaged(damage, "put a copy of it back, or start a new run")


def locked(run: Path) -> AbstractContextManager[None]:
    """Hold the run for this process, so that two commands never work on it at once.

    Entering raises `UserError` when another process holds it.
    """
    return only_process(
        run / LOCK,
        f"Another gan2shape process works on {run}; see 'gan2shape status {run}'.",
    )


# Manifest


def read_manifest(run: Run, shard: int | None = None) -> list[dict[str, Any]]:
    """Rows of the manifest, of one shard or of all, as dictionaries in row order.

    Raises `DamageError` when it does not read. All rows are read from a manifest that is verified.
    """
    return list(manifest_table(run, shard).to_pylist())


def manifest_table(run: Run, shard: int | None = None) -> pa.Table:
    """The manifest of `read_manifest` as a table."""
    filters = None if shard is None else [("shard", "==", shard)]
    if shard is None:
        check_segments(run, verify=True)
    try:
        with run.files.open(MANIFEST) as file:
            return pq.read_table(file, filters=filters).select(MANIFEST_SCHEMA.names)
    except (OSError, pa.ArrowException) as error:
        raise run.damaged(
            f"{MANIFEST} cannot be read ({one_line(error)})",
            "put a copy of it back, or start a new run",
        ) from error


def read_latents(run: Run, plan: ShardPlan) -> npt.NDArray[np.float32] | None:
    """Latents (count, D) of a shard that were given for all images at once, or `None`."""
    if not any(LATENTS in segment.files for segment in run.record.segments):
        return None
    try:
        latents = np.load(run.path / LATENTS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise run.damaged(
            f"{LATENTS} cannot be read ({one_line(error)})",
            "put a copy of it back, or start a new run",
        ) from error
    return np.array(latents[plan.start : plan.stop])


# Arrays


def _array_files(run: Run) -> dict[str, bytes]:
    attributes = {
        "title": "gan2shape reconstruction",
        "config_hash": run.record.config_hash,
        "images": "row i is row i of the manifest, which holds the image ids",
    }
    made = zarr_arrays.group_files(run.specs(), run.plan, attributes)
    return {f"{ARRAYS}/{name}": data for name, data in made.items()}


def put_array_files(run: Run) -> None:
    """Write what the group `arrays.zarr` consists of besides the shards' files."""
    for name, data in _array_files(run).items():
        run.files.put(name, data)


def open_array(run: Run, spec: ArraySpec) -> zarr.Array[Any]:
    """The array as Zarr reads it. Raises `DamageError` when it is not the run's."""
    name = f"{ARRAYS}/{spec.name}"
    try:
        array = zarr_arrays.open_array(run.files.zarr(name))
        if array.shape != (run.plan.images, *spec.shape) or array.dtype != spec.dtype:
            raise ValueError(f"it is {array.dtype} {array.shape}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise run.damaged(
            f"{name} is not a readable array ({one_line(error)})",
            f"'gan2shape resume {run.path}' mends it",
        ) from error
    return array


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")

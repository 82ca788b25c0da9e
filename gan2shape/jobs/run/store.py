"""The run directory: what is in it, how a shard is committed, and what counts as done.

Commit protocol. A shard owns one file of every array (a Zarr shard) and one Parquet part. An
attempt writes all of them under names of its own, makes them durable, moves them to their places,
and then puts the commit record `commits/<shard>.json`, which names them with size and SHA-256. The
record is the commit. A shard is done when its record exists, reads, has the run's hash, and what it
names is there in the size it says; anything else is computed again. Results are read only through
records.

An attempt never touches a shard that is done. If it dies after it moved files, no record names its
part, and `clean` removes that; its array files are written over by the next attempt. If two
attempts commit one shard in the same moment, the later record stays, and a file of the other that
differs from it does not have the record's digest.

Retried images (a design, not built yet): a retry is an overlay of some rows. It writes them to
files of its own and puts a commit record `commits/<shard>-retry-<k>.json` that names the rows and
the files. Readers take a row from the last overlay that names it, so no file of the shard changes.

Segments: each `manifest/segment-<k>.parquet` begins with a new shard, and run.yaml lists it with
its digest. So a run can get more images, while all that is there stays as it is.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gan2shape.jobs.files import TEMPORARY, sync
from gan2shape.jobs.run import arrays as zarr_arrays
from gan2shape.jobs.run.arrays import ARRAYS
from gan2shape.jobs.run.commits import COMMITS, Commit, commit_name, parse_commit
from gan2shape.jobs.run.directory import (
    CHECKPOINTS,
    METRICS,
    DamageError,
    Run,
    check_free,
    check_segments,
    create_run,
    locked,
    manifest_table,
    one_line,
    open_array,
    open_run,
    put_array_files,
    read_latents,
    read_manifest,
)
from gan2shape.jobs.run.plan import ShardPlan
from gan2shape.jobs.run.record import RunError, RunRecord, Segment, Weights
from gan2shape.jobs.run.storage import bytes_record, file_record
from gan2shape.schemas.results import FAILED, METRICS_SCHEMA

__all__ = [
    "Commit",
    "DamageError",
    "Run",
    "RunError",
    "RunRecord",
    "Segment",
    "Weights",
    "check_free",
    "check_segments",
    "create_run",
    "locked",
    "manifest_table",
    "open_run",
    "read_latents",
    "read_manifest",
]


# Commit


def commit_shard(
    run: Run,
    shard: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write what a shard came to, unless it is done; afterwards it is.

    `arrays` maps every array name to (count, ...) in row order; `rows` are the metrics rows.
    Raises `OSError` when the disk refuses; then nothing is committed.
    """
    if is_done(run, shard):
        return
    plan = run.plan.shard(shard)
    scratch = run.checkpoints(shard)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=scratch) as folder:
        files = _write_arrays(run, plan, arrays, Path(folder))
        part = Path(folder) / "part"
        pq.write_table(pa.Table.from_pylist([dict(r) for r in rows], schema=METRICS_SCHEMA), part)
        files[f"{METRICS}/part-{shard:06d}-{uuid.uuid4().hex[:12]}.parquet"] = part
        commit = Commit(
            run=run.record.config_hash,
            shard=shard,
            first_row=plan.start,
            images=plan.count,
            failed=sum(row["status"] == FAILED for row in rows),
            seconds=sum(map(_seconds, rows)),
            files={name: file_record(path) for name, path in files.items()},
        )
        for path in files.values():
            sync(path)
        if is_done(run, shard):  # by another attempt in the meantime
            return
        # `metrics/*.parquet` is read without records too, so the part gets its name only now. A
        # crash between the next two lines leaves a part that no record names. `clean`, which
        # going on with the run calls, removes it.
        replaced = _named_files(run, commit_name(shard))
        run.files.adopt(files)
        run.files.put(commit_name(shard), commit.dump())
    for name in replaced - files.keys():
        run.files.remove(name)


def _write_arrays(
    run: Run, plan: ShardPlan, arrays: Mapping[str, npt.NDArray[Any]], folder: Path
) -> dict[str, Path]:
    files = {}
    for spec in run.specs():
        values = np.asarray(arrays[spec.name]).astype(spec.dtype)
        if values.shape != (plan.count, *spec.shape):
            raise ValueError(f"{spec.name} is {values.shape}, not {(plan.count, *spec.shape)}")
        array = open_array(run, spec)
        name, file = zarr_arrays.write_shard(array, spec.name, plan.start, values, folder)
        files[f"{ARRAYS}/{name}"] = file
    return files


def _seconds(row: Mapping[str, Any]) -> float:
    """What the row says that its image took to compute."""
    names = [name for name in row if name.startswith("seconds_") and name != "seconds_stages"]
    return float(sum(row[name] or 0 for name in names))


def _named_files(run: Run, record: str) -> set[str]:
    """What a record names, if it reads."""
    try:
        return set(parse_commit(run.files.read(record)).files)
    except (OSError, ValueError, TypeError, KeyError):
        return set()


# What is done


def read_commit(run: Run, shard: int, verify: bool = False) -> Commit | None:
    """The commit of a shard, or `None` when there is none.

    Raises `DamageError` when the record is damaged, or a file that it names is missing or has
    another size. With `verify` the content of these files is compared, too.
    """
    name = commit_name(shard)
    try:
        commit = parse_commit(run.files.read(name))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise run.damaged(f"{name} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise run.damaged(f"{name} cannot be used ({one_line(error)})") from error
    plan = run.plan.shard(shard)
    rows = (commit.shard, commit.first_row, commit.images)
    if commit.run != run.record.config_hash or rows != (shard, plan.start, plan.count):
        raise run.damaged(f"{name} belongs to another run")
    for file, record in commit.files.items():
        if damage := run.files.damage(file, record, verify):
            raise run.damaged(damage, _verified(run) if verify else "")
    return commit


def committed(run: Run, shard: int) -> Commit | None:
    """The commit of a shard that is done, or `None`: damaged shards are not done."""
    try:
        return read_commit(run, shard)
    except DamageError:
        return None


def is_done(run: Run, shard: int) -> bool:
    """Whether `shard` is committed, with all its files there."""
    return committed(run, shard) is not None


def missing_shards(run: Run) -> list[int]:
    """Shards that are not done, in order."""
    return [plan.index for plan in run.plan if not is_done(run, plan.index)]


def find_damage(run: Run, verify: bool = False) -> Iterator[tuple[int | None, str]]:
    """What is missing or damaged: the shard, if it is of one, and a sentence.

    Compares presence and size, with `verify` also the content of every file.
    """
    for spec in run.specs():
        try:
            open_array(run, spec)
        except DamageError as error:
            yield None, str(error)
    for plan in run.plan:
        try:
            read_commit(run, plan.index, verify)
        except DamageError as error:
            yield plan.index, str(error)


def read_part(run: Run, shard: int) -> pa.Table | None:
    """The metrics of `shard`, or `None` when it is not committed.

    Raises `DamageError` when the shard is damaged. The part's content is always verified.
    """
    commit = read_commit(run, shard)
    if commit is None:
        return None
    name = next(name for name in commit.files if name.startswith(METRICS))
    data = run.files.read(name)
    if bytes_record(data) != commit.files[name]:
        raise run.damaged(f"{name} has changed since it was written", _verified(run))
    return pq.read_table(pa.BufferReader(data))


def read_metrics(run: Run) -> pa.Table:
    """The metrics of all committed shards, in row order; `read_part` tells what it raises."""
    parts = (read_part(run, plan.index) for plan in run.plan)
    tables = [table for table in parts if table is not None]
    return pa.concat_tables(tables) if tables else METRICS_SCHEMA.empty_table()


def clean(run: Run, verify: bool = False) -> None:
    """Prepare the run for going on: mend the arrays' metadata and remove what nobody needs.

    Removes parts that no record names, half-written files, and the checkpoints of shards that are
    done. With `verify` the records of shards with damaged files go too: these are computed again.
    """
    for shard, _ in find_damage(run, verify):
        if shard is None:
            put_array_files(run)
        elif verify:
            run.files.remove(commit_name(shard))
    named = {name for record in run.files.names(COMMITS) for name in _named_files(run, record)}
    for name in run.files.names(METRICS):
        if name not in named:
            run.files.remove(name)
    for swept in (METRICS, COMMITS, ARRAYS, *(f"{ARRAYS}/{spec.name}" for spec in run.specs())):
        run.files.sweep(swept)
    for folder in (run.path / CHECKPOINTS).glob("shard-*"):
        number = folder.name.removeprefix("shard-")
        if number.isdigit() and int(number) < run.plan.shard_count and is_done(run, int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _verified(run: Run) -> str:
    return f"'gan2shape resume {run.path} --verify' computes damaged shards again"


def read_rows(run: Path, name: str, rows: Sequence[int] | slice) -> npt.NDArray[Any]:
    """Rows of one array of the run at `run`, (len(rows), ...).

    Rows of images without a result, and of shards that are not done, hold NaN (in `mask` 255).
    Raises `DamageError` when a file of a committed shard is missing or damaged.
    """
    opened = open_run(run)
    spec = next(spec for spec in opened.specs() if spec.name == name)
    index = np.arange(opened.plan.images)[rows if isinstance(rows, slice) else list(rows)]
    values = np.full((len(index), *spec.shape), spec.missing, spec.dtype)
    shards = index // opened.plan.shard_size
    done = np.isin(shards, [i for i in np.unique(shards) if read_commit(opened, int(i))])
    if done.any():
        array = open_array(opened, spec)
        try:
            values[done] = zarr_arrays.read_rows(array, index[done])
        except ValueError as error:  # so zarr reports a checksum that is wrong
            raise opened.damaged(
                f"the array {name!r} is damaged ({one_line(error)})", _verified(opened)
            ) from error
    return values

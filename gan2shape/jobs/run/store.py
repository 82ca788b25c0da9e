"""The run directory: what is in it, how a shard is committed, and what counts as done.

Commit protocol. A shard owns one region of every array (a Zarr shard, a file of its own). It writes
the regions, then its Parquet part under a temporary name, and renames that: the rename is the
commit. A part that is absent, does not read, has other rows or another run's hash is redone.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore
import yaml

from gan2shape.jobs.files import TEMPORARY, only_process, sync, write_whole
from gan2shape.jobs.run.plan import RunPlan, ShardPlan, make_plan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.manifest import MANIFEST_SCHEMA
from gan2shape.schemas.results import FAILED, METRICS_SCHEMA, ArraySpec, array_specs
from gan2shape.schemas.settings import RunConfig, plain_digest

HASH_KEY = b"config_hash"
LATENTS = "given-latents.npy"
LOCK = "lock"
UNFINISHED = ".unfinished"
"""Stands in a directory that is being made a run, and is all that lets one be made over again."""
_PARTS = {"metrics", "checkpoints", "manifest.parquet", "arrays.zarr", LATENTS, UNFINISHED}


class RunError(UserError):
    """A run directory is missing, taken, damaged or in use."""


@dataclass(frozen=True)
class Weights:
    """A file of weights and the SHA-256 that it had when the run was made."""

    path: str
    sha256: str


@dataclass(frozen=True)
class RunRecord:
    """`run.yaml`: everything that a run was made from."""

    config: RunConfig
    gan: Weights
    lpips: Weights | None
    images: int
    latent_size: int
    manifest_sha256: str
    networks: Weights | None = None
    """TrainedNetworks ones that every group starts from."""
    inputs: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    stored: dict[str, Any] | None = field(default=None, compare=False)
    """`config` as run.yaml tells it, where this comes from there: without what was not yet a
    setting then, so that the run keeps its hash."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they are, or have been, written."""
        return self.config.model_dump(mode="json") if self.stored is None else self.stored

    @property
    def config_hash(self) -> str:
        """SHA-256 over all that decides the numbers: settings, weights and manifest."""
        parts = [plain_digest(self.settings), self.gan.sha256, self.manifest_sha256]
        parts.append(self.lpips.sha256 if self.lpips else "")
        parts += [self.networks.sha256] if self.networks else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def plan(self) -> RunPlan:
        """Shards and groups of this run."""
        return make_plan(self.images, self.config.shard_size, self.config.group_size)

    def dump(self) -> str:
        """The YAML text of the record."""
        tree = asdict(self) | {"config": self.settings}
        del tree["stored"]
        return yaml.safe_dump({"config_hash": self.config_hash} | tree, sort_keys=False)


@dataclass(frozen=True)
class Run:
    """An open run directory."""

    path: Path
    record: RunRecord

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

    def part(self, shard: int) -> Path:
        """The Parquet part whose existence commits `shard`."""
        return self.path / "metrics" / f"part-{shard:06d}.parquet"

    def checkpoints(self, shard: int) -> Path:
        """Where `shard` keeps its optimisation state and progress."""
        return self.path / "checkpoints" / f"shard-{shard:06d}"


def create_run(
    path: Path,
    record: RunRecord,
    manifest: pa.Table,
    latents: npt.NDArray[np.float32] | None = None,
) -> Run:
    """Make the run directory: manifest, empty arrays, and `run.yaml` last (it makes it a run).

    `latents` (N, D) are those given for all images at once. `record.manifest_sha256` is computed
    here. `path` must not exist, or be empty, or be what a killed creation left.
    """
    check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        check_free(path)  # now that no other process makes one there
        if (path / UNFINISHED).exists():
            _remove_unfinished(path)
        write_whole(path / UNFINISHED, b"")
        run = _fill(path, record, manifest, latents)
        (path / UNFINISHED).unlink()
        return run


def _fill(
    path: Path,
    record: RunRecord,
    manifest: pa.Table,
    latents: npt.NDArray[np.float32] | None,
) -> Run:
    for folder in ("metrics", "checkpoints"):
        (path / folder).mkdir()
    buffer = io.BytesIO()
    # Row groups are whole shards, so that a task reads its own rows and not a million others.
    shard = record.config.shard_size
    pq.write_table(manifest, buffer, row_group_size=shard * max(1, 4096 // shard))
    write_whole(path / "manifest.parquet", buffer.getvalue())
    if latents is not None:
        np.save(path / LATENTS, np.asarray(latents, dtype=np.float32))
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    record = RunRecord(**(fields | {"manifest_sha256": manifest_digest(manifest)}))
    run = Run(path, record)
    _create_arrays(run)
    write_whole(path / "run.yaml", record.dump().encode())
    return run


def check_free(path: Path) -> None:
    """Raise `RunError` unless a run can be made at `path`."""
    if path.is_file():
        raise RunError(f"{path} is a file; give another directory to --out.")
    if (path / "run.yaml").exists():
        raise RunError(
            f"{path} is a run already: finish it with 'gan2shape resume {path}', or give another "
            f"directory to --out."
        )
    names = {entry.name for entry in path.iterdir()} - {LOCK} if path.is_dir() else set()
    held = {name for name in names if not name.startswith(TEMPORARY)}
    if held and (UNFINISHED not in held or held - _PARTS):
        raise RunError(f"{path} exists and is not empty; give another directory to --out.")


def _remove_unfinished(path: Path) -> None:
    """Empty a directory whose creation was killed before it became a run: nothing is in it."""
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def manifest_digest(manifest: pa.Table) -> str:
    """SHA-256 of the manifest's content, whatever file it is stored in."""
    digest = hashlib.sha256()
    for batch in manifest.combine_chunks().to_batches(max_chunksize=65536):
        digest.update(json.dumps(batch.to_pydict(), sort_keys=True).encode())
    return digest.hexdigest()


def open_run(path: Path) -> Run:
    """Open a run directory. Raises `RunError` when there is none or its record is damaged."""
    file = path / "run.yaml"
    try:
        tree = yaml.safe_load(file.read_text())
        stored = tree.pop("config_hash")
        tree["stored"] = tree["config"]
        tree["config"] = RunConfig.model_validate(tree["config"])
        tree["gan"] = Weights(**tree["gan"])
        for optional in ("lpips", "networks"):
            tree[optional] = Weights(**tree[optional]) if tree.get(optional) else None
        record = RunRecord(**tree)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} is no run directory: it holds no run.yaml.") from None
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{file} is damaged or of another version ({reason}).") from error
    if record.config_hash != stored:
        raise RunError(
            f"{file} was changed by hand (its hash does not match); start a new run with "
            f"'gan2shape reconstruct' to use other settings."
        )
    return Run(path, record)


def read_manifest(run: Run, shard: int | None = None) -> list[dict[str, Any]]:
    """Rows of the manifest, of one shard or of all, as dictionaries in row order."""
    filters = None if shard is None else [("shard", "==", shard)]
    try:
        table = pq.read_table(run.path / "manifest.parquet", filters=filters)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{run.path / 'manifest.parquet'} cannot be read: {error}.") from error
    return list(table.select(MANIFEST_SCHEMA.names).to_pylist())


def check_manifest(run: Run) -> None:
    """Raise `RunError` unless the manifest is the one that the run began with."""
    try:
        table = pq.read_table(run.path / "manifest.parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{run.path / 'manifest.parquet'} cannot be read: {error}.") from error
    if manifest_digest(table) != run.record.manifest_sha256:
        raise RunError(
            f"{run.path / 'manifest.parquet'} is not the one that the run began with; put it back, "
            f"or start a new run."
        )


def read_latents(run: Run, plan: ShardPlan) -> npt.NDArray[np.float32] | None:
    """Latents (count, D) of a shard that were given for all images at once, or `None`."""
    try:
        latents = np.load(run.path / LATENTS, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{run.path / LATENTS} cannot be read: {error}.") from error
    return np.array(latents[plan.start : plan.stop])


def locked(run: Path) -> AbstractContextManager[None]:
    """Hold the run for this process, so that two commands never work on it at once.

    Entering raises `UserError` when another process holds it.
    """
    return only_process(
        run / LOCK,
        f"Another gan2shape process works on {run}; see 'gan2shape status {run}'.",
    )


# Arrays


def _create_arrays(run: Run) -> None:
    root = run.path / "arrays.zarr"
    root.mkdir()
    images, shard = run.plan.images, run.plan.shard_size
    metadata = {spec.name: _array_metadata(spec, images, shard) for spec in run.specs()}
    metadata["image"] = _coordinate_metadata(images)
    for name, tree in metadata.items():
        (root / name).mkdir()
        write_whole(root / name / "zarr.json", json.dumps(tree, indent=1).encode())
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "title": "gan2shape reconstruction",
            "config_hash": run.record.config_hash,
            "images": "row i is row i of manifest.parquet, which holds the image ids",
        },
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(sorted(metadata.items())),
        },
    }
    write_whole(root / "zarr.json", json.dumps(group, indent=1).encode())
    _finish(open_array(run.path, "image", write=True)[...].write(np.arange(images)))


def _array_metadata(spec: ArraySpec, images: int, shard: int) -> dict[str, Any]:
    item = np.dtype(spec.dtype).itemsize
    blosc = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": item, "blocksize": 0}
    inner = [
        {"name": "bytes", "configuration": {"endian": "little"}} if item > 1 else {"name": "bytes"},
        {"name": "blosc", "configuration": blosc},
        {"name": "crc32c"},
    ]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": [1, *spec.shape],
        "codecs": inner,
        "index_codecs": index,
        "index_location": "end",
    }
    attributes = {"units": spec.units, "long_name": spec.long_name} | spec.attributes
    return _metadata(
        [images, *spec.shape],
        [shard, *spec.shape],
        spec.dtype,
        spec.fill,
        spec.dims,
        attributes,
        [{"name": "sharding_indexed", "configuration": sharding}],
    )


def _coordinate_metadata(images: int) -> dict[str, Any]:
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    attributes = {"long_name": "row of manifest.parquet", "units": "1"}
    return _metadata([images], [images], "int64", 0, ("image",), attributes, codecs)


def _metadata(
    shape: list[int],
    chunk: list[int],
    dtype: str,
    fill: Any,
    dims: Sequence[str],
    attributes: dict[str, Any],
    codecs: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": attributes,
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def open_array(run: Path, name: str, write: bool = False) -> tensorstore.TensorStore:
    """The array `name` of a run as a `tensorstore.TensorStore`; `a[rows].read().result()` reads."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(run / "arrays.zarr" / name)},
    }
    try:
        return tensorstore.open(spec, read=True, write=write).result()
    except ValueError as error:
        raise RunError(f"{run} has no readable array {name!r}: {error}.") from error


def read_rows(run: Path, name: str, rows: Sequence[int] | slice) -> npt.NDArray[Any]:
    """Read rows of one array, (len(rows), ...); rows never written hold the fill value."""
    array = open_array(run, name)
    index = rows if isinstance(rows, slice) else list(rows)
    try:
        return np.asarray(array[index].read().result())
    except ValueError as error:  # so TensorStore reports a checksum that is wrong
        raise RunError(
            f"The array {name!r} of {run} is damaged: {' '.join(str(error).split())[:200]}."
        ) from error


# Commit


def commit_shard(
    run: Run,
    shard: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    rows: Sequence[Mapping[str, Any]],
    on_step: Callable[[str], None] | None = None,
) -> None:
    """Write a shard's regions, then its Parquet part; afterwards the shard is done.

    `arrays` maps every array name to (count, ...) in row order; `rows` are the metrics rows.
    `on_step` hears "begin", "region", "part" and "renamed" after each of these (tests crash there).
    Raises `OSError` when the disk refuses; then nothing is committed.
    """
    step = on_step or (lambda name: None)
    plan = run.plan.shard(shard)
    step("begin")
    writes = []
    for spec in run.specs():
        values = np.asarray(arrays[spec.name]).astype(spec.dtype)
        if values.shape != (plan.count, *spec.shape):
            raise ValueError(f"{spec.name} is {values.shape}, not {(plan.count, *spec.shape)}")
        region = open_array(run.path, spec.name, write=True)[plan.start : plan.stop]
        writes.append(region.write(values))
    for write in writes:
        _finish(write)
    step("region")
    schema = METRICS_SCHEMA.with_metadata({HASH_KEY: run.record.config_hash.encode()})
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    part = run.part(shard)
    temporary = part.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{part.name}")
    write_whole(temporary, buffer.getvalue())
    step("part")
    temporary.replace(part)
    sync(part.parent)
    step("renamed")


def _finish(write: tensorstore.WriteFutures) -> None:
    try:
        write.result()
    except ValueError as error:  # so TensorStore reports a full disk
        raise OSError(str(error)) from error


def read_part(run: Run, shard: int) -> pa.Table | None:
    """The committed metrics of `shard`, or `None` when it is not (rightly) committed."""
    plan = run.plan.shard(shard)
    try:
        with pq.ParquetFile(run.part(shard)) as file:
            table = file.read()
    except (OSError, ValueError):  # absent, cut short, damaged: Arrow's errors are ValueErrors
        return None
    if not table.schema.equals(METRICS_SCHEMA):
        return None
    if (table.schema.metadata or {}).get(HASH_KEY) != run.record.config_hash.encode():
        return None
    if table["row"].to_pylist() != list(range(plan.start, plan.stop)):
        return None
    return table


def is_done(run: Run, shard: int) -> bool:
    """Whether `shard` is committed."""
    return read_part(run, shard) is not None


def missing_shards(run: Run) -> list[int]:
    """Shards that are not committed, in order."""
    return [plan.index for plan in run.plan if not is_done(run, plan.index)]


def read_metrics(run: Run) -> pa.Table:
    """The metrics rows of all committed shards, in row order."""
    parts = (read_part(run, plan.index) for plan in run.plan)
    tables = [table for table in parts if table is not None]
    return pa.concat_tables(tables) if tables else METRICS_SCHEMA.empty_table()


def count_failed(table: pa.Table) -> int:
    """Rows whose image failed."""
    return table["status"].to_pylist().count(FAILED)


def clean(run: Run) -> None:
    """Remove what is of no more use: half-written files, and checkpoints of committed shards."""
    for leftover in (run.path / "metrics").glob(f"{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)
    for folder in (run.path / "checkpoints").glob("shard-*"):
        number = folder.name.removeprefix("shard-")
        if number.isdigit() and int(number) < run.plan.shard_count and is_done(run, int(number)):
            shutil.rmtree(folder, ignore_errors=True)

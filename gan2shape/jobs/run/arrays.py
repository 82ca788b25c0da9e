"""The arrays of a run: one Zarr v3 group, by zarr-python with the codecs of zarrs.

An inner chunk is one image, and a Zarr shard (one file) is one work shard. Inner chunks and the
index of a shard carry a CRC-32C, so that damage is noticed when they are read.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, MemoryStore, StorePath

from gan2shape.jobs.run.plan import RunPlan
from gan2shape.schemas.results import ArraySpec

ARRAYS = "arrays.zarr"
COORDINATES_PER_CHUNK = 1 << 16
_ZARR = "zarr.core.codec_pipeline.BatchedCodecPipeline"
_ZARRS = "zarrs.ZarrsCodecPipeline"

zarr.config.set(
    {
        "codec_pipeline.path": _ZARRS if importlib.util.find_spec("zarrs") else _ZARR,
        "array.write_empty_chunks": True,
    }
)


def group_files(
    specs: tuple[ArraySpec, ...], plan: RunPlan, attributes: dict[str, Any]
) -> dict[str, bytes]:
    """The files that make an empty group of these arrays, by their names in it."""
    files: dict[str, Any] = {}
    store = MemoryStore(files)
    group = zarr.create_group(store, attributes=attributes)
    for spec in specs:
        group.create_array(
            spec.name,
            shape=(plan.images, *spec.shape),
            dtype=spec.dtype,
            chunks=(1, *spec.shape),
            shards=(plan.shard_size, *spec.shape),
            compressors=[BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()],
            fill_value=spec.missing,
            dimension_names=spec.dims,
            attributes={"units": spec.units, "long_name": spec.long_name} | spec.attributes,
            chunk_key_encoding={"name": "default", "separator": "."},
        )
    image = group.create_array(
        "image",
        shape=(plan.images,),
        dtype="int64",
        chunks=(COORDINATES_PER_CHUNK,),
        dimension_names=("image",),
        attributes={"units": "1", "long_name": "row of the manifest"},
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    image[:] = np.arange(plan.images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that consolidated metadata is not in the specification
        zarr.consolidate_metadata(store)
    return {name: content.to_bytes() for name, content in files.items()}


def open_array(store: LocalStore) -> zarr.Array[Any]:
    """The array of a store for reading. Raises what zarr raises where it is absent or damaged."""
    return zarr.open_array(store, mode="r")


def write_shard(
    array: zarr.Array[Any], name: str, first: int, values: npt.NDArray[Any], folder: Path
) -> tuple[str, Path]:
    """Write rows from `first` on as a file of their own below `folder`, in place of the array.

    `values` (count, ...) fill one Zarr shard. Returns the file's name in the group, and the file.
    Raises `OSError` when the disk refuses.
    """
    rows = (array.shards or array.chunks)[0]
    key = array.metadata.encode_chunk_key((first // rows, *[0] * (values.ndim - 1)))
    file = folder / name / key
    try:
        _write(array, folder / name, first, values)
        if not file.exists():
            # zarrs leaves out a shard of nothing but the fill value, whatever the settings say.
            with zarr.config.set({"codec_pipeline.path": _ZARR}):
                _write(array, folder / name, first, values)
    except RuntimeError as error:  # so zarrs reports a full disk
        raise OSError(str(error)) from error
    return f"{name}/{key}", file


def _write(array: zarr.Array[Any], folder: Path, first: int, values: npt.NDArray[Any]) -> None:
    place = StorePath(LocalStore(folder))
    copy: zarr.Array[Any] = zarr.Array(zarr.AsyncArray(array.metadata, place))
    copy[first : first + len(values)] = values


def read_rows(array: zarr.Array[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Rows of an array, (len(rows), ...). Raises `ValueError` where they are damaged."""
    try:
        if len(rows) and (np.diff(rows) == 1).all():
            return np.asarray(array[int(rows[0]) : int(rows[-1]) + 1])
        return np.stack([np.asarray(array[int(row)]) for row in rows])
    except RuntimeError as error:  # so zarrs reports a wrong checksum
        raise ValueError(str(error)) from error

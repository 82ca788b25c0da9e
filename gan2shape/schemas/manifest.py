"""The manifest: one row for each image of a run, in the order of the arrays' first dimension."""

from __future__ import annotations

import pyarrow as pa


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": meaning})


MANIFEST_SCHEMA = pa.schema(
    [
        _field("image_id", pa.string(), "unique name of the image in this run", False),
        _field("uri", pa.string(), "path or URL of the image", False),
        _field("size_bytes", pa.int64(), "size of the image file, where the listing tells"),
        _field("content_sha256", pa.string(), "SHA-256 of the image file, where it is known"),
        _field("truth_uri", pa.string(), "ground-truth depth in scene units, if any"),
        _field("mask_uri", pa.string(), "object mask, if any"),
        _field("latent_uri", pa.string(), "latent of the image in W, if any"),
        _field("shard", pa.int32(), "work shard (one Dask task) that the image belongs to", False),
        _field("row", pa.int64(), "index along the `image` dimension of arrays.zarr", False),
    ]
)

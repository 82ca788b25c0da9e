"""What a run leaves behind: the arrays of `arrays.zarr` and the columns of its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

COMMITTED = "done"
FAILED = "failed"
MASK_MISSING = 255
"""Value of `mask` where an image has no result (the floating-point arrays hold NaN there)."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of the Zarr group; dimension 0 is always `image`, in manifest order."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    """Extents after the `image` dimension."""
    units: str
    long_name: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> float:
        """What rows of images without a result hold, and rows that were never written."""
        return MASK_MISSING if self.dtype == "uint8" else float("nan")


VIEW_PARAMETERS = ("rotation_x", "rotation_y", "rotation_z", "shift_x", "shift_y", "shift_z")
LIGHT_PARAMETERS = ("ambient", "diffuse", "direction_x", "direction_y")


def array_specs(size: int, latent_size: int) -> tuple[ArraySpec, ...]:
    """Arrays of a run on images of `size` pixels with latents of `latent_size` numbers."""
    plane = (size, size)
    return (
        ArraySpec(
            "depth",
            "float32",
            ("image", "y", "x"),
            plane,
            "scene unit",
            "canonical depth, along the optical axis (away from the camera)",
        ),
        ArraySpec(
            "albedo",
            "float16",
            ("image", "channel", "y", "x"),
            (3, *plane),
            "1",
            "canonical albedo, red, green and blue",
            {"valid_range": [-1.0, 1.0]},
        ),
        ArraySpec(
            "normal",
            "float16",
            ("image", "y", "x", "axis"),
            (*plane, 3),
            "1",
            "unit normal of the canonical depth (x right, y down, z away from the camera)",
            {"valid_range": [-1.0, 1.0]},
        ),
        ArraySpec(
            "mask",
            "uint8",
            ("image", "y", "x"),
            plane,
            "1",
            "object in the input image",
            {
                "flag_values": [0, 1, MASK_MISSING],
                "flag_meanings": "background object missing",
            },
        ),
        ArraySpec(
            "view",
            "float32",
            ("image", "view_parameter"),
            (6,),
            "rad (rotations), scene unit (shifts)",
            "rigid motion from the canonical frame to the input's view",
            {"parameters": list(VIEW_PARAMETERS)},
        ),
        ArraySpec(
            "light",
            "float32",
            ("image", "light_parameter"),
            (4,),
            "1",
            "light: raw numbers in -1 to 1; ambient = l0/2 + 0.5, diffuse = l1/2 + 0.5, "
            "direction (l2, l3, 1) normalised",
            {"parameters": list(LIGHT_PARAMETERS), "valid_range": [-1.0, 1.0]},
        ),
        ArraySpec(
            "latent",
            "float32",
            ("image", "style"),
            (latent_size,),
            "1",
            "latent of the image in W of the generator",
        ),
        ArraySpec(
            "reconstruction",
            "float16",
            ("image", "channel", "y", "x"),
            (3, *plane),
            "1",
            "the input rendered again from depth, albedo, view and light",
            {"valid_range": [-1.0, 1.0]},
        ),
    )


def _column(
    name: str, kind: pa.DataType, units: str, meaning: str, nullable: bool = True
) -> pa.Field:
    return pa.field(name, kind, nullable, {"units": units, "description": meaning})


METRICS_SCHEMA = pa.schema(
    [
        _column("image_id", pa.string(), "", "name of the image in the manifest", False),
        _column("row", pa.int64(), "", "index along the `image` dimension", False),
        _column("shard", pa.int32(), "", "work shard", False),
        _column("status", pa.string(), "", f"'{COMMITTED}' or '{FAILED}'", False),
        _column("error", pa.string(), "", "why the image failed"),
        _column("width", pa.int32(), "pixel", "width of the source image"),
        _column("height", pa.int32(), "pixel", "height of the source image"),
        _column("side", pa.float64(), "1", "scale-invariant depth error (tables print it x 100)"),
        _column("mad_degrees", pa.float64(), "degree", "mean angle between normals"),
        _column(
            "mad_paper_degrees",
            pa.float64(),
            "degree",
            "mean angle with the published code's normalisation, for comparison only",
        ),
        _column("relief_scale", pa.float64(), "1", "best factor on log depth; 1 is right"),
        _column("inversion_l1", pa.float64(), "1", "mean |G(w) - image| on the range -1 to 1"),
        _column("losses", pa.map_(pa.string(), pa.float64()), "1", "last value of every loss"),
        _column("seconds_load", pa.float64(), "s", "reading the image, its share of the shard"),
        _column("seconds_inversion", pa.float64(), "s", "inversion, its share of the shard"),
        _column("seconds_reconstruction", pa.float64(), "s", "optimisation, share of the group"),
        _column("seconds_metrics", pa.float64(), "s", "metrics, its share of the group"),
        _column(
            "seconds_stages",
            pa.map_(pa.string(), pa.float64()),
            "s",
            "stages of the optimisation, share of the group",
        ),
        _column("peak_memory_mb", pa.float64(), "MB", "peak resident memory of the worker so far"),
        _column("peak_device_memory_mb", pa.float64(), "MB", "peak memory on the accelerator"),
        _column("device", pa.string(), "", "device that the shard ran on"),
        _column("config_hash", pa.string(), "", "hash of settings and weights", False),
    ]
)

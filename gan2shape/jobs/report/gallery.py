"""Pictures of some reconstructions, as data URIs that a page can hold."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.images import ImageError, load_image
from gan2shape.jobs.report.results import entries
from gan2shape.jobs.run import store
from gan2shape.pipeline.extensions.input_colours import input_colours
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.pictures import turn
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.pipeline.scene.shading import shade
from gan2shape.schemas.settings import RunConfig

Pixels = npt.NDArray[np.floating[Any]]

LIMIT = 24
"""Images of a run that are shown unless asked otherwise."""
TURN_DEGREES = 35.0
CLAY_COLOUR = (0.96, 0.94, 0.90)
CLAY_LIGHT = (-0.76, 0.76, 0.5, 0.6)
"""Ambient 0.12, diffuse 0.88, from the upper left (it travels right, down and away from us).

Nothing is clipped, so that every slope shows.
"""
BATCH = 16
COLUMNS = {
    "input": "Input",
    "reconstruction": "Reconstruction",
    "albedo": "Albedo",
    "shape": "Shape",
    "truth": "True shape",
    "left": f"Turned {TURN_DEGREES:.0f}° left",
    "right": f"Turned {TURN_DEGREES:.0f}° right",
}


@dataclass(frozen=True)
class Entry:
    """One image of the gallery."""

    image_id: str
    tag: str | None
    scores: list[str]
    """As people read them."""
    pictures: dict[str, str | None]
    """Names of columns to data URIs; `None` where the file is gone."""


def choose(done: pd.DataFrame, limit: int = LIMIT) -> pd.DataFrame:
    """The best, the median and the worst image by MAD, then the first ones, `limit` in all.

    All images in their own order where there are no more than `limit`. The column `tag` says which
    are best, median and worst.
    """
    tags = ranked(done["mad_degrees"])
    if len(done) > limit:
        done = done.loc[[*tags, *done.index.drop(list(tags))][:limit]]
    return done.assign(tag=done.index.map(tags.get))


def ranked(scores: pd.Series) -> dict[Any, str]:
    """Labels of the best, the median and the worst (highest) finite score, in this order.

    Empty where there are fewer than three.
    """
    order = scores[np.isfinite(scores)].sort_values(kind="stable").index
    if len(order) < 3:
        return {}
    return {order[0]: "best", order[len(order) // 2]: "median", order[-1]: "worst"}


def score_lines(scores: Mapping[str, Any]) -> list[str]:
    """SIDE and MAD of an image as people read them; those that are known."""
    known = [("SIDE {:.2f}", scores["side"], 100), ("MAD {:.1f}°", scores["mad_degrees"], 1)]
    return [text.format(value * factor) for text, value, factor in known if not pd.isna(value)]


def gallery(run: store.Run, chosen: pd.DataFrame) -> Iterator[Entry]:
    """Pictures of the chosen images of a run, reading only their rows."""
    for start in range(0, len(chosen), BATCH):
        yield from _entries(run, entries(chosen.iloc[start : start + BATCH]))


def thumbnail(uri: str, size: int) -> str | None:
    """The input image as the run sees it, or `None` when it cannot be read."""
    pixels = _input(uri, size)
    return None if pixels is None else data_uri(pixels)


def _input(uri: str, size: int) -> Pixels | None:
    """The image (S, S, 3) in [0, 1] as the run sees it, or `None` when it cannot be read."""
    try:
        return load_image(uri, size).pixels
    except ImageError:
        return None


def _entries(run: store.Run, chosen: Sequence[dict[str, Any]]) -> Iterator[Entry]:
    rows = [entry["row"] for entry in chosen]
    names = ("depth", "albedo", "view", "light", "mask", "reconstruction")
    arrays = {name: store.read_rows(run.path, name, rows) for name in names}
    tensors = {name: torch.from_numpy(values.astype(np.float32)) for name, values in arrays.items()}
    camera = Camera.from_config(run.record.config.camera)
    inputs = [_input(entry["uri"], camera.size) for entry in chosen]
    columns = _rendered(tensors, _colours(tensors, inputs, run.record.config), camera)
    for i, (entry, pixels) in enumerate(zip(chosen, inputs, strict=True)):
        pictures = {
            "input": None if pixels is None else data_uri(pixels),
            "truth": _truth(entry, run, camera),
        }
        pictures |= {name: values[i] for name, values in columns.items()}
        ordered = {name: pictures[name] for name in COLUMNS}
        yield Entry(entry["image_id"], entry["tag"], score_lines(entry), ordered)


def _colours(
    tensors: dict[str, Tensor], inputs: Sequence[Pixels | None], config: RunConfig
) -> Tensor:
    """Albedos (N, 3, S, S) corrected by the inputs; as they are where an input is gone."""
    size = config.camera.size
    nothing = np.zeros((size, size, 3))
    pixels = np.stack([nothing if image is None else image for image in inputs])
    images = torch.from_numpy(pixels).to(tensors["albedo"]).permute(0, 3, 1, 2) * 2 - 1
    there = torch.tensor([image is not None for image in inputs])
    shown = tensors["mask"] * there[:, None, None]
    return input_colours(tensors | {"mask": shown}, images, config)


def _rendered(tensors: dict[str, Tensor], colours: Tensor, camera: Camera) -> dict[str, list[str]]:
    """Data URIs by column, one for each of the N images of `tensors`."""
    depth, view, light, mask = (tensors[name] for name in ("depth", "view", "light", "mask"))
    shapes = shape_pictures(depth, colours, view, light, mask, camera)
    return shapes | {
        "reconstruction": [image_uri(image) for image in tensors["reconstruction"]],
        "albedo": [image_uri(image) for image in tensors["albedo"]],
    }


def shape_pictures(
    depth: Tensor, albedo: Tensor, view: Tensor, light: Tensor, mask: Tensor, camera: Camera
) -> dict[str, list[str]]:
    """Data URIs of the shapes in the input's view ("shape"), and turned "left" and "right"."""
    angle = math.radians(TURN_DEGREES)
    turns = torch.tensor([[0.0, angle, 0.0], [0.0, -angle, 0.0]])
    turned = turn(depth, albedo, view, light, turns, camera)
    seen, inside = render_depth(depth, view, camera)
    shape, covered = clay(seen, camera), mask * inside
    return {
        "shape": [image_uri(image, alpha) for image, alpha in zip(shape, covered, strict=True)],
        "left": [image_uri(image) for image in turned[:, 0]],
        "right": [image_uri(image) for image in turned[:, 1]],
    }


def _truth(entry: dict[str, str], run: store.Run, camera: Camera) -> str | None:
    if not entry["truth_uri"]:
        return None
    try:
        depth, mask = (torch.from_numpy(a) for a in load_truth(entry, run.record.config.camera))
    except ImageError:
        return None
    return image_uri(clay(depth[None], camera)[0], mask)


def clay(depth: Tensor, camera: Camera) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] of depth (N, S, S) alone, lit from the upper left."""
    albedo, light = clay_look(depth)
    return shade(albedo, normals_from_depth(depth, camera), light)


def clay_look(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (N, 3, S, S) and light (N, 4) of the pictures that `clay` makes."""
    light = depth.new_tensor(CLAY_LIGHT).expand(len(depth), 4)
    colour = (depth.new_tensor(CLAY_COLOUR) * 2 - 1).view(1, 3, 1, 1)
    return colour.expand(len(depth), 3, *depth.shape[1:]), light


def image_uri(image: Tensor, alpha: Tensor | None = None) -> str:
    """Picture of an image (3, S, S) in [-1, 1], transparent where alpha (S, S) is 0."""
    pixels = image.permute(1, 2, 0).numpy() / 2 + 0.5
    return data_uri(pixels, None if alpha is None else alpha.numpy())


def data_uri(pixels: Pixels, alpha: Pixels | None = None) -> str:
    """WebP data URI of (S, S, 3) in [0, 1] with alpha (S, S) in [0, 1]."""
    channels = pixels if alpha is None else np.dstack([pixels, alpha])
    values = np.round(np.nan_to_num(channels).clip(0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "WEBP", quality=92, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

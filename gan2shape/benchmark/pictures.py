"""Pictures of a row: its best, median and worst head, and where in the frame its error sits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.benchmark.scores import Results
from gan2shape.jobs.report.gallery import (
    TURN_DEGREES,
    Entry,
    clay,
    clay_look,
    data_uri,
    image_uri,
    ranked,
    score_lines,
    shape_pictures,
    thumbnail,
)
from gan2shape.jobs.report.reference_rows import TRUTH_BATCH, truths
from gan2shape.jobs.run import store
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.metrics import ErrorMap
from gan2shape.pipeline.scene.pictures import normal_picture
from gan2shape.pipeline.scene.render import render_depth

Positions = Sequence[int]
Colours = npt.NDArray[np.float64]

COLUMNS = {
    "input": "Input",
    "shape": "Shape",
    "truth": "True shape",
    "normals": "Normals",
    "true_normals": "True normals",
    "left": f"Turned {TURN_DEGREES:.0f}° left",
    "right": f"Turned {TURN_DEGREES:.0f}° right",
}
MAP_DEGREES = 40.0
"""Angle at the end of the maps' colours."""
LEAST_SHARE = 0.05
"""Pixels that a smaller share of the heads covers have no colour."""
RAMP = np.array(
    [
        [0.19, 0.26, 0.62],
        [0.13, 0.57, 0.60],
        [0.55, 0.76, 0.38],
        [0.98, 0.78, 0.25],
        [0.80, 0.18, 0.15],
    ]
)
"""Colours from 0 to `MAP_DEGREES`."""


def cases(results: Results, number: int) -> list[Entry]:
    """The best, the median and the worst head of a row that is compared, by MAD."""
    scores = results.row(number).reset_index()
    tags = ranked(scores["mad_degrees"].where(results.compared.to_numpy()))
    if not tags:
        return []
    places = list(tags)
    camera = Camera.from_config(results.camera)
    depths, masks = _truth(results, places)
    depth, view = _shapes(results, number, places)
    seen = masks * render_depth(depth, view, camera)[1]
    albedo, light = clay_look(depth)
    columns = shape_pictures(depth, albedo, view, light, masks, camera) | {
        "truth": _masked(clay(depths, camera), masks),
        "normals": _masked(normal_picture(depth, view, camera), seen),
        "true_normals": _masked(normal_picture(depths, None, camera), masks),
    }
    return [
        Entry(
            results.entries[place]["image_id"],
            tag,
            score_lines(scores.loc[place]),
            {"input": thumbnail(results.entries[place]["uri"], camera.size)}
            | {name: values[i] for name, values in columns.items()},
        )
        for i, (place, tag) in enumerate(tags.items())
    ]


def _masked(images: Tensor, masks: Tensor) -> list[str]:
    return [image_uri(image, mask) for image, mask in zip(images, masks, strict=True)]


def error_map(results: Results, number: int) -> Colours:
    """Mean angle (S, S) in degrees between the row's normals and the true ones, in the input's
    frame, over the compared heads; NaN where few of them are seen.
    """
    places = np.flatnonzero(results.compared).tolist()
    camera = Camera.from_config(results.camera)
    total = ErrorMap.empty(camera.size)
    for start in range(0, len(places), TRUTH_BATCH):
        batch = places[start : start + TRUTH_BATCH]
        depths, masks = _truth(results, batch)
        seen, inside = _seen(results, number, batch, camera)
        total = total.add(seen, inside, depths, masks, camera)
    return total.mean(LEAST_SHARE * len(places)).numpy()


def map_picture(angles: Colours) -> str:
    """Data URI of angles (S, S) in the maps' colours, transparent where there is none."""
    seen = np.isfinite(angles)
    return data_uri(_colours(np.where(seen, angles, 0)), seen.astype(np.float64))


def ramp_picture() -> str:
    """Data URI of the colours from 0 to `MAP_DEGREES`, from left to right."""
    return data_uri(_colours(np.linspace(0, MAP_DEGREES, 256)[None].repeat(8, 0)))


def _colours(angles: Colours) -> Colours:
    place = np.clip(angles / MAP_DEGREES, 0, 1) * (len(RAMP) - 1)
    return np.stack([np.interp(place, range(len(RAMP)), RAMP[:, c]) for c in range(3)], axis=-1)


def _truth(results: Results, places: Positions) -> tuple[Tensor, Tensor]:
    entries = [results.entries[place] for place in places]
    parts: Iterator[tuple[Tensor, Tensor]] = truths(entries, results.camera)
    depths, masks = (torch.cat(part) for part in zip(*parts, strict=True))
    return depths, masks


def _seen(
    results: Results, number: int, places: Positions, camera: Camera
) -> tuple[Tensor, Tensor]:
    """Depth (N, S, S) in the input's view, and where it is; as the scores were made."""
    if number in results.planes:
        depth = results.planes[number].expand(len(places), -1, -1)
        return depth, torch.ones_like(depth)
    return render_depth(*_shapes(results, number, places), camera)


def _shapes(results: Results, number: int, places: Positions) -> tuple[Tensor, Tensor]:
    """Depth (N, S, S) and view (N, 6) of heads by their places, the rows of a run's arrays."""
    if number in results.planes:
        plane = results.planes[number].float()
        return plane.expand(len(places), -1, -1), torch.zeros(len(places), 6)
    run = results.runs[number].path
    depth, view = (store.read_rows(run, name, places) for name in ("depth", "view"))
    return torch.from_numpy(depth), torch.from_numpy(view)

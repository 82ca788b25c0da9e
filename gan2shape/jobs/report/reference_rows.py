"""Reference rows: one depth for all images, scored against their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.jobs.inputs.images import ImageError
from gan2shape.pipeline.evaluation.reference_depths import MeanDepth, constant_depth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.schemas.settings import CameraConfig

Entry = Mapping[str, Any]
"""A row of a manifest."""

DEPTH_SCORES = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
TRUTH_BATCH = 64
CONSTANT, AVERAGE = "Constant depth", "Average true depth"


def truths(entries: Iterable[Entry], camera: CameraConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """True depths and masks (n, S, S) of the entries, `TRUTH_BATCH` at a time.

    Raises `ImageError` when a file cannot be used.
    """
    left = iter(entries)
    while batch := list(islice(left, TRUTH_BATCH)):
        pairs = [load_truth(entry, camera) for entry in batch]
        depths, masks = (np.stack(parts) for parts in zip(*pairs, strict=True))
        yield torch.from_numpy(depths), torch.from_numpy(masks)


def average_depth(entries: Iterable[Entry], camera: CameraConfig) -> MeanDepth:
    """Sums of the true depths of the entries."""
    mean = MeanDepth.empty(camera.size)
    for depths, masks in truths(entries, camera):
        mean = mean.add(depths, masks)
    return mean


def plane_scores(
    planes: Mapping[str, Tensor], entries: Iterable[Entry], camera: CameraConfig
) -> dict[str, pd.DataFrame]:
    """Scores of depths (S, S) float64 by name: one row for each entry, columns `DEPTH_SCORES`.

    A plane is taken as every image's depth in its own view.
    """
    view = Camera.from_config(camera)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in planes}
    for depths, masks in truths(entries, camera):
        for name, plane in planes.items():
            everywhere = torch.ones_like(masks)
            found = depth_metrics(plane.expand_as(depths), everywhere, depths, masks, view)
            columns = {score: getattr(found, score).numpy() for score in DEPTH_SCORES}
            parts[name].append(pd.DataFrame(columns))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def reference_rows(
    entries: list[dict[str, Any]], camera: CameraConfig
) -> tuple[dict[str, pd.DataFrame], str | None]:
    """Scores of constant depth and of the average true depth on images, one row for each image.

    Reads the ground truth twice (the average comes first), `TRUTH_BATCH` images at a time. Gives no
    rows, and the reason, when a file cannot be read any more: the ratios would be of other images.
    """
    if not entries:
        return {}, None
    try:
        planes = {
            CONSTANT: constant_depth(Camera.from_config(camera), 1)[0].double(),
            AVERAGE: average_depth(entries, camera).result(),
        }
        found = plane_scores(planes, entries, camera)
    except ImageError as error:
        return {}, f"ground truth {error}."
    except ValueError as error:
        return {}, str(error)
    ids = pd.Index([entry["image_id"] for entry in entries], name="image_id")
    return {name: scores.set_index(ids) for name, scores in found.items()}, None

"""Depth that is the same for all images, scored against their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.inputs.ground_truth import load_truth
from gan2shape.pipeline.evaluation.reference_depths import MeanDepth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.schemas.settings import CameraConfig

Values = npt.NDArray[np.float64]
Entry = Mapping[str, Any]
"""A row of a manifest."""

DEPTH_SCORES = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
TRUTH_BATCH = 64


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
) -> dict[str, dict[str, Values]]:
    """Scores by name and by `DEPTH_SCORES`, one per entry, of depths (S, S) float64.

    A plane is taken as every image's depth in its own view.
    """
    view = Camera.from_config(camera)
    parts: dict[str, dict[str, list[Values]]] = {
        name: {score: [] for score in DEPTH_SCORES} for name in planes
    }
    for depths, masks in truths(entries, camera):
        for name, plane in planes.items():
            everywhere = torch.ones_like(masks)
            found = depth_metrics(plane.expand_as(depths), everywhere, depths, masks, view)
            for score, values in parts[name].items():
                values.append(getattr(found, score).numpy())
    return {
        name: {score: np.concatenate([*values, []]) for score, values in scores.items()}
        for name, scores in parts.items()
    }

"""How good a GAN is: its samples against real images, part by part."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.training.image_array import Pixels, dataset_key, others, subset, to_images
from gan2shape.pipeline.stylegan2.training.fid import Inception, Statistics, frechet_distance
from gan2shape.pipeline.stylegan2.training.quality import descriptors_of_parts, distances

QUALITY_IMAGES = 1024
FID_IMAGES = 10_000
"""Most real images, and as many samples, of a FID; it depends on their number."""
PART = 64
STATISTICS = "fid-real.npz"
Draw = Callable[[int], Iterable[Tensor]]
"""Gives so many images in parts (n, 3, S, S) in [-1, 1]."""


class RealImages:
    """Real images that others, a GAN's samples above all, are compared with."""

    def __init__(
        self,
        data: Pixels,
        folder: Path,
        inception: Inception | None = None,
        images: int | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`data` are those of `dataset(..., folder)`; `folder` also keeps what takes long.

        `images` is how many to compare, by default 1,024, and 10,000 for FID.
        """
        self.data = data
        self.inception = inception
        self.count = min(len(data), images or QUALITY_IMAGES)
        self.fid_count = min(len(data), images or FID_IMAGES)
        self._descriptors = descriptors_of_parts(self._parts(subset(len(data), self.count)))
        self._statistics: Statistics | None = None
        if inception is not None:
            self._statistics = self._read_statistics(inception, folder, note)

    def wasserstein(self, draw: Draw) -> dict[str, float]:
        """Sliced Wasserstein distances of the images that `draw` gives."""
        return distances(descriptors_of_parts(draw(self.count)), self._descriptors)

    def wasserstein_of_others(self) -> dict[str, float] | None:
        """Of other real images, where there are enough: no generator can be expected to do
        better.
        """
        return self.wasserstein(self._others) if len(self.data) >= 2 * self.count else None

    def fid(self, draw: Draw) -> float | None:
        """Fréchet Inception distance of the images that `draw` gives; `None` without Inception."""
        if self.inception is None or self._statistics is None:
            return None
        return frechet_distance(self.inception.statistics(draw(self.fid_count)), self._statistics)

    def fid_of_others(self) -> float | None:
        """Of other real images, where there are enough."""
        return self.fid(self._others) if len(self.data) >= 2 * self.fid_count else None

    def _others(self, count: int) -> Iterator[Tensor]:
        return self._parts(others(len(self.data), count))

    def _parts(self, rows: npt.NDArray[np.int64]) -> Iterator[Tensor]:
        for start in range(0, len(rows), PART):
            yield to_images(self.data[rows[start : start + PART]])

    def _read_statistics(
        self, inception: Inception, folder: Path, note: Callable[[str], None]
    ) -> Statistics:
        path = folder / STATISTICS
        key = json.dumps([dataset_key(folder), inception.sha256, self.fid_count])
        found = _cached(path, key)
        if found is None:
            note(f"Inception features of {self.fid_count} real images")
            found = inception.statistics(self._parts(subset(len(self.data), self.fid_count)))
            buffer = io.BytesIO()
            mean, covariance = found.mean.numpy(), found.covariance.numpy()
            np.savez(buffer, key=np.array(key), mean=mean, covariance=covariance)
            write_whole(path, buffer.getvalue())
        return found


def _cached(path: Path, key: str) -> Statistics | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            mean, covariance = (torch.from_numpy(file[name]) for name in ("mean", "covariance"))
            return Statistics(mean, covariance)
    except Exception:  # absent, cut off, something else: made again
        return None

"""How good a GAN is: its samples against real images, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.progress import Note
from gan2shape.jobs.training.arrays import CachedRows, others, subset, to_images
from gan2shape.jobs.training.workdir import Cache
from gan2shape.pipeline.stylegan2.training.fid import Inception, Statistics, frechet_distance
from gan2shape.pipeline.stylegan2.training.quality import descriptors_of_parts, distances

QUALITY_IMAGES = 1024
FID_IMAGES = 10_000
"""Most real images, and as many samples, of a FID; it depends on their number."""
PART = 64
STATISTICS = "statistics.safetensors"
Draw = Callable[[int], Iterable[Tensor]]
"""Gives so many images in parts (n, 3, S, S) in [-1, 1]."""


class RealImages:
    """Real images that others, a GAN's samples above all, are compared with."""

    def __init__(
        self,
        real: CachedRows,
        cache: Cache,
        inception: Inception | None,
        note: Note,
        images: int | None = None,
    ) -> None:
        """`real` is from `read_images`; `cache` also keeps what takes long.

        `images` is how many to compare, by default 1,024, and 10,000 for FID.
        """
        self.data = real.values
        self.inception = inception
        self.count = min(len(self.data), images or QUALITY_IMAGES)
        self.fid_count = min(len(self.data), images or FID_IMAGES)
        self._descriptors = descriptors_of_parts(self._parts(subset(len(self.data), self.count)))
        self._statistics: Statistics | None = None
        if inception is not None:
            self._statistics = self._cached_statistics(inception, cache, real.key, note)

    def wasserstein(self, draw: Draw) -> dict[str, float]:
        """Sliced Wasserstein distances of the images that `draw` gives."""
        return distances(descriptors_of_parts(draw(self.count)), self._descriptors)

    def wasserstein_of_others(self) -> dict[str, float] | None:
        """Those of other real images, where there are enough: no generator is expected to do
        better.
        """
        return self.wasserstein(self._others) if len(self.data) >= 2 * self.count else None

    def fid(self, draw: Draw) -> float | None:
        """Fréchet Inception distance of the images that `draw` gives; `None` without Inception."""
        if self.inception is None or self._statistics is None:
            return None
        return frechet_distance(self.inception.statistics(draw(self.fid_count)), self._statistics)

    def fid_of_others(self) -> float | None:
        """The distance of other real images, where there are enough."""
        return self.fid(self._others) if len(self.data) >= 2 * self.fid_count else None

    def _others(self, count: int) -> Iterator[Tensor]:
        return self._parts(others(len(self.data), count))

    def _parts(self, rows: npt.NDArray[np.int64]) -> Iterator[Tensor]:
        for start in range(0, len(rows), PART):
            yield to_images(self.data[rows[start : start + PART]])

    def _cached_statistics(
        self, inception: Inception, cache: Cache, key: Any, note: Note
    ) -> Statistics:
        def make(folder: Path) -> None:
            note(f"Inception features of {self.fid_count} real images")
            found = inception.statistics(self._parts(subset(len(self.data), self.fid_count)))
            tensors = {"mean": found.mean, "covariance": found.covariance}
            write_whole(folder / STATISTICS, save(tensors))

        def load(folder: Path) -> Statistics:
            return Statistics(**load_tensors((folder / STATISTICS).read_bytes()))

        return cache.get("inception", [key, inception.sha256, self.fid_count], make, load)

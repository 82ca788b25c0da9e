"""From a number of images to the shards and groups that they are reconstructed in: plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ShardPlan:
    """One task: consecutive rows of the manifest, cut into groups that share network weights."""

    index: int
    start: int
    stop: int
    groups: tuple[tuple[int, int], ...]
    """Bounds of every group, counted from `start`."""

    @property
    def count(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        sizes = "+".join(str(stop - start) for start, stop in self.groups)
        return f"shard {self.index}: rows {self.start}..{self.stop - 1} in groups of {sizes}"


@dataclass(frozen=True)
class RunPlan:
    """All shards of a run."""

    images: int
    shard_size: int
    group_size: int

    @property
    def shard_count(self) -> int:
        return -(-self.images // self.shard_size)

    def shard(self, index: int) -> ShardPlan:
        """The plan of shard `index` (0-based)."""
        if not 0 <= index < self.shard_count:
            raise IndexError(f"shard {index} of {self.shard_count}")
        start = index * self.shard_size
        stop = min(start + self.shard_size, self.images)
        groups = tuple(
            (first, min(first + self.group_size, stop - start))
            for first in range(0, stop - start, self.group_size)
        )
        return ShardPlan(index, start, stop, groups)

    def images_of(self, shards: Collection[int]) -> int:
        """How many images these shards hold; only the last shard may have fewer than others."""
        last = self.shard_count - 1
        gap = self.shard_count * self.shard_size - self.images
        return len(shards) * self.shard_size - (gap if last in shards else 0)

    def __iter__(self) -> Iterator[ShardPlan]:
        return (self.shard(index) for index in range(self.shard_count))

    def __str__(self) -> str:
        return (
            f"{_count(self.images, 'image')} in {_count(self.shard_count, 'shard')} of up to "
            f"{_count(self.shard_size, 'image')}, weights shared by up to "
            f"{_count(self.group_size, 'image')}"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shard_of_row(row: int, shard_size: int) -> int:
    """Shard that row `row` of the manifest belongs to."""
    return row // shard_size


def make_plan(images: int, shard_size: int, group_size: int) -> RunPlan:
    """Cut `images` into shards of `shard_size` and these into groups of `group_size`."""
    if images < 1 or shard_size < 1 or group_size < 1 or shard_size % group_size:
        raise ValueError(
            f"no plan for {images} images, shards of {shard_size}, groups of {group_size}"
        )
    return RunPlan(images, shard_size, group_size)

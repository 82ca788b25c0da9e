"""Seeds derived from the user's seed, so that all work can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SEED_STRIDE = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: consecutive seeds become far apart."""
INITIAL, GRID_LATENTS, QUALITY_LATENTS = -1, -2, -3
"""Numbers for `spread_seed` besides those of iterations."""


def spread_seed(seed: int, number: int) -> int:
    """The 63-bit seed for one `number` (an iteration, a pass, a purpose) under the user's `seed`.

    Different numbers give seeds that are far apart: on some devices generators with consecutive
    seeds give similar numbers.
    """
    return (seed * 1_000_003 + number) * SEED_STRIDE % (1 << 63)


def group_seed(seed: int, ids: Sequence[str]) -> int:
    """The 63-bit seed for a group of images, from the user's `seed` and the images' ids.

    The order of the ids does not matter.
    """
    text = "\n".join([str(seed), *sorted(ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def spread_generator(device: torch.device | str, seed: int, number: int) -> torch.Generator:
    """A generator on `device`, seeded by `spread_seed`."""
    return torch.Generator(device).manual_seed(spread_seed(seed, number))


def batches(count: int, start: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices of images to train on, batch after batch without end: (batch,) int64 each.

    Every pass over the `count` images has its own random order. The first batch begins after
    `start` images, so that a training can go on where it stopped.
    """
    epoch, order, position = -1, torch.empty(0, dtype=torch.long), start
    while True:
        parts, left = [], batch
        while left:
            if position // count != epoch:
                epoch = position // count
                order = torch.randperm(count, generator=spread_generator("cpu", seed, epoch))
            part = order[position % count :][:left]
            parts.append(part)
            position += len(part)
            left -= len(part)
        yield torch.cat(parts)

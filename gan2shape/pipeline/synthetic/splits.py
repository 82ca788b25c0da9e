"""Which identity seeds belong to which split; fixed for good, so that results stay comparable."""

from __future__ import annotations

from gan2shape.schemas.errors import UserError

SPLITS: dict[str, range] = {
    "train": range(200_000),
    "val": range(200_000, 300_000),
    "test": range(300_000, 400_000),
}
OUTSIDE_FIRST = 900_000
"""Seeds from here on belong to evaluators outside the project and are in no split."""


class SplitError(UserError):
    """No such split, or not that many identities in it."""


def split_seeds(split: str, count: int) -> range:
    """The first `count` identity seeds of `split` ("train", "val" or "test").

    Raises `SplitError` for an unknown split and for a count that the split cannot serve.
    """
    if split not in SPLITS:
        known = ", ".join(SPLITS)
        raise SplitError(f"There is no split {split!r}; choose one of {known}.")
    seeds = SPLITS[split]
    if not 0 < count <= len(seeds):
        raise SplitError(f"Split {split!r} holds {len(seeds)} heads; ask for 1 to {len(seeds)}.")
    return seeds[:count]


def split_of(seed: int) -> str:
    """Name of the split that holds `seed`; "outside" for seeds that are in none."""
    return next((name for name, seeds in SPLITS.items() if seed in seeds), "outside")

from __future__ import annotations

import itertools

import pytest

from gan2shape.pipeline.synthetic.splits import (
    OUTSIDE_FIRST,
    SPLITS,
    SplitError,
    split_of,
    split_seeds,
)


def test_splits_share_no_identity_and_leave_the_outside_seeds_alone() -> None:
    for a, b in itertools.combinations(SPLITS.values(), 2):
        assert not set(a) & set(b)
    assert max(seeds[-1] for seeds in SPLITS.values()) < OUTSIDE_FIRST
    assert split_of(OUTSIDE_FIRST) == "outside"


@pytest.mark.parametrize(("split", "first"), [("train", 0), ("val", 200_000), ("test", 300_000)])
def test_split_seeds_are_fixed(split: str, first: int) -> None:
    seeds = split_seeds(split, 3)
    assert list(seeds) == [first, first + 1, first + 2]
    assert {split_of(seed) for seed in seeds} == {split}


@pytest.mark.parametrize(
    ("split", "count", "word"),
    [("valid", 3, "train, val, test"), ("val", 0, "1"), ("val", 10**6, "100000")],
)
def test_impossible_requests_are_explained(split: str, count: int, word: str) -> None:
    with pytest.raises(SplitError, match=word):
        split_seeds(split, count)

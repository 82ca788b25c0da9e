"""Statistics of scores over images: one way to summarise, to take ratios and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

STATISTICS = ("mean", "std", "median", "q25", "q75", "low", "high")
QUANTILES = {"low": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "high": 1.0}
RESAMPLES = 9999
CONFIDENCE = 0.95


def statistics(scores: pd.DataFrame) -> pd.DataFrame:
    """How each score is spread over the images.

    Args:
        scores: one row for each image, one column for each score. Values that are not finite are
            left out.
    Returns:
        One row for each score, with the columns `count` and `STATISTICS`. `std` is the population's
        (0 for a single image). All but `count` are NaN where a score has no finite value.
    """
    scores = finite(scores)
    found = scores.quantile(list(QUANTILES.values())).set_axis(list(QUANTILES)).T
    found = found.assign(count=scores.count(), mean=scores.mean(), std=scores.std(ddof=0))
    return found[["count", *STATISTICS]]


def finite(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores, with NaN for infinite ones."""
    return scores.where(np.isfinite(scores))


def ratios(scores: pd.DataFrame, reference: pd.DataFrame | None) -> pd.Series:
    """Mean of each score as a share of the reference's mean, both over the same images.

    NaN where one of them has no finite value, or the reference's mean is 0.
    """
    if reference is None:
        return pd.Series(np.nan, scores.columns)
    ours, theirs = (finite(values).mean() for values in (scores, reference))
    return ours / theirs.where(theirs != 0)


def confidence_interval(
    ours: npt.NDArray[np.float64], reference: npt.NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """95 % interval of the mean, or of the ratio of the mean to the reference's mean.

    A percentile bootstrap over images, with a fixed seed. Images are drawn together for both. NaN
    for fewer than two images.
    """
    if ours.size < 2:
        return np.nan, np.nan
    from scipy.stats import bootstrap

    def ratio(ours: Any, reference: Any, axis: int = -1) -> Any:
        return ours.mean(axis) / reference.mean(axis)

    found = bootstrap(
        (ours,) if reference is None else (ours, reference),
        np.mean if reference is None else ratio,
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)

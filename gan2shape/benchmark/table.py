"""The table's numbers: means over the heads that all finished rows share, ratios, intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import bootstrap

from gan2shape.benchmark.methods import CONSTANT, Method, paper_ratio
from gan2shape.benchmark.scores import Results, RowScores, column

Values = npt.NDArray[np.float64]

RESAMPLES = 9999
CONFIDENCE = 0.95
SCORES = {"side": "side", "mad": "mad_degrees"}
"""Names of the table's columns to those of the scores."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % confidence interval; without one for fewer than two images."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figures:
    """One score of one row."""

    mean: Estimate
    std: float
    """Over images (of the population)."""
    ratio: Estimate
    """To the constant row on the same images."""


@dataclass(frozen=True)
class Line:
    """A row of the table; without figures while it is not finished."""

    method: Method
    state: str
    """Empty where it is finished."""
    images: int
    side: Figures | None
    mad: Figures | None
    relief_median: float | None
    training_seconds: float | None
    seconds_per_image: float | None
    failed: int

    def figures(self, score: str) -> Figures | None:
        """By `SCORES`."""
        return {"side": self.side, "mad": self.mad}[score]


def table_lines(results: Results) -> tuple[Line, ...]:
    """All rows in the paper's order."""
    compared = results.compared
    constant = results.row(CONSTANT)
    return tuple(_line(row, constant, compared) for row in results.rows)


def _line(row: RowScores, constant: RowScores, compared: npt.NDArray[np.bool_]) -> Line:
    shown = row.counts and bool(compared.any())
    figures = {
        short: _figures(row.scores[name][compared], constant.scores[name][compared])
        if shown
        else None
        for short, name in SCORES.items()
    }
    relief = row.scores["relief_scale"][compared & np.isfinite(row.scores["relief_scale"])]
    return Line(
        method=row.method,
        state=row.state,
        images=int(compared.sum()) if shown else 0,
        **figures,
        relief_median=float(np.median(relief)) if shown and relief.size else None,
        training_seconds=row.training_seconds,
        seconds_per_image=row.seconds_per_image,
        failed=row.failed,
    )


def _figures(ours: Values, constant: Values) -> Figures:
    low, high = _interval((ours,), _mean)
    ratio = _interval((ours, constant), _ratio)
    return Figures(
        mean=Estimate(float(ours.mean()), low, high),
        std=float(ours.std()),
        ratio=Estimate(float(ours.mean() / constant.mean()), *ratio),
    )


def _mean(values: Values, axis: int = -1) -> Values:
    return np.asarray(values.mean(axis))


def _ratio(ours: Values, constant: Values, axis: int = -1) -> Values:
    return np.asarray(ours.mean(axis) / constant.mean(axis))


def _interval(samples: tuple[Values, ...], statistic: Any) -> tuple[float | None, float | None]:
    """Percentile bootstrap over images, which are drawn together for all samples."""
    if samples[0].size < 2:
        return None, None
    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


# As files


def _score_columns(short: str, units: str, name: str) -> list[pa.Field]:
    number, ratio = pa.float64(), "to the constant row on the same images"
    return [
        column(f"{short}_mean", number, units, f"mean {name} over images"),
        column(f"{short}_std", number, units, f"standard deviation of {name} over images"),
        column(f"{short}_ci_low", number, units, "95 % confidence interval of the mean"),
        column(f"{short}_ci_high", number, units, "95 % confidence interval of the mean"),
        column(f"{short}_ratio", number, "1", f"ratio of the mean {ratio}"),
        column(f"{short}_ratio_ci_low", number, "1", "95 % confidence interval of the ratio"),
        column(f"{short}_ratio_ci_high", number, "1", "95 % confidence interval of the ratio"),
        column(f"paper_{short}", number, units, "as printed in the paper, on its faces"),
        column(f"paper_{short}_ratio", number, "1", "to the paper's constant row"),
    ]


TABLE_SCHEMA = pa.schema(
    [
        column("number", pa.int32(), "", "number of the row in the table"),
        column("name", pa.string(), "", "name of the row"),
        column("symmetry", pa.string(), "", "Y, N or /"),
        column("state", pa.string(), "", "what is missing; empty where it is finished"),
        column("images", pa.int64(), "", "heads that the numbers are over"),
        *_score_columns("side", "1", "SIDE (tables print it x 100)"),
        *_score_columns("mad", "degree", "MAD"),
        column("relief_median", pa.float64(), "1", "median of the best relief scale"),
        column("training_seconds", pa.float64(), "s", "wall time of the networks' training"),
        column("seconds_per_image", pa.float64(), "s", "computing time of the run"),
        column("failed", pa.int64(), "", "heads without a result"),
    ]
)


def as_table(lines: Sequence[Line]) -> pa.Table:
    """One row per method."""
    return pa.Table.from_pylist([_flat(line) for line in lines], schema=TABLE_SCHEMA)


def comma_separated(lines: Sequence[Line]) -> str:
    """The same as CSV; SIDE plain (not times 100), angles in degrees."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TABLE_SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(line) for line in lines)
    return text.getvalue()


def _flat(line: Line) -> dict[str, Any]:
    method, ratios = line.method, paper_ratio(line.method)
    flat: dict[str, Any] = {
        "number": method.number,
        "name": method.name,
        "symmetry": method.symmetry,
        "state": line.state,
        "images": line.images,
        "relief_median": line.relief_median,
        "training_seconds": line.training_seconds,
        "seconds_per_image": line.seconds_per_image,
        "failed": line.failed,
    }
    for short, name in SCORES.items():
        found = line.figures(short)
        if found is not None:
            flat |= {
                f"{short}_mean": found.mean.value,
                f"{short}_std": found.std,
                f"{short}_ci_low": found.mean.low,
                f"{short}_ci_high": found.mean.high,
                f"{short}_ratio": found.ratio.value,
                f"{short}_ratio_ci_low": found.ratio.low,
                f"{short}_ratio_ci_high": found.ratio.high,
            }
        if method.paper is not None and ratios is not None:
            flat[f"paper_{short}"] = getattr(method.paper, name)
            flat[f"paper_{short}_ratio"] = getattr(ratios, name)
    return flat

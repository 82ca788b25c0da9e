"""The rows of the table of scores, and what a reader should know before trusting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan2shape.jobs.report.summary import Method, RunSummary, Spread

SIDE_FACTOR = 100.0
"""Tables print SIDE times 100."""
RELIEF_RANGE = (0.8, 1.25)
"""Best relief scales outside of this are pointed out."""
YAW_RATIO = 0.6
"""Spreads of the predicted yaw below this share of the sampled one are pointed out."""
TABLE_SCORES = (("side", SIDE_FACTOR), ("mad_degrees", 1.0))


@dataclass(frozen=True)
class Row:
    """One line of the table of scores, with the row that its ratios are taken to."""

    method: Method
    name: str
    reference: Method | None
    style: str
    """CSS class of its colour."""


def table_rows(summaries: Sequence[RunSummary]) -> list[Row]:
    """The lines of the table: trivial rows once for every set of images, then the runs on it."""
    sets: list[list[tuple[int, RunSummary]]] = []
    for number, summary in enumerate(summaries):
        home = next((group for group in sets if _same_images(group[0][1], summary)), None)
        if home is None:
            sets.append(home := [])
        home.append((number, summary))
    rows: list[Row] = []
    for group in sets:
        first = group[0][1]
        suffix = f" ({first.label})" if len(sets) > 1 else ""
        for method in first.trivial:
            rows.append(Row(method, method.name + suffix, first.constant, "plain"))
        rows += [
            Row(summary.method, summary.label, first.constant, style_of(number))
            for number, summary in group
        ]
    return rows


def _same_images(a: RunSummary, b: RunSummary) -> bool:
    """Whether two runs were scored on the same ground truth, as their trivial rows show."""
    if not a.trivial or not b.trivial:
        return False
    return all(
        np.array_equal(x.scores["side"], y.scores["side"])
        for x, y in zip(a.trivial, b.trivial, strict=True)
    )


def row_view(row: Row) -> dict[str, Any]:
    """The row as printed text; `side` and `mad` by statistic, or None without scores."""
    relief, paper = row.method.spread("relief_scale"), row.method.spread("mad_paper_degrees")
    view: dict[str, Any] = {
        "name": row.name,
        "trivial": row.method.trivial,
        "style": row.style,
        "count": count(row.method),
        "relief": f"{relief.median:.2f}" if relief and not row.method.trivial else None,
        "mad_paper": f"{paper.mean:.1f}" if paper else None,
    }
    for (score, factor), name in zip(TABLE_SCORES, ("side", "mad"), strict=True):
        found = row.method.spread(score)
        ratio = row.method.ratio(score, row.reference)
        view[name] = found and spread_view(found, factor, digits(score)) | {
            "ratio": None if ratio is None else f"{ratio:.2f}"
        }
    return view


def spread_view(found: Spread, factor: float, digits: int) -> dict[str, Any]:
    """Mean, std, median, q25 and q75 times `factor` as text."""
    names = ("mean", "std", "median", "q25", "q75")
    return {name: f"{getattr(found, name) * factor:.{digits}f}" for name in names}


def notes(summaries: Sequence[RunSummary]) -> list[str]:
    """What a reader should know before trusting the numbers, one sentence or two each."""
    found = []
    for summary in summaries:
        name = f"{summary.label}: " if len(summaries) > 1 else ""
        if summary.left:
            found.append(
                f"{name}{summary.left} of {summary.images} images are not done yet; "
                f"'gan2shape resume {summary.run.path}' goes on with them."
            )
        if summary.trivial_note:
            found.append(
                f"{name}The trivial rows are missing, because the ground truth cannot be read any "
                f"more: {summary.trivial_note}"
            )
        if summary.notes:
            found.append(
                f"{name}{len(summary.notes)} reconstructed images have no scores, because their "
                f"ground truth could not be used; the first: {summary.notes[0].reason}"
            )
        found += [name + text for text in _shape_notes(summary)]
    return found


def _shape_notes(summary: RunSummary) -> list[str]:
    found = []
    relief = summary.method.spread("relief_scale")
    if relief and relief.median <= 0:
        found.append("The relief does not follow the truth: where it is near, the truth is far.")
    elif relief and not RELIEF_RANGE[0] <= relief.median <= RELIEF_RANGE[1]:
        verb = "too deep" if relief.median < 1 else "too shallow"
        found.append(
            f"The relief is {verb}: scaled by {relief.median:.2f}, the typical "
            f"shape fits the truth best."
        )
    rotation = summary.rotation
    deep = relief is None or relief.median < 1  # scores, where there are any, know better
    if deep and len(rotation.degrees) >= 8 and rotation.ratio(1) < YAW_RATIO:
        found.append(
            f"The predicted yaw spreads by {rotation.std(1):.1f}°, the pseudo views by "
            f"{rotation.prior_std[1]:.1f}°. Unless the images really turn so little, the shapes "
            f"explain by relief what is rotation, and are too deep."
        )
    return found


def title(summaries: Sequence[RunSummary]) -> str:
    """The runs' names in one phrase."""
    *others, last = (summary.label for summary in summaries)
    return f"{', '.join(others)} and {last}" if others else last


def any_truth(summaries: Sequence[RunSummary]) -> bool:
    """Whether any image of any run was scored."""
    return any(summary.scored for summary in summaries)


def count(method: Method) -> int:
    """Images that the row's scores are over."""
    found = method.spread("side")
    return found.count if found else 0


def digits(score: str) -> int:
    """Decimals that a score is printed with."""
    return 2 if score in ("side", "relief_scale") else 1


def style_of(number: int) -> str:
    """CSS class of the colour of a run."""
    return f"run-{number % 6 + 1}"


def seconds_text(value: float | None) -> str | None:
    """Three figures at most."""
    if value is None:
        return None
    if value < 0.005:
        return "<0.01"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def memory_text(megabytes: float | None) -> str | None:
    """Memory as people read it."""
    if megabytes is None:
        return None
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"

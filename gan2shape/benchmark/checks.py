"""What the table must show, held against what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from gan2shape.benchmark.methods import METHODS
from gan2shape.benchmark.table import SCORES

CLOSE = 0.10
"""Share of the paper's ratio by which row 4 may be above it: a yardstick must not be weak."""
BETTER = 0.15
"""Share of row 6's scores by which row 10 must be below them."""
NAMES = {"side": "SIDE", "mad": "MAD"}
MOST = {
    1: {"side": 0.154, "mad": 0.251},
    6: {"side": 0.278, "mad": 0.343},
    8: {"side": 0.376, "mad": 0.395},
}
"""Ratios to the constant row that the rows must not exceed: the paper's."""


@dataclass(frozen=True)
class Check:
    """One requirement."""

    row: int
    """The row that it is about; the last one's for all rows."""
    text: str
    """What is demanded, of what."""
    demanded: str
    measured: str | None
    """`None` while a row is missing."""
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "not met", None: "not known yet"}[self.met]

    def __str__(self) -> str:
        measured = "" if self.measured is None else f", measured {self.measured}"
        return f"{self.text}: demanded {self.demanded}{measured}: {self.verdict}"


def all_checks(table: pd.DataFrame) -> tuple[Check, ...]:
    """The requirements in the order of the rows that they are about; of `make_table`."""
    checks = []
    for score in SCORES:
        checks += [
            *(_at_most(table, number, score, most[score]) for number, most in MOST.items()),
            _near_paper(table, 4, score),
            _worse(table, 5, 6, score),
            _worse(table, 7, 8, score),
            _better(table, 10, 6, score),
            _ordered(table, score),
        ]
    checks.append(_quicker(table, 10, 6))
    return tuple(sorted(checks, key=lambda check: check.row))


def _at_most(table: pd.DataFrame, row: int, score: str, most: float) -> Check:
    what = f"{NAMES[score]} ratio"
    ours = _ratio(table, row, score)
    return _check(row, what, f"at most {most:.3f}", ours, lambda value: value <= most)


def _near_paper(table: pd.DataFrame, row: int, score: str) -> Check:
    target = round(float(table[f"paper_{score}_ratio"][row]), 3)
    high = target * (1 + CLOSE)
    demanded = f"at most {high:.3f} ({CLOSE:.0%} above {target:.3f})"
    what = f"{NAMES[score]} ratio"
    return _check(row, what, demanded, _ratio(table, row, score), lambda value: value <= high)


def _worse(table: pd.DataFrame, row: int, than: int, score: str) -> Check:
    limit = _ratio(table, than, score)
    demanded = f"above that of row {than}" + ("" if limit is None else f", {limit:.3f}")
    ours = None if limit is None else _ratio(table, row, score)
    what = f"{NAMES[score]} ratio"
    return _check(row, what, demanded, ours, lambda value: limit is not None and value > limit)


def _better(table: pd.DataFrame, row: int, than: int, score: str) -> Check:
    ours, theirs = _ratio(table, row, score), _ratio(table, than, score)
    share = None if ours is None or theirs is None else ours / theirs
    what = f"{NAMES[score]} as a share of row {than}'s"
    return _check(row, what, f"at most {1 - BETTER:.2f}", share, lambda value: value <= 1 - BETTER)


def _quicker(table: pd.DataFrame, row: int, than: int) -> Check:
    text, demanded = f"Row {row}, seconds per image", f"fewer than row {than}'s"
    if _ratio(table, row, "side") is None or _ratio(table, than, "side") is None:
        return Check(row, text, demanded, None, None)
    ours, limit = (float(table["seconds_per_image"][number]) for number in (row, than))
    return Check(row, text, f"{demanded}, {limit:.1f}", f"{ours:.1f}", ours < limit)


def _ordered(table: pd.DataFrame, score: str) -> Check:
    """Whether the paper's rows come in its order."""
    rows = table[table[f"paper_{score}"].notna()]
    wanted = list(rows[f"paper_{score}"].sort_values(kind="stable").index)
    ratios = rows[f"{score}_ratio"]
    last, text = METHODS[-1].number, f"Rows from best to worst by {NAMES[score]}"
    if ratios.isna().any():
        return Check(last, text, _numbers(wanted), None, None)
    ours = list(ratios.sort_values(kind="stable").index)
    demanded = f"{_numbers(wanted)} as in the paper"
    return Check(last, text, demanded, _numbers(ours), ours == wanted)


def _numbers(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows))


def _ratio(table: pd.DataFrame, row: int, score: str) -> float | None:
    found = float(table[f"{score}_ratio"][row])
    return None if pd.isna(found) else found


def _check(
    row: int, what: str, demanded: str, value: float | None, met: Callable[[float], bool]
) -> Check:
    text = f"Row {row}, {what}"
    if value is None:
        return Check(row, text, demanded, None, None)
    return Check(row, text, demanded, f"{value:.3f}", bool(met(value)))

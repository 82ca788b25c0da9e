"""What the table must show, compared with what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gan2shape.benchmark.methods import METHODS

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
"""By row, the paper's ratios to the constant row, which ours must not exceed."""


@dataclass(frozen=True)
class Check:
    """One requirement."""

    row: int
    """Number of the row that it is about; of the last row where it is about all."""
    text: str
    """What is measured, of which row."""
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
    for score, name in NAMES.items():
        ratios, what = table[f"{score}_ratio"], f"{name} ratio"
        for row, most in MOST.items():
            checks.append(_at_most(row, what, ratios[row], most[score], f"{most[score]:.3f}"))
        target = round(float(table[f"paper_{score}_ratio"][4]), 3)
        high = target * (1 + CLOSE)
        limit = f"{high:.3f} ({CLOSE:.0%} above {target:.3f})"
        checks.append(_at_most(4, what, ratios[4], high, limit))
        checks += [_above(what, ratios, 5, 6), _above(what, ratios, 7, 8)]
        share, what = ratios[10] / ratios[6], f"{name} as a share of row 6's"
        checks.append(_at_most(10, what, share, 1 - BETTER, f"{1 - BETTER:.2f}"))
        checks.append(_ordered(table, score))
    checks.append(_quicker(table, 10, 6))
    return tuple(sorted(checks, key=lambda check: check.row))


def _at_most(row: int, what: str, value: float, limit: float, demanded: str) -> Check:
    return _check(row, what, f"at most {demanded}", value, value <= limit)


def _above(what: str, ratios: pd.Series, row: int, than: int) -> Check:
    value, limit = float(ratios[row]), float(ratios[than])
    demanded = f"above that of row {than}" + ("" if pd.isna(limit) else f", {limit:.3f}")
    return _check(row, what, demanded, np.nan if pd.isna(limit) else value, value > limit)


def _check(row: int, what: str, demanded: str, value: float, met: bool) -> Check:
    text = f"Row {row}, {what}"
    if pd.isna(value):
        return Check(row, text, demanded, None, None)
    return Check(row, text, demanded, f"{value:.3f}", bool(met))


def _quicker(table: pd.DataFrame, row: int, than: int) -> Check:
    text, demanded = f"Row {row}, seconds per image", f"fewer than row {than}'s"
    if table["side_ratio"][[row, than]].isna().any():
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

"""What the table must show, held against what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan2shape.benchmark.methods import BY_NUMBER, paper_ratio
from gan2shape.benchmark.table import SCORES, Line

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


def all_checks(lines: Sequence[Line]) -> tuple[Check, ...]:
    """The requirements in the order of the rows that they are about."""
    found = {line.method.number: line for line in lines}
    checks = []
    for score in SCORES:
        checks += [
            *(_at_most(found[number], score, most[score]) for number, most in MOST.items()),
            _near_paper(found[4], score),
            _worse(found[5], found[6], score),
            _worse(found[7], found[8], score),
            _better(found[10], found[6], score),
            _ordered(lines, score),
        ]
    checks.append(_quicker(found[10], found[6]))
    return tuple(sorted(checks, key=lambda check: check.row))


def _at_most(line: Line, score: str, most: float) -> Check:
    what = f"{NAMES[score]} ratio"
    return _check(
        line, what, f"at most {most:.3f}", _ratio(line, score), lambda value: value <= most
    )


def _near_paper(line: Line, score: str) -> Check:
    paper = paper_ratio(BY_NUMBER[line.method.number])
    assert paper is not None  # row 4 is the paper's
    target = round(getattr(paper, SCORES[score]), 3)
    high = target * (1 + CLOSE)
    demanded = f"at most {high:.3f} ({CLOSE:.0%} above {target:.3f})"
    what = f"{NAMES[score]} ratio"
    return _check(line, what, demanded, _ratio(line, score), lambda value: value <= high)


def _worse(line: Line, than: Line, score: str) -> Check:
    limit = _ratio(than, score)
    of = f"row {than.method.number}"
    demanded = f"above that of {of}" + ("" if limit is None else f", {limit:.3f}")
    ours = None if limit is None else _ratio(line, score)
    what = f"{NAMES[score]} ratio"
    return _check(line, what, demanded, ours, lambda value: limit is not None and value > limit)


def _better(line: Line, than: Line, score: str) -> Check:
    ours, theirs = _ratio(line, score), _ratio(than, score)
    share = None if ours is None or theirs is None else ours / theirs
    what = f"{NAMES[score]} as a share of row {than.method.number}'s"
    return _check(line, what, f"at most {1 - BETTER:.2f}", share, lambda value: value <= 1 - BETTER)


def _quicker(line: Line, than: Line) -> Check:
    limit = than.seconds_per_image if _ratio(than, "side") is not None else None
    ours = line.seconds_per_image if _ratio(line, "side") is not None else None
    number = line.method.number
    text = f"Row {number}, seconds per image"
    demanded = f"fewer than row {than.method.number}'s"
    if limit is None or ours is None:
        return Check(number, text, demanded, None, None)
    return Check(number, text, f"{demanded}, {limit:.1f}", f"{ours:.1f}", ours < limit)


def _ordered(lines: Sequence[Line], score: str) -> Check:
    """Whether the paper's rows come in its order."""
    rows = [line for line in lines if line.method.paper is not None]
    paper = sorted(rows, key=lambda line: getattr(line.method.paper, SCORES[score]))
    ratios = {line.method.number: _ratio(line, score) for line in rows}
    found = {number: ratio for number, ratio in ratios.items() if ratio is not None}
    wanted, last = [line.method.number for line in paper], lines[-1].method.number
    text, demanded = f"Rows from best to worst by {NAMES[score]}", _numbers(wanted)
    if len(found) < len(rows):
        return Check(last, text, demanded, None, None)
    ours = sorted(found, key=found.__getitem__)
    return Check(last, text, f"{demanded} as in the paper", _numbers(ours), ours == wanted)


def _numbers(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows))


def _ratio(line: Line, score: str) -> float | None:
    found = line.figures(score)
    return None if found is None else found.ratio.value


def _check(
    line: Line, what: str, demanded: str, value: float | None, met: Callable[[float], bool]
) -> Check:
    number = line.method.number
    text = f"Row {number}, {what}"
    if value is None:
        return Check(number, text, demanded, None, None)
    return Check(number, text, demanded, f"{value:.3f}", bool(met(value)))

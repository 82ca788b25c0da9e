"""What the loops of trainings share: mean figures, pace, a log that goes on, stopping in time."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gan2shape.jobs.files import write_whole


@dataclass
class Means:
    """Means of figures since the last `take`."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: dict[str, Tensor]) -> None:
        for name, value in figures.items():
            value = value.double()  # and stays on its device, which is not waited for
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


class Pace:
    """Images per second, averaged over the last few reports."""

    def __init__(self, images: int) -> None:
        self._marks = [(time.monotonic(), images)]

    def __call__(self, images: int) -> float:
        self._marks = [*self._marks[-9:], (time.monotonic(), images)]
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(end - start, 1e-6)


class Stop:
    """While entered, SIGINT and SIGTERM only set `asked`; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever calls takes care
                break
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def append_row(log: Path, row: dict[str, Any]) -> None:
    """Add one row to a log, its numbers to five digits."""
    with log.open("a") as file:
        file.write(json.dumps(rounded(row)) + "\n")


def read_rows(log: Path) -> list[dict[str, Any]]:
    """The rows of a log; a half-written last line is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def trim_rows(log: Path, images: int) -> None:
    """Drop rows of images that will be shown again."""
    rows = [row for row in read_rows(log) if row["images"] <= images and images]
    write_whole(log, "".join(json.dumps(row) + "\n" for row in rows).encode())


def rounded(value: Any) -> Any:
    """Numbers to five digits, wherever they are."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value

"""Parts of a benchmark beside the table: each makes something and shows it in a section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan2shape.benchmark.record import Bench
from gan2shape.jobs.progress import Display
from gan2shape.jobs.report.tables import Table, markdown


@dataclass(frozen=True)
class Section:
    """What an experiment found, for the page and for table.md."""

    title: str
    lead: str
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    """How to read the tables."""
    picture: str | None = None
    """Data URI, for the page alone."""

    @property
    def markdown(self) -> list[str]:
        """Lines of text."""
        lines = [f"## {self.title}", "", self.lead]
        for table in self.tables:
            lines += ["", *markdown(table)]
        return [*lines, "", " ".join(self.notes)] if self.notes else lines


@dataclass(frozen=True)
class Experiment:
    """A part of a benchmark beside the table."""

    title: str
    """What the progress display calls it."""
    make: Callable[[Bench, Display], None]
    """Computes what is missing, in a folder of its own inside the benchmark's. After an
    interruption the same call goes on."""
    section: Callable[[Bench], Section | None]
    """Its section, from the files that are there; `None` when there are none."""

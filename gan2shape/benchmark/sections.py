"""What a part of a benchmark beside the table is: something to make, and a section to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from gan2shape.benchmark.record import Bench
from gan2shape.jobs.progress import Display


@dataclass(frozen=True)
class Section:
    """What an experiment found, for the page and for table.md."""

    title: str
    body: Markup
    """HTML of the page's section, below its title; in the classes of report.css."""
    markdown: str


@dataclass(frozen=True)
class Experiment:
    """One of them."""

    title: str
    """What its part is called while it goes on."""
    make: Callable[[Bench, Display], None]
    """Computes what is missing, in a folder of its own in the benchmark's; interrupted, it goes on
    when it is called again."""
    section: Callable[[Bench], Section | None]
    """Its section from what is there; `None` when that is nothing."""

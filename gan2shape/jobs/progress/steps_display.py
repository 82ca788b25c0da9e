"""Progress of trainings on the terminal: a bar for each, a line now and then for log files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from gan2shape.jobs.progress.run_display import PLAIN_SECONDS, duration, sentences

Show = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much it is)."""
ShowMany = Callable[[str, str, int, int], None]
"""The same of several at once, after the name of one."""
Note = Callable[[str], None]

INVERSION = "inversion"
"""Of images, before the steps of a training."""


@contextmanager
def steps_display(console: Console) -> Iterator[tuple[Show, Note]]:
    """Gives a function that shows how far something is, and one that says a sentence.

    Bars with time to go on a terminal, one for inversion and one for all else; elsewhere a line now
    and then.
    """
    with side_display(console) as (show_many, note):

        def show(stage: str, done: int, total: int) -> None:
            show_many(INVERSION if stage == INVERSION else "", stage, done, total)

        yield show, note


@contextmanager
def side_display(console: Console) -> Iterator[tuple[ShowMany, Note]]:
    """The same for what is done side by side: a bar, or lines, for each name."""
    note = sentences(console)
    if not console.is_terminal:
        yield _lines(note), note
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, stage: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(stage, total=total)
            progress.update(tasks[name], description=stage, completed=done, total=total)

        yield show, note


def _lines(note: Note) -> ShowMany:
    last: dict[str, float] = {}
    began: dict[str, tuple[float, int, int]] = {}

    def show(name: str, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name not in began or began[name][1] > done or began[name][2] != total:
            began[name] = now, done, total  # something else has begun
        start, first, _ = began[name]
        if now - last.get(name, float("-inf")) < PLAIN_SECONDS and done != total:
            return
        last[name] = now
        pace = (now - start) / (done - first) if done > first else None
        left = "" if pace is None else f", about {duration(pace * (total - done))} to go"
        note(f"{stage}: {done}/{total}{left}")

    return show

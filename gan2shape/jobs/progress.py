"""Progress on the terminal: bars for people who watch, a line now and then for log files.

Whatever takes long calls `show` and `note`; what the terminal makes of them is said here alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gan2shape.jobs.run.status import RunStatus

LINE_SECONDS = 30.0
"""From one line about a task to the next, in log files."""
MOST_TASKS, MOST_DETAILS = 12, 8
BAR_WIDTH = 30


class Show(Protocol):
    """Tells how far a task is."""

    def __call__(
        self,
        task: str,
        stage: str,
        done: float,
        total: float,
        seconds_left: float | None = None,
        details: Sequence[str] = (),
    ) -> None:
        """Show the task `task`, which is done when `done` is `total`.

        `stage` says in words what is being done. The time to go comes from the pace of the task
        unless `seconds_left` is given. `details` are lines about what is going on inside.
        """


Note = Callable[[str], None]
"""Says a sentence."""


@dataclass(frozen=True)
class Display:
    """Where progress and sentences go."""

    show: Show
    note: Note


def steps_of(show: Show, task: str) -> Callable[[str, int, int], None]:
    """A function (stage, done, total) that shows the stages of one task."""
    return lambda stage, done, total: show(task, stage, done, total)


def below(show: Show, name: str) -> Show:
    """A function that shows tasks as tasks of `name`, beside those of others."""

    def named(task: str, stage: str, *more: Any, **options: Any) -> None:
        show(f"{name} {task}", f"{name}: {stage}", *more, **options)

    return named


def run_progress(show: Show) -> Callable[[RunStatus], None]:
    """A function that shows the status of a run: images, the stages of shards, the time to go."""

    def tell(status: RunStatus) -> None:
        show(
            "run",
            images_done(status),
            1.0 if status.complete else min(status.fraction, 0.99),
            1.0,
            status.seconds_left,
            [shard_line(item.shard, item.stage, item.fraction) for item in status.running],
        )

    return tell


def images_done(status: RunStatus) -> str:
    """How many images of a run are done, and how many of these failed."""
    failed = f" ({status.images_failed} failed)" if status.images_failed else ""
    return f"{status.images_done}/{status.images} images done{failed}"


def shard_line(shard: int, stage: str, fraction: float) -> str:
    """How far a shard is."""
    return f"shard {shard}: {stage}, {fraction:.0%}"


def status_table(status: RunStatus) -> Group:
    """What `gan2shape status` prints."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "done", "failed", "running", "left"):
        table.add_column(name, justify="left" if not name else "right")
    running, busy = sum(item.images for item in status.running), len(status.running)
    done = status.images_done - status.images_failed
    images = (done, status.images_failed, running, status.images_left - running)
    table.add_row("images", *map(str, images))
    table.add_row("shards", str(status.shards_done), "", str(busy), str(status.shards_left - busy))
    lines = [f"  {shard_line(item.shard, item.stage, item.fraction)}" for item in status.running]
    if status.complete:
        lines.append("complete")
    elif not status.running:
        lines.append("not running")
    else:
        lines.append(f"time to go: {duration(status.seconds_left)}")
    return Group(table, *(Text(line) for line in lines))


def duration(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@contextmanager
def terminal_display(console: Console) -> Iterator[Display]:
    """Gives the functions that show progress on `console` while the block lasts.

    A task that is done leaves one line behind.
    """
    tasks: dict[str, _Task] = {}

    def note(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    def show(
        task: str,
        stage: str,
        done: float,
        total: float,
        seconds_left: float | None = None,
        details: Sequence[str] = (),
    ) -> None:
        known = tasks.get(task)
        if known is None or known.done > done or known.total != total:
            known = tasks[task] = _Task(total, done)  # something else has begun
        known.stage, known.done, known.left, known.details = stage, done, seconds_left, details
        now = time.monotonic()
        if done >= total and not known.over:
            known.over = True
            note(known.line())
        elif not known.over and not console.is_terminal and now - known.told > LINE_SECONDS:
            known.told = now
            note(known.line())

    if not console.is_terminal:
        yield Display(show, note)
        return
    with Live(
        console=console,
        refresh_per_second=4,
        get_renderable=lambda: _bars([task for task in tasks.values() if not task.over]),
    ):
        yield Display(show, note)


class _Task:
    """What is known of a task."""

    def __init__(self, total: float, done: float) -> None:
        self.stage = ""
        self.done = self.first = done
        self.total = total
        self.left: float | None = None
        self.details: Sequence[str] = ()
        self.over = False
        self.told = float("-inf")
        self._start = time.monotonic()

    @property
    def percent(self) -> str:
        return f"{self.done / self.total:.0%}" if self.total else ""

    @property
    def time_to_go(self) -> str:
        """In words; empty where it is not known."""
        left = self.left
        if left is None and self.done > self.first:
            seconds = time.monotonic() - self._start
            left = seconds / (self.done - self.first) * (self.total - self.done)
        return f"about {duration(left)} to go" if left else ""

    def line(self) -> str:
        count = f": {self.done:.0f}/{self.total:.0f}" if self.total > 1 else ""
        left = "" if self.done >= self.total or not self.time_to_go else f", {self.time_to_go}"
        return "; ".join([f"{self.stage}{count}{left}", *self.details[:1]])


def _bars(tasks: Sequence[_Task]) -> Group:
    """Bars of the first tasks, and what is going on inside them."""
    parts: list[Table | Text] = []
    for task in tasks[:MOST_TASKS]:
        table = Table.grid(padding=(0, 1))
        count = f"{task.done:.0f}/{task.total:.0f}" if task.total > 1 else ""
        bar = ProgressBar(max(task.total, 1e-9), task.done, width=BAR_WIDTH)
        table.add_row(bar, task.percent, Text(task.stage), count, task.time_to_go)
        parts += [table, *(Text(f"  {line}") for line in task.details[:MOST_DETAILS])]
        if len(task.details) > MOST_DETAILS:
            parts.append(Text(f"  and {len(task.details) - MOST_DETAILS} more"))
    if len(tasks) > MOST_TASKS:
        parts.append(Text(f"and {len(tasks) - MOST_TASKS} more"))
    return Group(*parts)

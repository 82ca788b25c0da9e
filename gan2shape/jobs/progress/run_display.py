"""Progress on the terminal: bars for people who watch, a line now and then for log files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gan2shape.jobs.run.status import RunStatus

PLAIN_SECONDS = 30.0
SHOWN_SHARDS = 8
Show = Callable[[RunStatus], None]


@contextmanager
def progress_display(console: Console) -> Iterator[Show]:
    """Gives a function that shows a status; call it as often as you like."""
    if console.is_terminal:
        with _bars(console) as show:
            yield show
    else:
        yield _lines(console)


def sentences(console: Console) -> Callable[[str], None]:
    """A function that prints a sentence as it is."""

    def note(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    return note


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


def summary(status: RunStatus) -> str:
    """One line: images done, failed, and the time to go."""
    text = f"{status.images_done}/{status.images} images done"
    if status.images_failed:
        text += f" ({status.images_failed} failed)"
    if status.seconds_left:
        text += f", about {duration(status.seconds_left)} to go"
    return text


def status_table(status: RunStatus) -> Group:
    """What `gan2shape status` prints."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "done", "failed", "running", "left"):
        table.add_column(name, justify="left" if not name else "right")
    running = sum(item.images for item in status.running)
    done = status.images_done - status.images_failed
    table.add_row(
        "images",
        *(str(n) for n in (done, status.images_failed, running, status.images_left - running)),
    )
    busy = len(status.running)
    table.add_row("shards", str(status.shards_done), "", str(busy), str(status.shards_left - busy))
    lines = [f"  {_shard_line(item.shard, item.stage, item.fraction)}" for item in status.running]
    if status.complete:
        lines.append("complete")
    elif not status.running:
        lines.append("not running")
    else:
        lines.append(f"time to go: {duration(status.seconds_left)}")
    return Group(table, *(Text(line) for line in lines))


def _shard_line(shard: int, stage: str, fraction: float) -> str:
    return f"shard {shard}: {stage}, {fraction:.0%}"


@contextmanager
def _bars(console: Console) -> Iterator[Show]:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[percent]:>4}"),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    started = time.monotonic()
    total = progress.add_task("images", total=None, percent="", count="", note="starting workers")
    stages: dict[int, str] = {}

    def render() -> Group:
        shown = list(stages.values())[:SHOWN_SHARDS]
        more = len(stages) - len(shown)
        if more > 0:
            shown.append(f"  and {more} more")
        return Group(progress, *(Text(line) for line in shown))

    with Live(console=console, refresh_per_second=4, get_renderable=render, transient=False):

        def show(status: RunStatus) -> None:
            note = f"{duration(time.monotonic() - started)} elapsed"
            if status.images_failed:
                note += f", [red]{status.images_failed} failed[/red]"
            if status.seconds_left:
                note += f", about {duration(status.seconds_left)} to go"
            # The bar moves with the work, the count with what is committed.
            progress.update(
                total,
                total=1.0,
                completed=status.fraction,
                percent=f"{status.fraction:.0%}",
                count=f"{status.images_done}/{status.images}",
                note=note,
            )
            stages.clear()
            for item in status.running:
                stages[item.shard] = f"  {_shard_line(item.shard, item.stage, item.fraction)}"

        yield show


def _lines(console: Console) -> Show:
    last_time = 0.0
    last_done = -1

    def show(status: RunStatus) -> None:
        nonlocal last_time, last_done
        now = time.monotonic()
        if status.images_done == last_done and now - last_time < PLAIN_SECONDS:
            return
        if status.images_done != last_done and now - last_time < 1 and not status.complete:
            return
        last_time, last_done = now, status.images_done
        text = summary(status)
        if status.running:
            first = status.running[0]
            text += f"; {_shard_line(first.shard, first.stage, first.fraction)}"
        console.print(text, highlight=False, soft_wrap=True)

    return show

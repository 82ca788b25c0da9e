"""Progress of a GAN training: a bar for people who watch, a line now and then for log files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gan2shape.jobs.progress.run_display import PLAIN_SECONDS, duration, sentences
from gan2shape.jobs.training.gan import Status

Show = Callable[[Status], None]
Note = Callable[[str], None]


@contextmanager
def training_display(console: Console) -> Iterator[tuple[Show, Note]]:
    """Gives a function that shows how far training is, and one that prints a sentence."""
    note = sentences(console)
    if not console.is_terminal:
        yield _lines(note), note
        return
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=None, text="")

        def show(status: Status) -> None:
            progress.update(task, total=status.total, completed=status.images, text=line(status))
            if status.quality:
                note(judgement(status))

        yield show, note


def line(status: Status) -> str:
    """One line: images shown, pace, time to go, losses, augmentation."""
    parts = [f"{status.images}/{status.total} images"]
    if status.images_per_second:
        parts.append(f"{status.images_per_second:.1f} images/s")
        parts.append(f"about {duration(status.seconds_left)} to go")
    figures = status.figures
    if "d" in figures:
        parts.append(f"losses D {figures['d']:.2f} G {figures['g']:.2f}")
    if figures.get("p"):
        parts.append(f"augmented {figures['p']:.0%}")
    return ", ".join(parts)


def judgement(status: Status) -> str:
    """The quality figures in a sentence."""
    levels = dict(status.quality or {})
    mean = levels.pop("mean", float("nan"))
    each = ", ".join(f"{name} {value:.0f}" for name, value in levels.items())
    fid = "" if status.fid is None else f", FID {status.fid:.1f}"
    return f"after {status.images} images: sliced Wasserstein distance {mean:.0f} ({each}){fid}"


def _lines(note: Note) -> Show:
    last = 0.0

    def show(status: Status) -> None:
        nonlocal last
        if status.quality:
            note(judgement(status))
        now = time.monotonic()
        if now - last < PLAIN_SECONDS and status.images < status.total:
            return
        last = now
        note(line(status))

    return show

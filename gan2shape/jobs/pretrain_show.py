"""What people see of a joint training: a sheet of pictures, and progress on the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from gan2shape.jobs.display import PLAIN_SECONDS, duration
from gan2shape.jobs.gan_show import write_grid
from gan2shape.pipeline.camera import Camera
from gan2shape.pipeline.edit import normal_picture, turn
from gan2shape.pipeline.group import Group
from gan2shape.pipeline.reconstruct import shapes_of

SHOWN = 8
TURN_DEGREES = 35.0
COLUMNS = 6


@torch.no_grad()
def write_pictures(path: Path, group: Group) -> Tensor:
    """A row for each of the first images: input, reconstruction, albedo, normals, turned left and
    right. Returns the views (N, 6) that the networks see in all images.
    """
    shapes = shapes_of(group, {})
    write_sheet(
        path,
        group.targets.images[:SHOWN],
        shapes.reconstruction[:SHOWN],
        shapes.depth[:SHOWN],
        shapes.albedo[:SHOWN],
        shapes.view[:SHOWN],
        shapes.light[:SHOWN],
        shapes.mask[:SHOWN],
        group.camera,
    )
    return shapes.view


def write_sheet(
    path: Path,
    images: Tensor,
    reconstruction: Tensor,
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    mask: Tensor,
    camera: Camera,
) -> None:
    """The rows of `write_pictures` for any shapes; the names are those of `Shapes`."""
    angle = math.radians(TURN_DEGREES)
    turns = torch.tensor([[0.0, angle, 0.0], [0.0, -angle, 0.0]])
    turned = turn(depth, albedo, view, light, turns, camera)  # (B, 2, 3, S, S)
    normals = normal_picture(depth, view, camera, mask=mask)
    flat = torch.stack([images, reconstruction, albedo, normals], 1)
    sheet = torch.cat([flat, turned], 1).flatten(0, 1)  # (B * COLUMNS, 3, S, S)
    path.parent.mkdir(exist_ok=True)
    write_grid(path, sheet.nan_to_num().cpu(), COLUMNS)


Show = Callable[[str, int, int], None]
Note = Callable[[str], None]


@contextmanager
def steps_display(console: Console) -> Iterator[tuple[Show, Note]]:
    """Gives a function that shows (what is being done, done, total), and one that says a sentence.

    A bar with time to go on a terminal; elsewhere a line now and then.
    """

    def note(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    if not console.is_terminal:
        yield _lines(note), note
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        inverting = progress.add_task("inversion", total=None, visible=False)
        training = progress.add_task("training", total=None)

        def show(stage: str, done: int, total: int) -> None:
            task = inverting if stage == "inversion" else training
            name = "latents" if stage == "inversion" else stage
            progress.update(task, description=name, completed=done, total=total, visible=True)

        yield show, note


def _lines(note: Note) -> Show:
    last = float("-inf")
    began: dict[bool, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        start, first = began.setdefault(stage == "inversion", (now, done))
        if now - last < PLAIN_SECONDS and done != total:
            return
        last = now
        pace = (now - start) / (done - first) if done > first else None
        left = "" if pace is None else f", about {duration(pace * (total - done))} to go"
        note(f"{stage}: {done}/{total}{left}")

    return show

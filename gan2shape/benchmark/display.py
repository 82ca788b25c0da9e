"""What the parts of a benchmark show while they go on; the command says where."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gan2shape.jobs.progress.steps_display import Note, Show, ShowMany
from gan2shape.jobs.run.status import RunStatus


@dataclass(frozen=True)
class Display:
    """Where progress goes; `steps_display`, `side_display` and `progress_display` fit."""

    note: Note
    steps: Callable[[], AbstractContextManager[tuple[Show, Note]]]
    side_by_side: Callable[[], AbstractContextManager[tuple[ShowMany, Note]]]
    run: Callable[[], AbstractContextManager[Callable[[RunStatus], None]]]

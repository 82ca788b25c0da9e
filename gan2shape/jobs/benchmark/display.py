"""What the parts of a benchmark show while they go on; the command says where."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gan2shape.jobs.status import RunStatus

Show = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much it is)."""
Note = Callable[[str], None]


@dataclass(frozen=True)
class Display:
    """Where progress goes; `steps_display` and `progress_display` fit."""

    note: Note
    steps: Callable[[], AbstractContextManager[tuple[Show, Note]]]
    run: Callable[[], AbstractContextManager[Callable[[RunStatus], None]]]

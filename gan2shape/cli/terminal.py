"""What commands say, and how they stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130


def terminal() -> Console:
    from rich.console import Console

    return Console()


def print_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


@contextmanager
def stopping(sentence: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end what runs here with a sentence for people."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo(sentence, err=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def print_result(work: Callable[[Any, Any, Any], Any], request: Any, sentence: str) -> None:
    """Do `work` with progress on the terminal and print the path that it returns.

    `sentence` says how to go on when it is stopped.
    """
    from gan2shape.jobs.progress import terminal_display

    with stopping(sentence), terminal_display(terminal()) as display:
        path = work(request, display.show, display.note)
    click.echo(str(path))


def _interrupt(number: int, frame: Any) -> NoReturn:
    """SIGTERM (batch systems send it) ends a run the way Ctrl-C does."""
    raise KeyboardInterrupt

"""How far a running shard is: one small file, replaced whole, readable by any process."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gan2shape.jobs.files import write_whole

FILE = "progress.json"
STALE_SECONDS = 120.0
"""A shard that has not said anything for so long is taken to have stopped."""


@dataclass(frozen=True)
class Progress:
    """What a worker says about its shard."""

    shard: int
    images: int
    stage: str
    fraction: float
    """Share of the shard's work that is done, 0 to 1."""
    fraction_at_start: float
    """The same when this worker took the shard up: more than 0 when it went on from checkpoints."""
    started: float
    updated: float
    host: str
    pid: int

    def alive(self, now: float) -> bool:
        """Whether the worker can still be there; certain on its own machine."""
        if self.host == socket.gethostname():
            return _exists(self.pid)
        return now - self.updated < STALE_SECONDS

    def seconds_per_shard(self, now: float) -> float | None:
        """Estimate for a whole shard, once there is anything to estimate from."""
        gained = self.fraction - self.fraction_at_start
        return (now - self.started) / gained if gained > 0.02 else None


class Reporter:
    """Writes a shard's progress at most once a second."""

    def __init__(
        self,
        folder: Path,
        shard: int,
        images: int,
        interval: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._interval = interval
        self._clock = clock
        now = clock()
        self._last = 0.0
        self._now = Progress(
            shard, images, "starting", 0.0, 0.0, now, now, socket.gethostname(), os.getpid()
        )

    def __call__(self, stage: str, fraction: float, force: bool = False) -> None:
        """Say that `stage` runs and `fraction` of the shard is done."""
        now = self._clock()
        if not force and now - self._last < self._interval:
            return
        self._last = now
        self._now = Progress(**(asdict(self._now) | _change(stage, fraction, now)))
        self._write()

    def resumed_at(self, fraction: float) -> None:
        """Say that checkpoints gave `fraction` of the shard for nothing."""
        change = {"fraction_at_start": fraction, "fraction": fraction}
        self._now = Progress(**(asdict(self._now) | change))

    def _write(self) -> None:
        content = json.dumps(asdict(self._now)).encode()
        with suppress(OSError):  # progress is worth neither an fsync nor a failure
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / FILE, content, durable=False)


def _change(stage: str, fraction: float, now: float) -> dict[str, object]:
    return {"stage": stage, "fraction": min(max(fraction, 0.0), 1.0), "updated": now}


def read_progress(folder: Path) -> Progress | None:
    """The progress in a shard's checkpoint folder, or `None`."""
    try:
        return Progress(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def read_all(run: Path) -> list[Progress]:
    """Progress of all shards that have any, in shard order."""
    found = (read_progress(file.parent) for file in (run / "checkpoints").glob(f"shard-*/{FILE}"))
    return sorted((item for item in found if item is not None), key=lambda item: item.shard)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

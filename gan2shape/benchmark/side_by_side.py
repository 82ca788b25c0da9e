"""Trainings side by side: Dask tasks, each in a worker with its own cores or GPU.

Two trainings with a core each take less time than one after the other with both. One that goes on
from another's networks waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan2shape.benchmark.plan import Training
from gan2shape.benchmark.trainings import is_trained, train
from gan2shape.jobs.cluster.local import local_client
from gan2shape.jobs.progress import Note, Show, below
from gan2shape.jobs.run.start import Execution
from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from distributed import Future

TOPIC = "training"
SHOW_SECONDS = 1.0
"""From one message of a training about its progress to the next."""


def train_all(
    trainings: Sequence[Training],
    heads: Path,
    cache: Path,
    execution: Execution,
    show: Show,
    note: Note,
) -> bool:
    """Train all that are not finished, or go on with them; returns whether there was need to.

    They come after those that they go on from. One alone, or one worker, trains in this process.
    Raises what the first of them raised, after the others that do not need it have finished, and
    `UserError` where its process was killed; stopped, it ends them all, and the same call goes on
    from their last checkpoints.
    """
    from distributed import KilledWorker

    missing = [training for training in trainings if not is_trained(cache, training)]
    if not missing:
        return False
    workers = execution.workers_for(len(missing))
    if workers.count == 1:
        for training in missing:
            train(training, heads, cache, execution, below(show, training.folder), note)
        return True
    note(f"{len(missing)} trainings on {workers}")
    alone = replace(execution, workers=1, threads=workers.threads)
    with local_client(workers) as client:

        def tell(event: tuple[float, Any]) -> None:
            kind, *words = event[1]
            show(*words) if kind == "show" else note(*words)

        client.subscribe_topic(TOPIC, tell)
        futures: dict[str, Future] = {}
        for training in missing:
            before = [futures[each.key] for each in training.chain[:-1] if each.key in futures]
            futures[training.key] = client.submit(
                train_in_worker, training, heads, cache, alone, before, key=training.folder
            )
        errors = {training.folder: futures[training.key].exception() for training in missing}
    for folder, error in errors.items():
        if isinstance(error, KilledWorker):
            raise UserError(
                f"The process of {folder} was killed again and again (out of memory?); give the "
                "command again with --workers 1."
            ) from error
        if error is not None:
            raise error
    return True


def train_in_worker(
    training: Training, heads: Path, cache: Path, execution: Execution, before: Sequence[None]
) -> None:
    """One training in a worker, after those `before` it."""
    from distributed import get_worker

    worker, last = get_worker(), 0.0

    def show(task: str, stage: str, done: float, total: float, *more: Any, **named: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SHOW_SECONDS or done == total:
            last = now
            worker.log_event(TOPIC, ("show", task, stage, done, total, *more))

    def note(text: str) -> None:
        worker.log_event(TOPIC, ("note", f"{training.folder}: {text}"))

    train(training, heads, cache, execution, below(show, training.folder), note)

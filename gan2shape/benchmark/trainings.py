"""The networks that rows start from: trained once, kept in the cache, and timed.

In the cache a training has a folder, which its own kind goes on with, and a record beside it with
what it was made from and the seconds it took, across interruptions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan2shape.benchmark.plan import Training
from gan2shape.jobs.files import write_whole
from gan2shape.jobs.progress.steps_display import Note, Show
from gan2shape.jobs.run.start import Execution
from gan2shape.jobs.run.store import Weights
from gan2shape.jobs.training import joint as pretrain
from gan2shape.jobs.training import networks as baselines
from gan2shape.jobs.training.processes import plan_processes, tune_allocator
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

NETWORKS = "networks.safetensors"
SAVE_SECONDS = 30.0
"""From one record of the time to the next."""


@dataclass(frozen=True)
class Record:
    """How far a training is."""

    seconds: float = 0.0
    finished: bool = False


def networks_file(cache: Path, training: Training) -> Path:
    """Where the training leaves its networks."""
    return cache / training.folder / NETWORKS


def networks_path(cache: Path, start: Training | Weights) -> str:
    """Networks as the options of runs and trainings take them: a file, or a packaged name."""
    return str(networks_file(cache, start)) if isinstance(start, Training) else start.path


def read_record(cache: Path, folder: str) -> Record:
    """The record of a training by the name of its folder; an empty one where there is none."""
    try:
        tree = json.loads(_record_file(cache, folder).read_text())
        return Record(float(tree["seconds"]), bool(tree["finished"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Record()


def is_trained(cache: Path, training: Training) -> bool:
    """Whether its networks are there and finished."""
    file = networks_file(cache, training)
    return file.is_file() and read_record(cache, training.folder).finished


def train(
    training: Training, heads: Path, cache: Path, execution: Execution, show: Show, note: Note
) -> bool:
    """Train, or go on, with the heads in the folder `heads`; returns whether there was need to.

    Raises what the training raises, and `UserError` with what a benchmark can change where it
    diverged; the time until then counts.
    """
    if is_trained(cache, training):
        return False
    cache.mkdir(parents=True, exist_ok=True)
    with _timed(cache, training) as tick:

        def shown(stage: str, done: int, total: int) -> None:
            show(stage, done, total)
            tick()

        if isinstance(training.config, RunConfig):
            pretrain.pretrain(_pretraining(training, heads, cache, execution), shown, note)
        else:
            try:
                baselines.train(_baseline(training, heads, cache, execution), shown, note)
            except baselines.DivergedError as error:
                raise UserError(
                    f"The training in {cache / training.folder} diverged; leave out the rows that "
                    "start from it with --rows, or give another --seed and another --out."
                ) from error
    return True


def _pretraining(
    training: Training, heads: Path, cache: Path, execution: Execution
) -> pretrain.Request:
    assert isinstance(training.config, RunConfig)
    assert training.gan is not None
    # One process: with several, the networks would depend on the machine.
    devices, threads = plan_processes(execution.device, 1, execution.threads)
    tune_allocator()
    return pretrain.Request(
        source=str(heads.resolve()),
        gan=training.gan.path,
        out=cache / training.folder,
        config=training.config,
        limit=training.limit,
        devices=devices,
        threads=threads,
    )


def _baseline(
    training: Training, heads: Path, cache: Path, execution: Execution
) -> baselines.Request:
    return baselines.request(
        source=str(heads.resolve()),
        out=cache / training.folder,
        settings=training.config.model_dump(),
        device=execution.device,
        threads=execution.threads,
        gan=training.gan and training.gan.path,
        networks=training.start and str(networks_file(cache, training.start)),
        teachers=tuple(str(networks_file(cache, teacher)) for teacher in training.teachers),
    )


@contextmanager
def _timed(cache: Path, training: Training) -> Iterator[Callable[[], None]]:
    """Keep the training's record while it goes on; gives a function to call now and then."""
    before = read_record(cache, training.folder).seconds
    start = saved = time.monotonic()

    def save(finished: bool) -> None:
        record = Record(before + time.monotonic() - start, finished)
        tree: dict[str, Any] = asdict(record) | {"key": training.key, "origin": training.origin}
        text = json.dumps(tree, indent=1) + "\n"
        write_whole(_record_file(cache, training.folder), text.encode())

    def tick() -> None:
        nonlocal saved
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            save(False)

    try:
        yield tick
    except BaseException:
        save(False)
        raise
    save(True)


def _record_file(cache: Path, folder: str) -> Path:
    return cache / f"{folder}.json"

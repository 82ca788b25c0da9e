"""The loop of trainings that show images batch by batch: GANs and networks on single images."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gan2shape.jobs.progress import Note, Show
from gan2shape.jobs.training.workdir import WorkDirectory
from gan2shape.pipeline.seeds import batches
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.gan_training import GanTrainingConfig
from gan2shape.schemas.network_training import AnyBaseline

STATE = "state"


class DivergedError(UserError):
    """Losses or weights are no finite numbers any more."""


@dataclass(frozen=True)
class Intervals:
    """How often a training tells how it goes and keeps what it has learnt."""

    judge_images: int = 10_000
    """Images from one judgement (pictures, quality) and checkpoint to the next."""
    log_images: int = 500
    """Images from one row of the log to the next."""
    checkpoint_seconds: float = 300.0
    """Longest time from one checkpoint to the next."""


class Trainer(Protocol):
    """What learns: a trainer of the pipeline."""

    images: int
    """Shown so far."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class Training:
    """A training as the loop sees it; each kind of training fills it in."""

    name: str
    """What its progress is shown as."""
    remedy: str
    """What to change when it diverges, in a sentence."""
    config: GanTrainingConfig | AnyBaseline
    trainer: Any
    """Follows `Trainer`."""
    count: int
    """How many images there are to choose from."""
    result: Path
    """The file that the training is for."""

    def step(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Train on the images of `rows` (B,), in ascending order; returns scalar figures."""
        raise NotImplementedError

    def figures(self, means: dict[str, float]) -> dict[str, float]:
        """What the log says, from the means of the figures since its last row."""
        return means

    def words(self, figures: dict[str, float]) -> str:
        """The most important figures, for the progress display."""
        raise NotImplementedError

    def judge(self) -> dict[str, Any]:
        """Write pictures; returns what the log says about quality."""
        raise NotImplementedError

    def finite(self) -> bool:
        """Whether the weights that `save` writes are finite numbers."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the weights as they are now to `result`."""
        raise NotImplementedError


def run_loop(
    training: Training, work: WorkDirectory, intervals: Intervals, show: Show, note: Note
) -> None:
    """Train until the budget is used up; goes on from the last checkpoint where there is one.

    Raises `DivergedError` when losses or weights are not finite; the last checkpoint stays. SIGINT
    and SIGTERM save a checkpoint and raise `KeyboardInterrupt`.
    """
    config = training.config
    trainer: Trainer = training.trainer
    checkpoints = work.checkpoints()
    state = checkpoints.load(STATE)
    if state is not None:
        trainer.restore(state)
        note(f"going on after {trainer.images} images")
    work.trim_log(
        lambda rows: [row for row in rows if row["images"] <= trainer.images and trainer.images]
    )
    means, pace = Means(), Pace(trainer.images)
    saved = time.monotonic()

    def due(every: int, before: int) -> bool:
        return before // every != trainer.images // every

    def check(fine: bool) -> None:
        if not fine:
            raise DivergedError(
                f"Training diverged before {trainer.images} images: a loss or a weight is not a "
                f"finite number. {training.remedy} The same command goes on from the last "
                f"checkpoint in {work.path}."
            )

    def save() -> None:
        nonlocal saved
        check(training.finite())
        checkpoints.save(STATE, trainer.state())
        training.save()
        saved = time.monotonic()

    with Stop() as stop:
        show(training.name, training.name, trainer.images, config.images)
        if trainer.images == 0:
            work.log({"images": 0} | training.judge())
        for chosen in batches(training.count, trainer.images, config.batch, config.seed):
            if trainer.images >= config.images or stop.asked:
                break
            before = trainer.images
            means.add(training.step(np.sort(chosen.numpy())))  # in the order of the disk
            done = trainer.images >= config.images
            judged = due(intervals.judge_images, before) or done
            if judged or due(intervals.log_images, before):
                found = means.take()
                check(all(math.isfinite(value) for value in found.values()))
                figures = training.figures(found)
                row = {"images": trainer.images, "images_per_second": pace(trainer.images)}
                work.log(row | figures | (training.judge() if judged else {}))
                words = f"{training.name}, {training.words(figures)}"
                show(training.name, words, trainer.images, config.images)
            if judged or time.monotonic() - saved > intervals.checkpoint_seconds:
                save()
        if stop.asked or not training.result.exists():
            save()
    if stop.asked:
        raise KeyboardInterrupt
    work.finish(images=trainer.images)


@dataclass
class Means:
    """Means of figures since the last `take`."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: dict[str, Tensor]) -> None:
        for name, value in figures.items():
            value = value.double()  # and stays on its device, which is not waited for
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


class Pace:
    """Images per second, averaged over the last few reports."""

    def __init__(self, images: int) -> None:
        self._marks = [(time.monotonic(), images)]

    def __call__(self, images: int) -> float:
        self._marks = [*self._marks[-9:], (time.monotonic(), images)]
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(end - start, 1e-6)


class Stop:
    """While entered, SIGINT and SIGTERM only set `asked`; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever calls takes care
                break
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

"""The networks that rows start from: trained once and kept in the cache.

In the cache a training has a work directory. Its name has the key of all that decides the training,
and it knows the time that the training took, across interruptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gan2shape.benchmark.plan import Training
from gan2shape.jobs.progress import Note, Show
from gan2shape.jobs.run.start import Execution
from gan2shape.jobs.run.store import Weights
from gan2shape.jobs.training.joint import JointTraining, train_joint
from gan2shape.jobs.training.loop import DivergedError
from gan2shape.jobs.training.networks import NETWORKS, NetworkTraining, train_networks
from gan2shape.jobs.training.processes import plan_compute
from gan2shape.jobs.training.training_set import TrainingImages
from gan2shape.jobs.training.workdir import read_finished, read_seconds
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig


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
    """How far the training in `folder` is; an empty record where there is none."""
    work = cache / folder
    return Record(read_seconds(work), read_finished(work) is not None)


def is_trained(cache: Path, training: Training) -> bool:
    """Whether its networks are there and finished."""
    file = networks_file(cache, training)
    return file.is_file() and read_record(cache, training.folder).finished


def train(
    training: Training, heads: Path, cache: Path, execution: Execution, show: Show, note: Note
) -> bool:
    """Train, or go on, with the heads in the folder `heads`; returns whether there was need to.

    Raises what the training raises, and `UserError` with what a benchmark can change where it
    diverged.
    """
    if is_trained(cache, training):
        return False
    out, source = cache / training.folder, str(heads.resolve())
    # One process: with several, the networks would depend on the machine.
    compute = plan_compute(execution.device, 1, execution.threads)
    if isinstance(training.config, RunConfig):
        assert training.gan is not None
        images = TrainingImages(source, limit=training.limit)
        asked = JointTraining(images, training.gan.path, out, training.config, compute=compute)
        train_joint(asked, show, note)
        return True
    gan, start = training.gan, training.start
    single = NetworkTraining(
        source,
        out,
        training.config,
        gan=None if gan is None else gan.path,
        networks=None if start is None else str(networks_file(cache, start)),
        teachers=tuple(str(networks_file(cache, teacher)) for teacher in training.teachers),
        compute=compute,
    )
    try:
        train_networks(single, show, note)
    except DivergedError as error:
        raise UserError(
            f"The training in {out} diverged; leave out the rows that start from it with --rows, "
            "or give another --seed and another --out."
        ) from error
    return True

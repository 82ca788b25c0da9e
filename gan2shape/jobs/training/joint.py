"""Joint training: one set of networks for a few hundred images of a category.

The folder of the training is a work directory. It also holds:

    networks.safetensors   the networks as of the last finished cycle
    pictures/              some images as the networks see them, after each cycle
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.pictures import write_sheet
from gan2shape.jobs.progress import Note, Show, steps_of
from gan2shape.jobs.training.processes import Compute, in_processes
from gan2shape.jobs.training.step_states import StepStates
from gan2shape.jobs.training.training_set import TrainingImages, TrainingSet, load_training_set
from gan2shape.jobs.training.workdir import WorkDirectory, work_directory
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import check_gan_size, load_gan
from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.method.schedule import StepReport
from gan2shape.pipeline.process_group import ProcessGroup
from gan2shape.pipeline.reconstruct import shapes_of
from gan2shape.pipeline.training import joint as pipeline
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

NETWORKS, PICTURES = "networks.safetensors", "pictures"
JOINT = "joint training"


@dataclass(frozen=True)
class JointTraining:
    """What a joint training is asked for."""

    images: TrainingImages
    gan: str
    out: Path
    config: RunConfig
    lpips: Path | None = None
    networks: str | None = None
    """Networks to start from, in place of an ellipsoid."""
    compute: Compute = field(default_factory=Compute)


@dataclass(frozen=True)
class _Job:
    """What every process needs; plain data."""

    request: JointTraining
    found: TrainingSet
    work: WorkDirectory


def train_joint(request: JointTraining, show: Show, note: Note) -> Path:
    """Train, or go on after the last step that is done; returns the networks file.

    Interrupted or killed, it loses the step under way. Raises `UserError` for what the user can put
    right: paths, weights, settings that do not fit, a directory that holds another training.
    """
    gan = load_gan(request.gan)
    check_gan_size(gan, request.config.camera.size)
    initial = None if request.networks is None else load_networks(request.networks)
    found = request.images.find(gan.generator.style_dim)
    processes = len(request.compute.devices)
    if len(found) < processes:
        raise UserError(
            f"{request.images.source} has {len(found)} images for {processes} processes; "
            "use fewer with --processes."
        )
    fixed = found.fixed(gan, request.config) | {
        "networks_sha256": initial and initial.sha256,
        "lpips_sha256": request.lpips and file_digest(request.lpips),
        "processes": processes,
    }
    about = {"source": request.images.source, "gan": request.gan, "networks": request.networks}
    result = request.out / NETWORKS
    with work_directory(request.out, "joint", fixed, about) as work:
        if work.finished() is not None and result.exists():
            note(f"{request.out} is finished already")
            return result
        in_processes(_train, _Job(request, found, work), request.compute, show, note)
        work.finish()
        work.clear_checkpoints()
    return result


def _train(
    job: _Job, process_group: ProcessGroup, device: torch.device, show: Show, note: Note
) -> None:
    """One process's part: its share of the images; process 0 writes what people see."""
    request, work, first = job.request, job.work, process_group.rank == 0
    gan = load_gan(request.gan).to(device)
    lpips = None if request.lpips is None else load_lpips(request.lpips).to(device)
    initial = None if request.networks is None else load_networks(request.networks)
    checkpoints = work.checkpoints(f"process-{process_group.rank}")
    found = job.found.share(process_group.rank, process_group.count)
    targets = load_training_set(found, gan, request.config, device, checkpoints, show, note, lpips)
    states = StepStates(checkpoints, process_group)
    state = states.last()
    if first:
        work.trim_log(lambda rows: rows[: state["steps"] if state else 0])
    if state:
        note(f"going on after {state['steps']} steps")

    def on_step(report: StepReport, group: Group) -> None:
        if first:
            _tell(work, report, group)

    networks = pipeline.pretrain(
        targets,
        gan,
        request.config,
        lpips=lpips,
        initial=initial,
        process_group=process_group,
        state=state,
        on_progress=steps_of(show, JOINT),
        on_step=on_step,
        on_checkpoint=states.save,
    )
    if first:
        write_whole(work.path / NETWORKS, networks_bytes(networks))


@torch.no_grad()
def _tell(work: WorkDirectory, report: StepReport, group: Group) -> None:
    """Log a step; after a cycle also write the networks and pictures of some images."""
    row: dict[str, Any] = {
        "step": report.name,
        "iterations": report.iterations,
        "loss_at_start": report.first_loss,
        "loss_at_end": report.last_loss,
        "seconds": report.seconds,
        "failed_images": sum(reason is not None for reason in group.failures),
    }
    if report.ends_cycle:
        write_whole(work.path / NETWORKS, networks_bytes(pipeline.trained(group)))
        shapes = shapes_of(group, {})
        write_sheet(
            work.path / PICTURES / f"{_slug(report.name)}.png",
            group.targets.images,
            group.camera,
            reconstruction=shapes.reconstruction,
            depth=shapes.depth,
            albedo=shapes.albedo,
            view=shapes.view,
            light=shapes.light,
            mask=shapes.mask,
        )
        yaw = shapes.view[:, 1]
        yaw = yaw[shapes.view.isfinite().all(1)]  # failed images have none
        # A spread of predicted views below that of the sampled ones warns of too much relief.
        row["yaw_mean"], row["yaw_std"] = float(yaw.mean()), float(yaw.std())
        row["yaw_std_sampled"] = group.config.view_prior.yaw_std
    work.log(row)


def _slug(step: str) -> str:
    """ "cycle 2/8, shape" -> "cycle-02"."""
    return f"cycle-{int(step.split()[1].split('/')[0]):02d}"

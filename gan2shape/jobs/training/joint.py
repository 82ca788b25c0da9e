"""Pretrain a category's networks on a folder of images: data, checkpoints, log, pictures.

The training directory:

    pretrain.yaml          settings, data and weights, and whether training is finished
    networks.safetensors   the networks as of the last finished cycle
    log.jsonl              one row for each step
    pictures/              some images as the networks see them, after each cycle
    checkpoints/           all that training goes on from, until it is finished
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import only_process, storage_error, write_whole
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.training.loop import append_row
from gan2shape.jobs.training.pictures import write_pictures
from gan2shape.jobs.training.processes import in_processes
from gan2shape.jobs.training.training_set import load_training_set, shared_latents
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.method.schedule import StepReport
from gan2shape.pipeline.process_group import ProcessGroup
from gan2shape.pipeline.training import joint as pipeline
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig, plain_digest

RECORD, NETWORKS, LOG = "pretrain.yaml", "networks.safetensors", "log.jsonl"
PICTURES, CHECKPOINTS, LOCK = "pictures", "checkpoints", ".lock"

Show = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much it is)."""
Note = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `gan2shape pretrain` was asked to do."""

    source: str
    gan: str
    out: Path
    config: RunConfig
    masks: str | None = None
    latents: str | None = None
    lpips: Path | None = None
    networks: str | None = None
    """Networks to go on from."""
    limit: int | None = None
    devices: tuple[str, ...] = ("cpu",)
    """One for each process."""
    threads: int = 1
    """Compute threads of each process."""


@dataclass(frozen=True)
class _Job:
    """A request with what was found out about it; plain data for all processes."""

    request: Request
    rows: list[dict[str, Any]]
    latents: Tensor | None
    """(N, D), where they come for all images at once."""
    key: str


def pretrain(request: Request, show: Show, note: Note) -> Path:
    """Train, or go on after the last step that is done; returns the networks file.

    Interrupted or killed, it loses the step under way. Raises `UserError` for what the user can put
    right: paths, weights, settings that do not fit, a directory that holds another training.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a directory with --out.")
    job, record = _prepare(request)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_process(out / LOCK, f"Another process trains in {out}; wait for it, or stop it."):
            if _finished(out, record):
                note(f"{out} is finished already")
                return out / NETWORKS
            _write_record(out, record)
            in_processes(_train, job, request.devices, request.threads, show, note)
            _write_record(out, record | {"finished": True})
            for rank in range(len(request.devices)):
                _checkpoints(job, rank).clear()
    except OSError as error:
        raise storage_error(error, out, "give the same command again") or error from error
    return out / NETWORKS


def _prepare(request: Request) -> tuple[_Job, dict[str, Any]]:
    """Check all that can be checked before anything is written."""
    found = scan(request.source, masks=request.masks, latents=request.latents, limit=request.limit)
    if len(found) < len(request.devices):
        raise UserError(
            f"{request.source} has {len(found)} images for {len(request.devices)} processes; "
            "use fewer with --processes."
        )
    gan = load_gan(request.gan)
    initial = None if request.networks is None else load_networks(request.networks)
    record = {
        "source": request.source,
        "images": len(found),
        "images_sha256": found.ids_sha256,
        "gan": {"source": request.gan, "sha256": gan.sha256},
        "masks": request.masks,
        "latents": request.latents,
        "networks": initial and {"source": request.networks, "sha256": initial.sha256},
        "lpips": request.lpips and file_digest(request.lpips),
        "processes": len(request.devices),
        "version": metadata.version("gan2shape"),
        "settings": request.config.model_dump(mode="json"),
    }
    rows = found.manifest(len(found)).to_pylist()
    latents = shared_latents(found, gan.generator.style_dim)
    return _Job(request, rows, latents, plain_digest(_fixed(record))), record


def _finished(out: Path, record: dict[str, Any]) -> bool:
    """Whether the training in `out` is done; `UserError` when it is another one."""
    try:
        before = yaml.safe_load((out / RECORD).read_text())
        known = _fixed(before)
    except FileNotFoundError:
        return False
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{out / RECORD} is damaged; train into another directory.") from error
    wanted = _fixed(record)
    changed = sorted(name for name in wanted if known.get(name) != wanted[name])
    if changed:
        raise UserError(
            f"{out} holds a training with other {', '.join(changed)}; give the same command to go "
            "on with it, or train into another directory."
        )
    return bool(before.get("finished")) and (out / NETWORKS).exists()


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """What stays the same when a training goes on: files may have moved."""
    digests = {name: (record.get(name) or {}).get("sha256") for name in ("gan", "networks")}
    return {name: value for name, value in record.items() if name != "source"} | digests


def _write_record(out: Path, record: dict[str, Any]) -> None:
    write_whole(out / RECORD, yaml.safe_dump(record, sort_keys=False).encode())


def _checkpoints(job: _Job, rank: int) -> Checkpoints:
    return Checkpoints(job.request.out / CHECKPOINTS / f"process-{rank}", job.key)


def _train(
    job: _Job, process_group: ProcessGroup, device: torch.device, show: Show, note: Note
) -> None:
    """One process's part: its share of the images; process 0 writes what people see."""
    request, config = job.request, job.request.config
    checkpoints = _checkpoints(job, process_group.rank)
    checkpoints.sweep()
    gan = load_gan(request.gan).to(device)
    lpips = None if request.lpips is None else load_lpips(request.lpips).to(device)
    initial = None if request.networks is None else load_networks(request.networks)
    mine = slice(process_group.rank, None, process_group.count)
    given = None if job.latents is None else job.latents[mine]
    targets = load_training_set(
        job.rows[mine], gan, config, device, checkpoints, lpips, given, show, note
    )
    states = _States(checkpoints, process_group)
    state = states.last()
    _trim_log(request.out / LOG, state["steps"] if state else 0)
    if state:
        note(f"going on after {state['steps']} steps")

    def on_step(report: StepReport, group: Group) -> None:
        if process_group.rank == 0:
            _tell(request.out, report, group)

    networks = pipeline.pretrain(
        targets,
        gan,
        config,
        lpips=lpips,
        initial=initial,
        process_group=process_group,
        state=state,
        on_progress=show,
        on_step=on_step,
        on_checkpoint=states.save,
    )
    if process_group.rank == 0:
        write_whole(request.out / NETWORKS, networks_bytes(networks))


class _States:
    """Checkpoints after every step, of which all processes have the same one in common."""

    def __init__(self, checkpoints: Checkpoints, process_group: ProcessGroup) -> None:
        self.checkpoints = checkpoints
        self.process_group = process_group

    def last(self) -> dict[str, Any] | None:
        """The latest state that every process has, or `None`."""
        steps = self._saved()
        least = -self.process_group.worst(-max(steps, default=0), torch.device("cpu"))
        state = self.checkpoints.load(f"state-{least}") if least in steps else None
        everywhere = not self.process_group.worst(int(state is None), torch.device("cpu"))
        return state if everywhere else None

    def save(self, state: dict[str, Any]) -> None:
        """Save a state, and drop older ones once all processes have saved it."""
        older = self._saved()
        self.checkpoints.save(f"state-{state['steps']}", state)
        self.process_group.meet()
        for steps in older:
            if steps != state["steps"]:
                self.checkpoints.drop(f"state-{steps}")

    def _saved(self) -> list[int]:
        files = self.checkpoints.folder.glob("state-*.ckpt")
        return [int(file.stem.removeprefix("state-")) for file in files]


def _tell(out: Path, report: StepReport, group: Group) -> None:
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
        write_whole(out / NETWORKS, networks_bytes(pipeline.trained(group)))
        view = write_pictures(out / PICTURES / f"{_slug(report.name)}.png", group)
        view = view[view.isfinite().all(1)]  # failed images have none
        # A spread of predicted views below that of the sampled ones warns of too much relief.
        row["yaw_mean"], row["yaw_std"] = float(view[:, 1].mean()), float(view[:, 1].std())
        row["yaw_std_sampled"] = group.config.view_prior.yaw_std
    append_row(out / LOG, row)


def _slug(step: str) -> str:
    """ "cycle 2/8, shape" -> "cycle-02"."""
    return f"cycle-{int(step.split()[1].split('/')[0]):02d}"


def _trim_log(path: Path, steps: int) -> None:
    """Drop rows of steps that will be done again."""
    if path.exists():
        rows = path.read_text().splitlines(keepends=True)[:steps]
        write_whole(path, "".join(rows).encode())

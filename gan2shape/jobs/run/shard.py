"""The task: one shard from its files to its commit, going on from what checkpoints there are."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import StorageError, storage_error
from gan2shape.jobs.inputs.input_image import load_input_image
from gan2shape.jobs.run import store
from gan2shape.jobs.run.plan import ShardPlan
from gan2shape.jobs.run.shard_image import (
    ShardImage,
    given_latents,
    measured,
    metrics_row,
    shard_image,
)
from gan2shape.jobs.run.shard_progress import Reporter
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.reconstruct import Targets, iterations_total, reconstruct
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

Device = Literal["auto", "cpu", "cuda"]
Arrays = dict[str, np.ndarray[Any, Any]]
_Loaded = TypeVar("_Loaded", Gan, TrainedNetworks)

READERS = 8
"""Images of an object store that a worker reads at once."""
_one_at_a_time = threading.Lock()
"""A worker with several Dask threads still runs one shard: each takes all of torch's threads."""


@dataclass(frozen=True)
class ShardOutcome:
    """What a task says to the client; the results themselves are in the run directory."""

    shard: int
    images: int = 0
    failed: int = 0
    fatal: str | None = None
    """A sentence for the user about something that no other shard could do better."""


@dataclass(frozen=True)
class Task:
    """What the parts of a shard's work share."""

    run: store.Run
    plan: ShardPlan
    device: torch.device
    gan: Gan
    lpips: Lpips | None
    networks: TrainedNetworks | None
    checkpoints: Checkpoints
    report: Reporter
    work: Work

    @property
    def config(self) -> RunConfig:
        return self.run.record.config


@dataclass(frozen=True)
class Work:
    """Iterations of the shard's parts, to tell how much of it is done."""

    inversion: int
    group: int
    groups: int

    @property
    def total(self) -> int:
        return max(self.inversion + self.group * self.groups, 1)

    def inverting(self, share: float) -> float:
        """Share of the shard that is done when `share` of the inversion is."""
        return self.inversion * share / self.total

    def reconstructing(self, group: int, share: float) -> float:
        """Share of the shard that is done when `share` of group `group` is."""
        return (self.inversion + self.group * (group + share)) / self.total


def run_shard(path: str | Path, shard: int, device: Device = "auto") -> ShardOutcome:
    """Reconstruct and commit shard `shard` of the run at `path`, unless it is done.

    Images that cannot be used become failed rows. A `UserError` (weights gone, disk full) comes
    back as `ShardOutcome.fatal`; anything else is raised, and leaves the shard to be redone.
    """
    with _one_at_a_time:
        try:
            return _run_shard(Path(path), shard, device)
        except UserError as error:
            return ShardOutcome(shard, fatal=str(error))
        except torch.OutOfMemoryError:
            return ShardOutcome(
                shard,
                fatal="The accelerator has too little memory; go on with --device cpu, or start a "
                "new run with 'gan2shape reconstruct' and a smaller --group-size or '--set "
                "optimization.batch=8'.",
            )
        except OSError as error:
            known = storage_error(error, Path(path))
            if known is None:
                raise
            return ShardOutcome(shard, fatal=str(known))


def _run_shard(path: Path, shard: int, device: Device) -> ShardOutcome:
    run = _open(path)
    plan, config = run.plan.shard(shard), run.record.config
    if (commit := store.committed(run, shard)) is not None:
        return ShardOutcome(shard, commit.images, commit.failed)
    report = Reporter(run.checkpoints(shard), shard, plan.count)
    report("loading", 0.0, force=True)
    _set_threads()
    on = choose_device(device, config.renderer)
    key = f"{metadata.version('gan2shape')} {run.record.config_hash}"
    checkpoints = Checkpoints(run.checkpoints(shard), key)
    checkpoints.sweep()
    gan = _gan(run.record.gan, str(on))
    lpips = _lpips(run.record.lpips, str(on)) if run.record.lpips else None
    networks = _networks(run.record.networks) if run.record.networks else None
    items = _load(store.read_manifest(run, shard), config)
    if config.needs_latents:
        items = given_latents(items, plan, run)
    work = _work(plan, run.record, len(_without_latents(items, config)))
    task = Task(run, plan, on, gan, lpips, networks, checkpoints, report, work)

    items = _invert(task, items)
    arrays: Arrays = {
        spec.name: np.full((plan.count, *spec.shape), spec.missing, spec.dtype)
        for spec in run.specs()
    }
    for number, (start, stop) in enumerate(plan.groups):
        group = [item for item in items[start:stop] if item.error is None]
        if group:
            for item in _collect(group, _reconstruct(task, number, group), arrays):
                items[item.position] = item
    report("measuring", 1.0, force=True)
    items = [
        measured(
            item,
            torch.from_numpy(arrays["depth"][item.position]),
            torch.from_numpy(arrays["view"][item.position]),
            config.camera,
        )
        if item.error is None and item.manifest["truth_uri"]
        else item
        for item in items
    ]
    report("committing", 1.0, force=True)
    _commit(task, items, arrays)
    return ShardOutcome(shard, plan.count, sum(1 for item in items if item.error))


def _load(rows: list[dict[str, Any]], config: RunConfig) -> list[ShardImage]:
    """Read the shard's images, several at a time where each takes a round trip."""
    remote = any("://" in row["uri"] for row in rows)
    with ThreadPoolExecutor(READERS if remote else 1) as readers:
        images = readers.map(load_input_image, rows, repeat(config))
        return [shard_image(position, image) for position, image in enumerate(images)]


def choose_device(device: Device, renderer: str = "auto") -> torch.device:
    """The device to compute on here, of those that the renderer works on.

    Raises `UserError` when CUDA is asked for and cannot be used.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("There is no CUDA device on this worker; use --device cpu or auto.")
    if device == "cuda" and renderer == "numba":
        raise UserError(
            "The run was planned with the renderer numba, which works on the CPU only; use "
            "--device cpu, or start a new run on a machine with CUDA."
        )
    on_gpu = available and device != "cpu" and renderer != "numba"
    return torch.device("cuda" if on_gpu else "cpu")


def _open(path: Path) -> store.Run:
    try:
        return store.open_run(path)
    except store.RunError as error:
        raise UserError(
            f"A worker cannot use the run directory, which must be on a disk that all workers "
            f"share: {error}"
        ) from error


def _work(plan: ShardPlan, record: store.RunRecord, inverted: int) -> Work:
    batches = -(-inverted // record.config.inversion.batch)
    return Work(
        inversion=record.config.inversion.iterations * batches,
        group=iterations_total(
            record.config, min(plan.count, record.config.group_size), record.networks is not None
        ),
        groups=len(plan.groups),
    )


def _without_latents(items: list[ShardImage], config: RunConfig) -> list[ShardImage]:
    """Images whose latents must be found, if the settings need any."""
    if not config.needs_latents:
        return []
    return [item for item in items if item.error is None and item.latent is None]


def _invert(task: Task, items: list[ShardImage]) -> list[ShardImage]:
    """Find the latents of the images that came without one, or take them from the checkpoint."""
    wanted = _without_latents(items, task.config)
    if not wanted:
        return items
    ids = [item.id for item in wanted]
    saved = task.checkpoints.load("latents")
    if saved is not None and saved["ids"] == ids:
        task.report.resumed_at(task.work.inverting(1.0))
    else:
        start = time.perf_counter()
        images, masks = _stack(wanted, task.device)
        found = invert(
            task.gan,
            images,
            task.config.inversion,
            masks=masks,
            lpips=task.lpips,
            seed=task.config.seed,
            precision=task.config.precision,
            on_progress=lambda done, total: task.report(
                "inversion", task.work.inverting(done / max(total, 1))
            ),
        )
        saved = {
            "ids": ids,
            "latents": found.latents.float().cpu(),
            "l1": found.l1.double().cpu(),
            "failures": list(found.failures),
            "seconds": (time.perf_counter() - start) / len(wanted),
        }
        task.checkpoints.save("latents", saved)
    result = list(items)
    for i, item in enumerate(wanted):
        result[item.position] = replace(
            item,
            latent=saved["latents"][i],
            inversion_l1=float(saved["l1"][i]),
            error=saved["failures"][i],
            seconds=item.seconds | {"inversion": saved["seconds"]},
        )
    return result


def _reconstruct(task: Task, number: int, group: list[ShardImage]) -> dict[str, Any]:
    """Shapes of one group as plain tensors, from its checkpoint where it has been finished."""
    ids = [item.id for item in group]
    finished = task.checkpoints.load(f"group-{number}")
    if finished is not None and finished["ids"] == ids:
        task.report.resumed_at(task.work.reconstructing(number, 1.0))
        return dict(finished)
    saved = task.checkpoints.load("state")
    if saved is None or saved["ids"] != ids:
        saved = {"state": None, "seconds": 0.0}
    resuming = saved["state"] is not None
    start = time.perf_counter() - saved["seconds"]

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal resuming
        share = task.work.reconstructing(number, done / max(total, 1))
        if resuming:
            task.report.resumed_at(share)
            resuming = False
        task.report(stage, share)

    def checkpoint(state: dict[str, Any]) -> None:
        seconds = time.perf_counter() - start
        task.checkpoints.save("state", {"ids": ids, "state": state, "seconds": seconds})

    images, masks = _stack(group, task.device)
    found_latents = [item.latent for item in group if item.latent is not None]
    latents = torch.stack(found_latents).to(task.device) if found_latents else None
    shapes = reconstruct(
        Targets(ids, images, masks, latents),
        task.gan,
        task.config,
        lpips=task.lpips,
        pretrained=task.networks,
        state=saved["state"],
        on_progress=progress,
        on_checkpoint=checkpoint,
    )
    found: dict[str, Any] = {
        spec.name: getattr(shapes, spec.name).detach().float().cpu() for spec in task.run.specs()
    }
    found |= {
        "ids": ids,
        "failures": list(shapes.failures),
        "losses": {name: value.detach().double().cpu() for name, value in shapes.losses.items()},
        "stages": {name: float(value) for name, value in shapes.seconds.items()},
        "seconds": time.perf_counter() - start,
    }
    if not task.config.forward_only:  # which is quicker than writing it down
        task.checkpoints.save(f"group-{number}", found)
        task.checkpoints.drop("state")
    return found


def _collect(group: list[ShardImage], found: dict[str, Any], arrays: Arrays) -> list[ShardImage]:
    """Put a group's shapes into the shard's arrays; the items come back with their outcome."""
    share = 1 / len(group)
    result = []
    for i, item in enumerate(group):
        reason = found["failures"][i]
        if reason is None and not bool(torch.isfinite(found["depth"][i]).all()):
            reason = "its depth is not finite"
        if reason is None:
            for name, values in arrays.items():
                values[item.position] = found[name][i].numpy()
        result.append(
            replace(
                item,
                error=reason,
                losses={} if reason else {k: float(v[i]) for k, v in found["losses"].items()},
                seconds=item.seconds | {"reconstruction": found["seconds"] * share},
                stages={name: value * share for name, value in found["stages"].items()},
            )
        )
    return result


def _commit(task: Task, items: list[ShardImage], arrays: Arrays) -> None:
    shard, path = task.plan.index, task.run.path
    rows = [metrics_row(task.run, task.plan, item, task.device) for item in items]
    try:
        store.commit_shard(task.run, shard, arrays, rows)
    except OSError as error:
        raise storage_error(error, path) or StorageError(
            f"Shard {shard} could not be written to {path} ({error}): nothing committed is lost; "
            f"go on with 'gan2shape resume {path}'."
        ) from error
    task.checkpoints.clear()


def _stack(items: list[ShardImage], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) and masks (N, S, S) on the device."""
    inputs = [item.input for item in items]
    images = torch.stack([image.pixels for image in inputs if image.pixels is not None])
    masks = torch.stack([image.mask for image in inputs if image.mask is not None])
    return images.to(device), masks.to(device)


@lru_cache(maxsize=1)
def _gan(weights: store.Weights, device: str) -> Gan:
    """The weights, read once by every worker process."""
    return _unchanged(load_gan(weights.path), weights).to(device)


@lru_cache(maxsize=1)
def _lpips(weights: store.Weights, device: str) -> Lpips:
    return load_lpips(weights.path).to(device)


@lru_cache(maxsize=1)
def _networks(weights: store.Weights) -> TrainedNetworks:
    return _unchanged(load_networks(weights.path), weights)


def _unchanged(loaded: _Loaded, weights: store.Weights) -> _Loaded:
    if loaded.sha256 != weights.sha256:
        raise UserError(
            f"The weights {weights.path} are not those that the run began with; put the old file "
            f"back, or start a new run."
        )
    return loaded


def _set_threads() -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))

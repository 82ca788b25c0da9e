"""The task: one shard from its files to its commit, going on from what checkpoints there are."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs import store
from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.engine import Engine, default_engine
from gan2shape.jobs.files import StorageError, storage_error
from gan2shape.jobs.images import ImageError, load_image, load_mask
from gan2shape.jobs.plan import ShardPlan
from gan2shape.jobs.progress import Reporter
from gan2shape.jobs.truth import load_truth
from gan2shape.pipeline.masks import background_mask
from gan2shape.schemas.config import RunConfig
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import COMMITTED, FAILED

Device = Literal["auto", "cpu", "cuda"]

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
class Item:
    """One image on its way through the shard; `error` ends it."""

    position: int
    manifest: dict[str, Any]
    error: str | None = None
    note: str | None = None
    width: int | None = None
    height: int | None = None
    pixels: Tensor | None = None
    """(3, S, S) in [-1, 1]."""
    mask: Tensor | None = None
    """(S, S) in {0, 1}."""
    latent: Tensor | None = None
    """(D,)"""
    inversion_l1: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.manifest["image_id"])


def run_shard(
    path: str | Path,
    shard: int,
    device: Device = "auto",
    make_engine: Callable[[], Engine] = default_engine,
) -> ShardOutcome:
    """Reconstruct and commit shard `shard` of the run at `path`, unless it is done.

    Images that cannot be used become failed rows. A `UserError` (weights gone, disk full) comes
    back as `ShardOutcome.fatal`; anything else is raised, and leaves the shard to be redone.
    """
    with _one_at_a_time:
        try:
            return _run_shard(Path(path), shard, device, make_engine())
        except UserError as error:
            return ShardOutcome(shard, fatal=str(error))
        except torch.OutOfMemoryError:
            return ShardOutcome(
                shard,
                fatal="The accelerator has too little memory; use a smaller --group-size or "
                "'--set optimization.batch=8'.",
            )
        except OSError as error:
            known = storage_error(error, Path(path))
            if known is None:
                raise
            return ShardOutcome(shard, fatal=str(known))


def _run_shard(path: Path, shard: int, device: Device, engine: Engine) -> ShardOutcome:
    try:
        run = store.open_run(path)
    except store.RunError as error:
        raise UserError(
            f"A worker cannot use the run directory, which must be on a disk that all workers "
            f"share: {error}"
        ) from error
    plan, config = run.plan.shard(shard), run.record.config
    if (part := store.read_part(run, shard)) is not None:
        return ShardOutcome(shard, part.num_rows, store.count_failed(part))
    _set_threads()
    on = choose_device(device)
    report = Reporter(run.checkpoints(shard), shard, plan.count)
    key = f"{metadata.version('gan2shape')} {run.record.config_hash}"
    checkpoints = Checkpoints(run.checkpoints(shard), key)
    checkpoints.sweep()

    report("loading images", 0.0, force=True)
    gan = _gan(engine, run.record.gan.path, run.record.gan.sha256, str(on))
    lpips = run.record.lpips and _lpips(engine, run.record.lpips.path, str(on))
    items = [load_item(row, i, config) for i, row in enumerate(store.read_manifest(run, shard))]
    items = _given_latents(items, engine, run.record.latent_size)

    work = _Work(plan, config, engine, sum(1 for i in items if not i.error and i.latent is None))
    items = _inverted(items, gan, lpips, config, engine, checkpoints, work, report, on)
    arrays = {
        spec.name: np.full((plan.count, *spec.shape), spec.missing, spec.dtype)
        for spec in run.specs()
    }
    losses: list[dict[str, float]] = [{} for _ in items]
    for number, (start, stop) in enumerate(plan.groups):
        group = [item for item in items[start:stop] if item.error is None]
        if group:
            found = _group(number, group, gan, lpips, config, engine, checkpoints, work, report, on)
            for item in _collect(group, found, arrays, losses):
                items[item.position] = item
    report("measuring", work.total_fraction, force=True)
    metrics = _measured(items, arrays, config, engine)

    report("committing", 1.0, force=True)
    rows = [
        _row(run, plan, item, metrics[item.position], losses[item.position], on) for item in items
    ]
    try:
        store.commit_shard(run, shard, arrays, rows)
    except OSError as error:
        raise storage_error(error, path) or StorageError(
            f"Shard {shard} could not be written to {path} ({error}): nothing committed is lost; "
            f"go on with 'gan2shape resume {path}'."
        ) from error
    checkpoints.clear()
    return ShardOutcome(shard, plan.count, sum(1 for item in items if item.error))


def choose_device(device: Device) -> torch.device:
    """The device to compute on here. Raises `UserError` when CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("There is no CUDA device on this worker; use --device cpu or auto.")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def load_item(row: dict[str, Any], position: int, config: RunConfig) -> Item:
    """Read one image and its mask; a problem becomes the item's error."""
    start = time.perf_counter()
    size = config.camera.size
    item = Item(position, row)
    try:
        image = load_image(row["uri"], size)
        mask = _mask(row, image.pixels, image.alpha, config)
    except ImageError as error:
        return replace(item, error=f"{row['uri']} {error}.")
    return replace(
        item,
        width=image.width,
        height=image.height,
        pixels=torch.from_numpy(image.pixels).permute(2, 0, 1).contiguous() * 2 - 1,
        mask=torch.from_numpy(mask.astype(np.float32)),
        seconds={"load": time.perf_counter() - start},
    )


def _mask(row: dict[str, Any], pixels: Any, alpha: Any, config: RunConfig) -> Any:
    if config.mask == "none":
        return np.ones(pixels.shape[:2], dtype=bool)
    if config.mask == "given" and row["mask_uri"]:
        try:
            mask = load_mask(row["mask_uri"], pixels.shape[0])
        except ImageError as error:
            raise ImageError(f"has a mask, {row['mask_uri']}, that {error}") from error
    elif alpha is not None:
        mask = alpha > 0.5
    elif config.mask == "given":
        raise ImageError("has no mask; give --masks, or use '--set mask=background' or 'mask=none'")
    else:
        mask = background_mask(pixels, config.background_threshold)
    if not mask.any():
        raise ImageError(f"shows no object: its mask ({config.mask}) is empty")
    return mask


def _given_latents(items: list[Item], engine: Engine, size: int) -> list[Item]:
    """Fill in the latents that come with the images."""
    result = list(items)
    for item in items:
        uri = item.manifest["latent_uri"]
        if item.error is not None or uri is None:
            continue
        try:
            latent = engine.load_latents(uri, [item.id])[0].float()
            if latent.shape != (size,):
                raise UserError(f"{uri}: a latent has {tuple(latent.shape)} numbers, not {size}.")
        except (UserError, OSError) as error:
            result[item.position] = replace(item, error=f"The latent cannot be used: {error}")
        else:
            result[item.position] = replace(item, latent=latent)
    return result


class _Work:
    """Iterations of the shard's parts, to tell how much of it is done."""

    def __init__(self, plan: ShardPlan, config: RunConfig, engine: Engine, inverted: int) -> None:
        batches = -(-inverted // config.inversion.batch)
        self.inversion = config.inversion.iterations * batches
        self.group = engine.iterations_total(config)
        self.total = max(self.inversion + self.group * len(plan.groups), 1)
        self.groups = len(plan.groups)

    def inverting(self, share: float) -> float:
        return self.inversion * share / self.total

    def reconstructing(self, group: int, share: float) -> float:
        return (self.inversion + self.group * (group + share)) / self.total

    @property
    def total_fraction(self) -> float:
        return (self.inversion + self.group * self.groups) / self.total


def _inverted(
    items: list[Item],
    gan: Any,
    lpips: Any,
    config: RunConfig,
    engine: Engine,
    checkpoints: Checkpoints,
    work: _Work,
    report: Reporter,
    device: torch.device,
) -> list[Item]:
    """Find the latents of the images that came without one, or take them from the checkpoint."""
    wanted = [item for item in items if item.error is None and item.latent is None]
    if not wanted:
        return items
    saved = checkpoints.load("latents")
    if saved is None or saved["ids"] != [item.id for item in wanted]:
        start = time.perf_counter()

        def progress(*numbers: Any) -> None:
            done, total = numbers[-2:]
            report("inversion", work.inverting(done / max(total, 1)))

        images, masks = _stack(wanted, device)
        found = engine.invert(
            gan,
            images,
            config.inversion,
            masks=masks,
            lpips=lpips,
            seed=config.seed,
            on_progress=progress,
        )
        saved = {
            "ids": [item.id for item in wanted],
            "latents": found.latents.float().cpu(),
            "l1": found.l1.double().cpu(),
            "failures": list(found.failures),
            "seconds": (time.perf_counter() - start) / len(wanted),
        }
        checkpoints.save("latents", saved)
    else:
        report.resumed_at(work.inverting(1.0))
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


def _group(
    number: int,
    group: list[Item],
    gan: Any,
    lpips: Any,
    config: RunConfig,
    engine: Engine,
    checkpoints: Checkpoints,
    work: _Work,
    report: Reporter,
    device: torch.device,
) -> dict[str, Any]:
    """Shapes of one group as plain tensors, from its checkpoint where it has been finished."""
    ids = [item.id for item in group]
    finished = checkpoints.load(f"group-{number}")
    if finished is not None and finished["ids"] == ids:
        report.resumed_at(work.reconstructing(number, 1.0))
        return dict(finished)
    saved = checkpoints.load("state")
    state = saved["state"] if saved is not None and saved["ids"] == ids else None
    seconds = saved["seconds"] if state is not None and saved is not None else 0.0
    start = time.perf_counter()
    first = state is not None

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal first
        share = work.reconstructing(number, done / max(total, 1))
        if first:
            report.resumed_at(share)
            first = False
        report(stage, share)

    def checkpoint(state: dict[str, Any]) -> None:
        spent = seconds + time.perf_counter() - start
        checkpoints.save("state", {"ids": ids, "state": state, "seconds": spent})

    images, masks = _stack(group, device)
    latents = torch.stack([item.latent for item in group if item.latent is not None]).to(device)
    shapes = engine.reconstruct(
        engine.targets(ids, images, masks, latents),
        gan,
        config,
        lpips=lpips,
        state=state,
        on_progress=progress,
        on_checkpoint=checkpoint,
    )
    names = ("depth", "albedo", "normal", "mask", "view", "light", "latent", "reconstruction")
    found: dict[str, Any] = {"ids": ids, "failures": list(shapes.failures)}
    found |= {name: getattr(shapes, name).detach().float().cpu() for name in names}
    found["losses"] = {name: value.double().cpu() for name, value in shapes.losses.items()}
    found["stages"] = {name: float(value) for name, value in shapes.seconds.items()}
    found["seconds"] = seconds + time.perf_counter() - start
    checkpoints.save(f"group-{number}", found)
    checkpoints.drop("state")
    return found


def _collect(
    group: list[Item],
    found: dict[str, Any],
    arrays: dict[str, Any],
    losses: list[dict[str, float]],
) -> Iterator[Item]:
    """Put a group's shapes into the shard's arrays; gives the items with their outcome."""
    for i, item in enumerate(group):
        shares = {"reconstruction": found["seconds"] / len(group)}
        shares |= {f"stage {name}": value / len(group) for name, value in found["stages"].items()}
        reason = found["failures"][i]
        if reason is None and not bool(torch.isfinite(found["depth"][i]).all()):
            reason = "the depth is not finite"
        yield replace(item, error=reason, seconds=item.seconds | shares)
        if reason is not None:
            continue
        losses[item.position] = {name: float(v[i]) for name, v in found["losses"].items()}
        for name, values in arrays.items():
            values[item.position] = found[name][i].numpy()


def _measured(
    items: list[Item], arrays: dict[str, Any], config: RunConfig, engine: Engine
) -> list[dict[str, float]]:
    """Scores of every image that has ground truth; notes on the item why where it is unusable."""
    metrics: list[dict[str, float]] = [{} for _ in items]
    for item in items:
        if item.error is not None or not item.manifest["truth_uri"]:
            continue
        start = time.perf_counter()
        try:
            depth, mask = map(torch.from_numpy, load_truth(item.manifest, config.camera))
        except ImageError as error:
            note = f"{item.manifest['truth_uri']} {error}."
            items[item.position] = replace(item, note=note)
            continue
        shape = torch.from_numpy(arrays["depth"][item.position])
        view = torch.from_numpy(arrays["view"][item.position])
        metrics[item.position] = engine.measure(shape, view, depth, mask, config)
        seconds = item.seconds | {"metrics": time.perf_counter() - start}
        items[item.position] = replace(item, seconds=seconds)
    return metrics


def _row(
    run: store.Run,
    plan: ShardPlan,
    item: Item,
    metrics: dict[str, float],
    losses: dict[str, float],
    device: torch.device,
) -> dict[str, Any]:
    seconds = item.seconds
    stages = {name[6:]: value for name, value in seconds.items() if name.startswith("stage ")}
    return {
        "image_id": item.id,
        "row": plan.start + item.position,
        "shard": plan.index,
        "status": FAILED if item.error else COMMITTED,
        "error": item.error or item.note,
        "width": item.width,
        "height": item.height,
        "inversion_l1": item.inversion_l1,
        "losses": losses,
        "seconds_stages": stages,
        "peak_memory_mb": peak_memory_mb(),
        "peak_device_memory_mb": _peak_device_memory_mb(device),
        "device": _device_name(device),
        "config_hash": run.record.config_hash,
        **metrics,
        **{
            f"seconds_{name}": seconds.get(name)
            for name in ("load", "inversion", "reconstruction", "metrics")
        },
    }


def _stack(items: list[Item], device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.stack([item.pixels for item in items if item.pixels is not None])
    masks = torch.stack([item.mask for item in items if item.mask is not None])
    return images.to(device), masks.to(device)


@lru_cache(maxsize=1)
def _gan(engine: Engine, path: str, sha256: str, device: str) -> Any:
    """The weights, read once by every worker process."""
    gan = engine.load_gan(path)
    if gan.sha256 != sha256:
        raise UserError(
            f"The weights {path} are not those that the run began with; put the old file back, or "
            f"start a new run."
        )
    return gan.to(device)


@lru_cache(maxsize=1)
def _lpips(engine: Engine, path: str, device: str) -> Any:
    return engine.load_lpips(path, device)


def _set_threads() -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def _peak_device_memory_mb(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / (1 << 20)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"

"""Start a run, or go on with one: from what the user asks for to a complete run directory."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from gan2shape.jobs.cluster.local import (
    Workers,
    local_client,
    plan_workers,
    remote_client,
    usable_cores,
    visible_gpus,
)
from gan2shape.jobs.inputs.latents import load_latents
from gan2shape.jobs.inputs.scan import Scan, scan
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import Device, choose_device, run_shard
from gan2shape.jobs.run.status import RunStatus, committed_shards, make_status, running_shards
from gan2shape.jobs.run.submit import Finished, submit
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import check_gan_size, load_gan
from gan2shape.pipeline.networks.trained import check_networks
from gan2shape.pipeline.precision import has_native_bfloat16
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.packaged import asset_names
from gan2shape.schemas.settings import RunConfig

PACKAGES = (
    *("gan2shape", "dask", "distributed", "numba", "numpy", "pillow", "pyarrow", "scipy"),
    *("torch", "zarr", "zarrs", "pytorch3d"),
)
ENOUGH_SHARDS = 32
"""As many shards as there are groups for are made, up to this number: work for the cores of most
machines. The number is not that of the cores, so that a run is the same on every machine."""


@dataclass(frozen=True)
class Request:
    """What `gan2shape reconstruct` was asked to do."""

    source: str
    gan: str
    out: Path
    config: RunConfig
    masks: str | None = None
    truth: str | None = None
    latents: str | None = None
    lpips: Path | None = None
    networks: str | None = None
    """Trained networks to start from: a file or a packaged name."""
    priors: str | None = None
    """Where the priors in `config` came from, for the record."""
    limit: int | None = None
    spread: bool = True
    """Make shards smaller than `shard_size` where there would be few of them."""


@dataclass(frozen=True)
class Execution:
    """Where a run is computed; the numbers do not depend on it, beyond rounding."""

    device: Device = "auto"
    workers: int | None = None
    threads: int | None = None
    scheduler: str | None = None

    def workers_for(self, tasks: int) -> Workers:
        """This machine's workers for so many tasks. Raises `ClusterError` without the device."""
        return plan_workers(
            tasks, usable_cores(), visible_gpus(self.device), self.workers, self.threads
        )


@dataclass(frozen=True)
class Outcome:
    """How a command left a run."""

    status: RunStatus
    shard_errors: dict[int, str]
    """Shards that are not committed, and why."""


def prepare(request: Request, execution: Execution) -> tuple[store.Run, Scan]:
    """Check everything that can be checked, then make the run directory.

    What decides the run's numbers is settled here and recorded. Raises `UserError` for what the
    user can put right: paths, weights, settings that do not fit.
    """
    store.check_free(request.out)
    found = scan(
        request.source,
        truth=request.truth,
        masks=request.masks,
        latents=request.latents,
        limit=request.limit,
    )
    config = request.config
    if config.mask == "given" and not any(found.masks):
        raise UserError(
            f"The settings ask for given masks, but {request.source} has none; give --masks DIR, "
            f"or use '--set mask=background' or '--set mask=none'."
        )
    if config.forward_only and request.networks is None:
        raise UserError(
            "The settings have no optimization.cycles, so that nothing would be fitted; give "
            "trained networks with --model or --networks, or another --recipe."
        )
    gan = load_gan(request.gan)
    check_gan_size(gan, config.camera.size)
    lpips = None
    if request.lpips is not None:
        load_lpips(request.lpips)
        lpips = store.Weights(str(request.lpips.resolve()), file_digest(request.lpips))
    networks = None
    if request.networks is not None:
        pretrained = load_networks(request.networks)
        config = config.model_copy(update={"networks": pretrained.networks})
        check_networks(pretrained, gan, config)
        networks = store.Weights(weights_path(request.networks), pretrained.sha256)
    config = even_groups(config, len(found))
    if request.spread:
        config = spread_shards(config, len(found))
    config = resolved(config, execution)
    latents = None
    if found.shared_latents:
        style_dim = gan.generator.style_dim
        latents = load_latents(found.shared_latents, list(found.ids), style_dim).numpy()
    record = store.RunRecord(
        config=config,
        gan=store.Weights(weights_path(request.gan), gan.sha256),
        lpips=lpips,
        latent_size=gan.generator.style_dim,
        networks=networks,
        inputs={
            "source": request.source,
            "masks": request.masks,
            "truth": request.truth,
            "latents": request.latents,
            "priors": request.priors,
            "limit": request.limit,
        },
        execution={
            "device": execution.device,
            "workers": execution.workers,
            "threads_per_worker": execution.threads,
            "scheduler": execution.scheduler,
            "machine": platform.platform(),
        },
        versions=_versions(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    try:
        run = store.create_run(request.out, record, found.manifest(config.shard_size), latents)
    except OSError as error:
        raise UserError(
            f"The run directory {request.out} cannot be made: {error.strerror or error}."
        ) from error
    return run, found


def even_groups(config: RunConfig, images: int) -> RunConfig:
    """Groups of nearly one size in place of full ones and a small last one, which does worse."""
    groups = -(-images // config.group_size)
    if groups == 1:
        return config
    size = -(-images // groups)
    shard_size = config.shard_size // config.group_size * size
    return config.model_copy(update={"group_size": size, "shard_size": shard_size})


def spread_shards(config: RunConfig, images: int) -> RunConfig:
    """Smaller shards where there are few; groups, and so results, stay as they are."""
    groups = -(-images // config.group_size)
    even = -(-groups // ENOUGH_SHARDS) * config.group_size
    return config.model_copy(update={"shard_size": min(config.shard_size, even)})


def resolved(config: RunConfig, execution: Execution) -> RunConfig:
    """The settings with what `precision: auto` and `renderer: auto` are where the run is computed.

    With a scheduler its first worker decides. Raises `UserError` when there is none.
    """
    if "auto" not in (config.precision, config.renderer):
        return config
    if execution.scheduler is None:
        return resolved_here(config, execution.device)
    with remote_client(execution.scheduler, lambda text: None) as client:
        if not client.nthreads():
            raise UserError(
                f"{execution.scheduler} has no workers yet, and what 'precision: auto' and "
                f"'renderer: auto' are depends on them; start some with 'dask worker "
                f"{execution.scheduler} --nthreads 1', or set both settings."
            )
        answer = client.submit(resolved_here, config, execution.device, pure=False).result()
        return cast(RunConfig, answer)


def resolved_here(config: RunConfig, device: Device) -> RunConfig:
    """The settings with what `precision: auto` and `renderer: auto` are on this machine."""
    on = choose_device(device, config.renderer)
    precision, renderer = config.precision, config.renderer
    if precision == "auto":
        precision = "bfloat16" if has_native_bfloat16(on) else "float32"
    if renderer == "auto":
        renderer = "numba" if on.type == "cpu" else "pytorch3d"
    return config.model_copy(update={"precision": precision, "renderer": renderer})


def check_weights(run: store.Run) -> None:
    """Raise `UserError` unless the run's weights are still there and the same."""
    record = run.record
    loaders = ((load_gan, record.gan), (load_networks, record.networks))
    for load, weights in loaders:
        if weights is not None and load(weights.path).sha256 != weights.sha256:
            raise UserError(
                f"The weights {weights.path} are not those that {run.path} began with; put the "
                f"old file back, or start a new run."
            )
    if record.lpips is not None:
        path = Path(record.lpips.path)
        if not path.is_file() or file_digest(path) != record.lpips.sha256:
            raise UserError(f"{path} is not the file that {run.path} began with; put it back.")


def execute(
    run: store.Run,
    execution: Execution,
    show: Callable[[RunStatus], None] = lambda status: None,
    on_workers: Callable[[str], None] = lambda text: None,
    verify: bool = False,
) -> Outcome:
    """Do all shards of the run that are not done; returns how that went.

    With `verify` the content of committed files is compared with the commit records before, and
    damaged shards are computed again.

    Raises `UserError` when something would fail every shard (disk full, weights gone).
    Stopped by any exception, Ctrl-C too, it leaves no worker behind and a run to resume.
    """
    with store.locked(run.path):
        store.check_segments(run, verify=True)
        store.clean(run, verify)
        watch = _Watch(run, show)
        missing = [plan.index for plan in run.plan if plan.index not in watch.done]
        if missing:
            with _client(execution, len(missing), on_workers) as client:
                task = partial(run_shard, str(run.path.resolve()), device=execution.device)
                submit(client, task, missing, watch.finished, watch.idle)
        store.clean(run)
        watch.show_now()
        return Outcome(watch.status(), watch.errors)


class _Watch:
    """Keeps count of the run while its tasks end."""

    def __init__(self, run: store.Run, show: Callable[[RunStatus], None]) -> None:
        self.run = run
        self.show = show
        committed = committed_shards(run)
        self.done = set(committed)
        self.failed_images = sum(shard.failed for shard in committed.values())
        self.errors: dict[int, str] = {}
        self.shard_seconds: list[float] = []
        self._first_seen: dict[int, float] = {}
        self._last = 0.0

    def finished(self, task: Finished) -> None:
        """Count a task that has ended. Raises `UserError` when it was fatal for all."""
        if task.result is not None and task.result.fatal:
            raise UserError(task.result.fatal)
        if task.error is not None:
            self.errors[task.shard] = task.error
        else:
            self.done.add(task.shard)
            self.failed_images += task.result.failed
            if task.shard in self._first_seen:
                self.shard_seconds.append(time.time() - self._first_seen[task.shard])
        self.show_now()

    def idle(self) -> None:
        """Show the status, once a second."""
        if time.monotonic() - self._last > 1:
            self.show_now()

    def show_now(self) -> None:
        """Show the status."""
        self._last = time.monotonic()
        self.show(self.status())

    def status(self) -> RunStatus:
        """The status as of now."""
        running = running_shards(self.run.path, self.done)
        for item in running:
            self._first_seen.setdefault(item.shard, item.started)
        return make_status(self.run, self.done, self.failed_images, running, self.shard_seconds)


def _client(
    execution: Execution, shards: int, on_workers: Callable[[str], None]
) -> AbstractContextManager[Any]:
    if execution.scheduler:
        return remote_client(execution.scheduler, on_workers)
    workers = execution.workers_for(shards)
    on_workers(str(workers))
    return local_client(workers)


def weights_path(weights: str) -> str:
    """Packaged weights by their name, files and folders of models by their absolute path."""
    packaged = weights.partition("/")[0] in asset_names() and not Path(weights).is_file()
    return weights if packaged else str(Path(weights).resolve())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

"""Workers for a run: this machine's cores or GPUs, each used once, or a running scheduler's."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


class ClusterError(UserError):
    """There are no workers to run on."""


@dataclass(frozen=True)
class Workers:
    """How many worker processes there are, and what each may use."""

    count: int
    threads: int
    """Compute threads of each (the Dask worker itself has one thread, so one shard at a time)."""
    gpus: tuple[str, ...] = ()
    """CUDA device of each worker, in the naming of CUDA_VISIBLE_DEVICES; empty on the CPU."""

    def __str__(self) -> str:
        kind = f"GPU worker{_s(self.count)}" if self.gpus else f"worker{_s(self.count)}"
        return f"{self.count} {kind} with {self.threads} thread{_s(self.threads)} each"


def plan_workers(
    shards: int,
    cores: int,
    gpus: tuple[str, ...] = (),
    workers: int | None = None,
    threads: int | None = None,
) -> Workers:
    """Divide `cores` (and `gpus`) over as many workers as there are shards for, or as asked.

    On the CPU there is a worker per core, on GPUs one per GPU; cores are never oversubscribed
    unless the user asks for it.
    """
    most = len(gpus) or cores
    count = max(1, min(workers or most, shards))
    if gpus:
        count = min(count, len(gpus))
    per_worker = threads or max(1, cores // count)
    return Workers(count, per_worker, gpus[:count])


def usable_cores() -> int:
    """Cores that this process may use: affinity and cgroup limits count."""
    from dask.system import cpu_count

    return max(1, cpu_count())


def visible_gpus(device: str) -> tuple[str, ...]:
    """CUDA devices to use for `--device`; empty on the CPU.

    Raises `ClusterError` when CUDA is asked for and there is none.
    """
    if device == "cpu":
        return ()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        if device == "cuda":
            raise ClusterError("There is no CUDA device on this machine; use --device cpu or auto.")
        return ()
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(listed[:count]) if listed else tuple(str(index) for index in range(count))


def worker_environment(threads: int) -> dict[str, str]:
    """Environment that a worker process must start with; later it is too late for these.

    glibc (and more so with Dask's own settings) gives large tensors back to the kernel at once and
    faults them in again the next iteration, for half as much time again in a convolution. Kept in
    one heap that never shrinks, they fault in once. Other systems ignore these variables.
    """
    return {name: str(threads) for name in THREAD_VARIABLES} | {
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_ARENA_MAX": "1",
    }


@contextmanager
def local_client(workers: Workers) -> Iterator[Client]:
    """A Dask client of worker processes on this machine, gone when the block is left.

    However the block ends, the workers end too, in the middle of their work if need be.
    """
    import dask
    from distributed import Client, SpecCluster

    settings: dict[str, Any] = {
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": 2,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(_environment(worker_environment(workers.threads)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gan2shape-"))
        cluster = SpecCluster(
            workers=_worker_specs(workers, folder),
            scheduler=_scheduler_spec(),
            silence_logs=logging.CRITICAL,
            asynchronous=False,
        )
        try:
            with Client(cluster, set_as_default=False) as client:
                pids = _worker_pids(client)
                try:
                    yield client
                except BaseException:
                    # Nothing a worker holds in memory is worth waiting for: checkpoints are whole.
                    _kill(_worker_pids(client) or pids)
                    raise
        finally:
            cluster.close(timeout=10)


def _scheduler_spec() -> dict[str, Any]:
    from distributed import Scheduler

    options = {"dashboard": False, "dashboard_address": None, "host": "127.0.0.1", "port": 0}
    return {"cls": Scheduler, "options": options}


def _worker_specs(workers: Workers, folder: str) -> dict[Any, Any]:
    from distributed import Nanny

    specs: dict[Any, Any] = {}
    for index in range(workers.count):
        options: dict[str, Any] = {
            "nthreads": 1,
            "memory_limit": 0,
            "host": "127.0.0.1",
            "dashboard": False,
            "dashboard_address": None,
            "local_directory": folder,
            "preload": ["gan2shape.jobs.cluster.worker"],
            "silence_logs": logging.CRITICAL,
        }
        if workers.gpus:
            options["env"] = {"CUDA_VISIBLE_DEVICES": workers.gpus[index]}
        specs[index] = {"cls": Nanny, "options": options}
    return specs


@contextmanager
def remote_client(address: str, on_workers: Callable[[str], None]) -> Iterator[Client]:
    """A client of the scheduler at `address`, whose workers are told of in a few words.

    Raises `ClusterError` when it does not answer.
    """
    from distributed import Client

    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"No Dask scheduler answers at {address!r} within {CONNECT_SECONDS} s; check the "
                f"address (such as tcp://10.0.0.5:8786) and that it is running."
            ) from error
        with client:
            count = len(client.nthreads())
            text = f"the {count} worker{_s(count)} of {address}"
            if not count:
                text = (
                    f"{address}, which has no workers yet: start some with 'dask worker {address} "
                    "--nthreads 1'"
                )
            on_workers(text)
            yield client


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables that processes started meanwhile inherit; Dask lets these win over its own."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log and its advice off the terminal; what matters is reported per shard."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _worker_pids(client: Client) -> list[int]:
    try:
        return [int(pid) for pid in client.run(os.getpid, nanny=False).values()]
    except Exception:
        return []


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _s(count: int) -> str:
    return "" if count == 1 else "s"

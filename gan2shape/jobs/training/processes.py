"""The processes of a training on this machine: how many, on what, and running them together."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from gan2shape.jobs.cluster.local import usable_cores, visible_gpus
from gan2shape.jobs.progress import Note, Show
from gan2shape.pipeline.process_group import ProcessGroup
from gan2shape.schemas.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt
Work = Callable[..., None]
"""work(job, process_group, device, show, note)"""
TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others: they may invert more images, or slower."""
GRACE, PARTING = 20.0, 10.0
"""Seconds for process 0 to notice by itself that another has died, and for all to end."""


@dataclass(frozen=True)
class Compute:
    """Where a training computes."""

    devices: tuple[str, ...] = ("cpu",)
    """The torch device of each process."""
    threads: int = 1
    """Compute threads of each process."""

    @property
    def device(self) -> torch.device:
        """That of the first process."""
        return torch.device(self.devices[0])

    def prepare(self) -> None:
        """Make this process ready: its threads, and freed memory kept.

        Otherwise glibc returns every large tensor to the system and asks for it again, which takes
        up to half of a training step.
        """
        torch.set_num_threads(self.threads)
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (AttributeError, OSError, TypeError):  # not glibc
            return
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def plan_compute(
    device: str = "auto", processes: int | None = 1, threads: int | None = None
) -> Compute:
    """Divide this machine's GPUs, or cores, over so many processes.

    `device` is auto, cpu or cuda; `processes` of `None` are one for each GPU. Raises `ClusterError`
    when CUDA is asked for and there is none, and `UserError` for more processes than GPUs.
    """
    gpus = len(visible_gpus(device))
    if gpus and processes and processes > gpus:
        raise UserError(f"There are {gpus} GPUs for --processes {processes}; use as many or fewer.")
    count = processes or gpus or 1
    devices = tuple(f"cuda:{index}" for index in range(count)) if gpus else ("cpu",) * count
    return Compute(devices, threads or max(1, usable_cores() // count))


def in_processes(work: Work, job: Any, compute: Compute, show: Show, note: Note) -> None:
    """Do `work` once for each device; this process is number 0, and alone shows progress.

    Raises what the work raises here, or `UserError` when another process ended before its time.
    """
    compute.prepare()
    devices = compute.devices
    if len(devices) == 1:
        work(job, ProcessGroup(), compute.device, show, note)
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        others = [
            context.Process(target=_other, args=(work, job, rank, compute, meeting), daemon=True)
            for rank in range(1, len(devices))
        ]
        for process in others:
            process.start()
        over = threading.Event()
        threading.Thread(target=_end_with, args=(others, devices, over), daemon=True).start()
        try:
            _together(work, job, 0, devices, meeting, show, note)
        except RuntimeError as error:
            broken = [n for n, p in enumerate(others, 1) if p.exitcode not in (None, 0)]
            if not broken:
                raise
            raise UserError(_ended_early(broken[0], devices)) from error
        finally:
            over.set()
            deadline = time.monotonic() + PARTING
            for process in others:
                process.join(timeout=max(deadline - time.monotonic(), 0))
                process.kill()


def _end_with(others: list[Any], devices: tuple[str, ...], over: threading.Event) -> None:
    """End this process when another has died and it does not notice: NCCL waits for hours."""
    waiting = {process.sentinel: rank for rank, process in enumerate(others, 1)}
    while waiting:
        for sentinel in connection.wait(list(waiting)):
            rank = waiting.pop(sentinel)  # type: ignore[call-overload]
            if others[rank - 1].exitcode == 0:
                continue
            if over.wait(GRACE):
                return
            print(f"gan2shape: {_ended_early(rank, devices)}", file=sys.stderr, flush=True)
            for process in others:
                process.kill()
            os._exit(1)


def _ended_early(rank: int, devices: tuple[str, ...]) -> str:
    return (
        f"Process {rank} ({devices[rank]}) ended early; its message is above. Give the same "
        "command to go on."
    )


def _other(work: Work, job: Any, rank: int, compute: Compute, meeting: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # process 0 is told, and ends this one
    compute.prepare()
    try:
        _together(work, job, rank, compute.devices, meeting, _silent, _silent)
    except UserError as error:
        print(f"process {rank}: {error}", flush=True)
        os._exit(1)


def _together(
    work: Work,
    job: Any,
    rank: int,
    devices: tuple[str, ...],
    meeting: str,
    show: Show,
    note: Note,
) -> None:
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Gloo beside NCCL, for the few messages that live on the CPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, init_method=meeting, rank=rank, world_size=len(devices), timeout=TIMEOUT
    )
    try:
        work(job, ProcessGroup(rank, len(devices)), device, show, note)
    finally:
        distributed.destroy_process_group()


def _silent(*words: Any, **options: Any) -> None:
    """Progress of a process that nobody watches."""

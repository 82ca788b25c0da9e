"""Run one task per shard on a Dask client: order, retries and failures, and nothing of the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

RETRIES = 1
"""Times a task that raised is tried again; a killed worker's task always goes to another."""
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Finished:
    """A task that has ended: with a result, or with a reason why not."""

    shard: int
    result: Any = None
    error: str | None = None


def submit(
    client: Client,
    task: Callable[[int], Any],
    shards: Iterable[int],
    on_finished: Callable[[Finished], None],
    on_idle: Callable[[], None] = lambda: None,
) -> None:
    """Run `task(shard)` for every shard; tells of each as it ends, in whatever order.

    Only shard numbers and small results go through the scheduler. `on_idle` is called a few times
    a second. Returns when all have ended; an exception from a callback cancels the rest.
    """
    from distributed import as_completed

    futures = {
        client.submit(
            task, shard, key=f"shard-{shard:06d}-{time.time_ns()}", retries=RETRIES
        ): shard
        for shard in shards
    }
    try:
        waiting = as_completed(futures, loop=client.loop)
        while not waiting.is_empty():
            while waiting.has_ready():
                for future in waiting.next_batch(block=False):
                    if future.status in ("lost", "pending"):
                        # Its result died with a worker before it came here: Dask does it again.
                        waiting.add(future)
                    else:
                        on_finished(_finished(futures[future], future))
            if client.status != "running":
                raise UserError(
                    "The Dask scheduler went away; nothing committed is lost, go on with "
                    "'gan2shape resume'."
                )
            on_idle()
            time.sleep(POLL_SECONDS)
    except BaseException:
        client.cancel(list(futures), force=True)
        raise


def _finished(shard: int, future: Future) -> Finished:
    from distributed import KilledWorker

    if future.status == "finished":
        return Finished(shard, future.result())
    if future.status != "error":
        return Finished(shard, error=f"the task was {future.status}")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Finished(shard, error="its worker died again and again (out of memory?)")
    text = " ".join(str(error).split())
    return Finished(
        shard, error=f"{type(error).__name__}: {text}" if text else type(error).__name__
    )

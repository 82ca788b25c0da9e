"""How a run stands: what is done, failed, running and left, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard_progress import Progress, read_all


@dataclass(frozen=True)
class RunStatus:
    """Counts of a run at one moment."""

    images: int
    images_done: int
    """In committed shards, the failed ones among them."""
    images_failed: int
    shards: int
    shards_done: int
    running: tuple[Progress, ...]
    seconds_left: float | None
    """`None` when nothing runs, or too little is known."""
    damage: tuple[str, ...] = ()
    """Sentences on what is missing or damaged, and how to mend it."""

    @property
    def images_left(self) -> int:
        return self.images - self.images_done

    @property
    def shards_left(self) -> int:
        return self.shards - self.shards_done

    @property
    def complete(self) -> bool:
        return self.shards_left == 0

    @property
    def fraction(self) -> float:
        """Share of all images' work that is done, running shards included."""
        running = sum(item.images * item.fraction for item in self.running)
        return (self.images_done + running) / self.images


def run_status(path: Path, verify: bool = False) -> RunStatus:
    """Read the status of the run at `path`, whoever works on it. Raises `RunError`.

    Files of committed shards are compared with their records in presence and size, with `verify`
    also in content.
    """
    run = store.open_run(path)
    damage = dict(store.find_damage(run, verify))
    committed = committed_shards(run)
    for shard in committed.keys() & damage.keys():
        del committed[shard]
    status = make_status(
        run,
        shards_done=set(committed),
        images_failed=sum(shard.failed for shard in committed.values()),
        running=running_shards(path, set(committed)),
        shard_seconds=[shard.seconds for shard in committed.values()],
    )
    return replace(status, damage=tuple(damage.values()))


def committed_shards(run: store.Run) -> dict[int, store.Commit]:
    """The commits of the shards that are done, by their numbers."""
    found = {plan.index: store.committed(run, plan.index) for plan in run.plan}
    return {shard: commit for shard, commit in found.items() if commit is not None}


def make_status(
    run: store.Run,
    shards_done: set[int],
    images_failed: int,
    running: Sequence[Progress],
    shard_seconds: Sequence[float],
) -> RunStatus:
    """Put the counts together; `shard_seconds` are the durations of committed shards."""
    plan = run.plan
    return RunStatus(
        images=plan.images,
        images_done=plan.images_of(shards_done),
        images_failed=images_failed,
        shards=plan.shard_count,
        shards_done=len(shards_done),
        running=tuple(running),
        seconds_left=time_to_go(
            plan.shard_count - len(shards_done), running, shard_seconds, time.time()
        ),
    )


def running_shards(path: Path, done: set[int]) -> list[Progress]:
    """Shards that a live worker is busy with."""
    now = time.time()
    return [item for item in read_all(path) if item.shard not in done and item.alive(now)]


def time_to_go(
    left: int, running: Sequence[Progress], shard_seconds: Sequence[float], now: float
) -> float | None:
    """Seconds until `left` shards are done, at the pace of the running and the finished ones."""
    if left == 0:
        return 0.0
    if not running:
        return None
    known = [s for s in (item.seconds_per_shard(now) for item in running) if s is not None]
    pace = known or list(shard_seconds)
    if not pace:
        return None
    work = left - sum(item.fraction for item in running)
    alone = max(1 - min(item.fraction for item in running), 0.0)
    return max(work / len(running), alone) * sum(pace) / len(pace)

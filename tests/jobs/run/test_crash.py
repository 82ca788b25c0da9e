"""Processes that are killed while they commit, and disks that refuse."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gan2shape.jobs.run import store
from tests.jobs.content import make_record, shard_content

COMMIT = """
import sys
import time
from pathlib import Path
from gan2shape.jobs.run import store
from tests.jobs.content import shard_content

run = store.open_run(Path(sys.argv[1]))
print("ready", flush=True)
for shard in store.missing_shards(run):
    sys.stdin.readline()
    store.commit_shard(run, shard, *shard_content(run, shard, 0.25))
"""


def written(run: store.Run, shard: int) -> bool:
    return any(run.checkpoints(shard).glob(".tmp-*/*/*"))


def part_written(run: store.Run, shard: int) -> bool:
    return any(run.checkpoints(shard).glob(".tmp-*/part"))


def array_in_place(run: store.Run, shard: int) -> bool:
    return any((run.path / "arrays.zarr" / "depth").glob(f"c.{shard}.*"))


def part_in_place(run: store.Run, shard: int) -> bool:
    return any((run.path / "metrics").glob(f"part-{shard:06d}-*"))


def record_in_place(run: store.Run, shard: int) -> bool:
    return (run.path / "commits" / f"{shard:06d}.json").exists()


@pytest.mark.parametrize(
    "moment", [written, part_written, array_in_place, part_in_place, record_in_place]
)
def test_a_process_killed_in_a_commit(
    run: store.Run, moment: Callable[[store.Run, int], bool]
) -> None:
    """Whatever the moment: the shard is done with its values or not at all, and others stay."""
    store.commit_shard(run, 0, *shard_content(run, 0, 0.5))
    process = subprocess.Popen(
        [sys.executable, "-c", COMMIT, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"\n")
    process.stdin.flush()
    while not moment(run, 1):
        assert process.poll() is None
        time.sleep(0.0002)
    process.kill()
    process.communicate()

    done = store.is_done(run, 1)
    assert done or moment is not record_in_place
    assert store.missing_shards(run) == ([2] if done else [1, 2])
    assert store.read_metrics(run)["side"].to_pylist() == [0.5, 0.5, *[0.25] * (2 * done)]
    depth = store.read_rows(run.path, "depth", slice(0, 4))
    assert (depth[:2] == 0.5).all()
    assert (depth[2:] == 0.25).all() if done else np.isnan(depth[2:]).all()

    store.clean(run)
    assert len(list((run.path / "metrics").iterdir())) == (2 if done else 1)
    store.commit_shard(run, 1, *shard_content(run, 1, 0.75))
    depth = store.read_rows(run.path, "depth", slice(0, 4))
    assert (depth[2:] == (0.25 if done else 0.75)).all()
    assert list(store.find_damage(run, verify=True)) == []
    store.clean(run)
    assert not list(run.path.rglob(".tmp-*"))


def test_a_disk_that_takes_no_more(run: store.Run) -> None:
    """Files may not grow beyond some limit, at one size after the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = shard_content(run, 1, 0.5)
    for limit in (0, 200, 1000, 2000, 4000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                store.commit_shard(run, 1, *content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.missing_shards(run) == [0, 1, 2]
        assert not any((run.path / "metrics").iterdir())
    store.commit_shard(run, 1, *content)
    assert list(store.find_damage(run, verify=True)) == []
    assert store.missing_shards(run) == [0, 2]


def test_two_attempts_at_once(run: store.Run) -> None:
    """Two processes commit the same shards; each shard ends as one of them made it."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMMIT, str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n" * 3)
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0]
    assert list(store.find_damage(run, verify=True)) == []
    assert store.read_metrics(run)["side"].to_pylist() == [0.25] * 5
    store.clean(run)
    assert len(list((run.path / "metrics").iterdir())) == 3


def test_a_run_that_cannot_be_written_is_no_run(run: store.Run, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    manifest = store.manifest_table(run)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.create_run(tmp_path / "other", make_record(), manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(store.RunError, match="no run directory"):
        store.open_run(tmp_path / "other")
    store.create_run(tmp_path / "other", make_record(), manifest)

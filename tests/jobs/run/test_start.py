"""Runs on real Dask workers, and what planning settles."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gan2shape.jobs.run import store
from gan2shape.jobs.run.plan import make_plan
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.shard_progress import read_progress
from gan2shape.jobs.run.start import (
    ENOUGH_SHARDS,
    Execution,
    even_groups,
    execute,
    resolved,
    spread_shards,
    weights_path,
)
from gan2shape.pipeline.precision import has_native_bfloat16
from tests.jobs import tiny
from tests.jobs.tiny import array, make_run


def kill_in_mid_shard(run: store.Run, shard: int, killed: list[int]) -> None:
    """Kill the worker of a shard once it has written its first checkpoint."""
    folder = run.checkpoints(shard)
    while not (folder / "state.ckpt").exists():
        time.sleep(0.002)
    progress = read_progress(folder)
    assert progress is not None
    os.kill(progress.pid, signal.SIGKILL)
    killed.append(progress.pid)


def test_a_worker_killed_in_mid_shard_and_a_corrupt_image(tmp_path: Path) -> None:
    config = tiny.settings(optimization__cycles=[{"step1": 1, "step2": 2, "step3": 4}])
    whole = make_run(tmp_path / "whole", 3, config=config)
    run_shard(whole.path, 0, "cpu")
    run = make_run(tmp_path, 3, config=config)
    (tmp_path / "images" / "img2.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    killed: list[int] = []
    killer = threading.Thread(target=kill_in_mid_shard, args=(run, 0, killed), daemon=True)
    killer.start()
    outcome = execute(run, tiny.CPU)
    killer.join(timeout=1)
    assert len(killed) == 1
    assert outcome.status.complete
    assert not outcome.shard_errors
    assert outcome.status.images_failed == 1
    np.testing.assert_array_equal(array(run, "depth")[:2], array(whole, "depth")[:2])
    assert np.isnan(array(run, "depth")[2]).all()
    rows = store.read_metrics(run).to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 2 + ["failed"]
    assert "img2.png" in rows[2]["error"]
    assert not list((run.path / "checkpoints").iterdir())
    assert list(store.find_damage(run, verify=True)) == []


def test_groups_are_of_nearly_one_size() -> None:
    config = tiny.settings(group_size=4, shard_size=8)
    for count, sizes in ((3, [3]), (5, [3, 2]), (9, [3, 3, 3]), (12, [4, 4, 4])):
        even = even_groups(config, count)
        plan = make_plan(count, even.shard_size, even.group_size)
        groups = [bounds for part in plan for bounds in part.groups]
        assert [stop - start for start, stop in groups] == sizes
        assert all(part.stop - part.start <= 8 for part in plan)


@pytest.mark.parametrize(
    ("images", "size"), [(1, 4), (4, 4), (8, 4), (4 * 40, 8), (4 * 400, 16), (10**6, 16)]
)
def test_shards_are_small_where_there_are_few(images: int, size: int) -> None:
    """Whatever the machine; and groups stay as they are."""
    config = spread_shards(tiny.settings(group_size=4, shard_size=16), images)
    assert (config.group_size, config.shard_size) == (4, size)
    assert -(-images // size) >= min(ENOUGH_SHARDS // 2, -(-images // 4))


def test_planning_settles_what_auto_means(tmp_path: Path) -> None:
    config = tiny.settings(precision="auto", renderer="auto")
    bfloat16 = has_native_bfloat16(torch.device("cpu"))
    run = make_run(tmp_path, 1, config=config)
    found = store.open_run(run.path).record.config
    assert found.precision == ("bfloat16" if bfloat16 else "float32")
    assert found.renderer == "numba"
    chosen = tiny.settings(precision="bfloat16", renderer="pytorch3d")
    assert resolved(chosen, Execution("cpu")) == chosen


def test_weights_are_recorded_so_that_another_folder_can_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models' folders and files by absolute paths, packaged weights by their names."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "heads64"):
        Path(name).mkdir()
    Path("gan.pt").touch()
    assert [weights_path(name) for name in ("mine", "mine/", "gan.pt")] == [
        str(tmp_path / name) for name in ("mine", "mine", "gan.pt")
    ]
    for name in ("heads64", "heads64/joint.safetensors"):
        assert weights_path(name) == name

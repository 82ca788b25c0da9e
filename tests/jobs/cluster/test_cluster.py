from __future__ import annotations

import os
import time
from functools import partial

import pytest

from gan2shape.jobs.cluster.local import (
    ClusterError,
    Workers,
    local_client,
    plan_workers,
    remote_client,
    usable_cores,
    worker_environment,
)
from gan2shape.jobs.run.start import Execution, execute, resolved, resolved_here
from gan2shape.jobs.run.submit import Finished, submit
from gan2shape.schemas.errors import UserError
from tests.jobs import tiny
from tests.jobs.cluster.tasks import die, work_for_ever
from tests.jobs.tiny import make_forward, make_run


@pytest.mark.parametrize(
    ("shards", "cores", "expected"),
    [
        (1, 8, Workers(1, 8)),
        (3, 8, Workers(3, 2)),
        (100, 8, Workers(8, 1)),
        (100, 1, Workers(1, 1)),
    ],
)
def test_cores_are_divided_and_never_oversubscribed(shards, cores, expected):
    workers = plan_workers(shards, cores)
    assert workers == expected
    assert workers.count * workers.threads <= cores


def test_wishes_are_followed():
    assert plan_workers(10, 8, workers=2) == Workers(2, 4)
    assert plan_workers(10, 8, workers=2, threads=1) == Workers(2, 1)
    assert plan_workers(1, 8, workers=4) == Workers(1, 8)


def test_one_worker_for_each_gpu():
    assert plan_workers(10, 16, ("0", "3")) == Workers(2, 8, ("0", "3"))
    assert plan_workers(1, 16, ("0", "3")) == Workers(1, 16, ("0",))
    assert plan_workers(10, 16, ("0", "3"), workers=8) == Workers(2, 8, ("0", "3"))


def test_usable_cores_respect_affinity():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def inspect_worker(shard: int) -> dict[str, object]:
    import torch

    from gan2shape.jobs.run.shard import _set_threads

    _set_threads()
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
    names += ("CUDA_VISIBLE_DEVICES",)
    return {"pid": os.getpid(), "threads": torch.get_num_threads(), "cwd": os.getcwd()} | {
        name: os.environ.get(name) for name in names
    }


def test_workers_start_with_their_threads_and_end_with_the_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what the shell says must not oversubscribe
    results = []
    with local_client(Workers(1, 2, ("3",))) as client:
        submit(client, inspect_worker, [0], results.append)
    found = results[0].result
    assert found["pid"] != os.getpid()
    assert found["threads"] == 2
    expected = worker_environment(2)
    assert found["OMP_NUM_THREADS"] == expected["OMP_NUM_THREADS"] == "2"
    assert found["NUMBA_NUM_THREADS"] == "2"
    assert found["CUDA_VISIBLE_DEVICES"] == "3"
    assert found["MALLOC_TRIM_THRESHOLD_"] == expected["MALLOC_TRIM_THRESHOLD_"]
    assert not list(tmp_path.iterdir())  # no scratch folder where the user stands
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert_gone(found["pid"])


def test_ctrl_c_ends_busy_workers(tmp_path):
    def interrupt() -> None:
        if any(tmp_path.iterdir()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), local_client(Workers(1, 1)) as client:
        submit(client, partial(work_for_ever, str(tmp_path)), [0], lambda task: None, interrupt)
    for file in tmp_path.iterdir():
        assert_gone(int(file.name))


def assert_gone(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} lives on")


def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr("gan2shape.jobs.cluster.local.CONNECT_SECONDS", 1)
    answer = "No Dask scheduler answers at 'tcp://127"
    with pytest.raises(ClusterError, match=answer), remote_client("tcp://127.0.0.1:1", print):
        pass
    with (
        pytest.raises(ClusterError, match="No Dask scheduler"),
        remote_client("nonsense://x", print),
    ):
        pass


def test_a_scheduler_without_workers_is_pointed_out():
    from distributed import LocalCluster

    told: list[str] = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        remote_client(cluster.scheduler_address, told.append),
    ):
        assert "which has no workers yet: start some with 'dask worker" in told[0]
        config = tiny.settings(precision="auto")
        with pytest.raises(UserError, match="has no workers yet, and what 'precision: auto'"):
            resolved(config, Execution(scheduler=cluster.scheduler_address))


def test_a_task_that_always_kills_its_worker_is_reported_and_others_are_done():
    results: list[Finished] = []
    with local_client(Workers(1, 1)) as client:
        submit(client, die, [0, 1, 2], results.append)
    errors = {task.shard: task.error for task in results}
    assert errors.keys() == {0, 1, 2}
    assert errors[0] is None
    assert errors[2] is None
    assert "died again and again" in errors[1]


def test_an_existing_scheduler(tmp_path):
    """Workers that someone else started, with two Dask threads; errors come through them too."""
    from distributed import LocalCluster

    run = make_run(tmp_path, 4)
    in_the_way = run.checkpoints(1)
    in_the_way.touch()
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        there = Execution("cpu", scheduler=cluster.scheduler_address)
        outcome = execute(run, there)
        assert set(outcome.shard_errors) == {1}
        assert outcome.shard_errors[1].startswith("FileExistsError: ")
        assert outcome.status.shards_done == 1
        in_the_way.unlink()
        told: list[str] = []
        outcome = execute(run, there, on_workers=told.append)
        assert outcome.status.complete
        assert told == [f"the 1 worker of {cluster.scheduler_address}"]

        config = tiny.settings(precision="auto", renderer="auto")
        found = resolved(config, there)
        assert found == resolved_here(config, "cpu")
        assert "auto" not in (found.precision, found.renderer)

        other = make_forward(tmp_path / "other", 4)
        tiny.networks(tmp_path / "other", seed=1)
        with pytest.raises(UserError, match="not those that the run began with"):
            execute(other, there)

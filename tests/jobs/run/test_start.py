"""Runs on real Dask workers and real stores; only the optimisation itself is a stand-in."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest

from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, execute, prepare
from gan2shape.jobs.run.status import run_status
from tests.jobs import standin


def make_run(folder: Path, images: int, config=None, **request) -> store.Run:
    source = standin.write_images(folder / "images", images)
    wanted = Request(
        source=str(source),
        gan=standin.write_weights(folder),
        out=folder / "run",
        config=config or standin.tiny_config(),
        spread=False,
        **request,
    )
    run, _ = prepare(wanted, Execution(device="cpu"), standin.make_engine)
    return run


def go(run: store.Run, workers: int = 2, make_engine=standin.make_engine):
    return execute(run, Execution("cpu", workers, 1), make_engine=make_engine)


def depth(run: store.Run) -> np.ndarray:
    return store.read_rows(run.path, "depth", slice(0, run.plan.images))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> np.ndarray:
    """The depth of six images, done shard by shard in this process, last shard first."""
    run = make_run(tmp_path_factory.mktemp("reference"), 6)
    for shard in reversed(range(3)):
        run_shard(run.path, shard, "cpu", standin.make_engine)
    result = depth(run)
    assert np.isfinite(result).all()
    return result


def test_a_worker_killed_in_mid_shard_and_a_corrupt_image(tmp_path, reference, monkeypatch):
    run = make_run(tmp_path, 6)
    (tmp_path / "images" / "img5.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    monkeypatch.setenv(standin.MORTAL, str(tmp_path / "killed"))
    outcome = go(run, make_engine=standin.make_mortal_engine)
    assert (tmp_path / "killed").exists()
    assert outcome.status.complete
    assert not outcome.shard_errors
    assert outcome.status.images_failed == 1
    np.testing.assert_array_equal(depth(run)[:4], reference[:4])
    assert np.isnan(depth(run)[5]).all()
    rows = store.read_metrics(run).to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 5 + ["failed"]
    assert "img5.png" in rows[5]["error"]
    assert not list((run.path / "checkpoints").iterdir())


def test_a_shard_that_always_kills_its_worker_is_reported_and_can_be_redone(tmp_path, reference):
    run = make_run(tmp_path, 6)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        outcome = go(run, make_engine=standin.make_suicidal_engine)
    assert set(outcome.shard_errors) == {1}, outcome.shard_errors
    assert "died" in outcome.shard_errors[1]
    assert outcome.status.shards_done == 2
    assert run_status(run.path).images_left == 2

    assert run_shard(run.path, 1, "cpu", standin.make_engine).fatal is None
    assert run_status(run.path).complete
    np.testing.assert_array_equal(depth(run), reference)

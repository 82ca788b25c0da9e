"""The demo, as a user runs it, gives the figures that README states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gan2shape.jobs.report.results import results_frame
from gan2shape.jobs.run.store import open_run

HEADS = Path(__file__).parents[1] / "examples" / "heads64"


def test_the_demo(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["reconstruct", HEADS, "--model", "heads64", "--out", run, "--workers", 1]
    ended = subprocess.run(
        [sys.executable, "-m", "gan2shape", *map(str, words), "--threads-per-worker", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    results = results_frame(open_run(run))
    assert len(results) == 16
    assert set(results["status"]) == {"done"}
    assert 100 * results["side"].mean() == pytest.approx(0.68, abs=0.01)
    assert results["mad_degrees"].mean() == pytest.approx(13.6, abs=0.1)

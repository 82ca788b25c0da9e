from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest
from rich.console import Console

from gan2shape.jobs.progress import (
    duration,
    images_done,
    run_progress,
    status_table,
    terminal_display,
)
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard_progress import (
    STALE_SECONDS,
    Progress,
    Reporter,
    read_all,
    read_progress,
)
from gan2shape.jobs.run.status import RunStatus, make_status, run_status, time_to_go
from tests.jobs.content import shard_content


def progress(shard=0, fraction=0.5, start=0.0, started=0.0, updated=100.0) -> Progress:
    return Progress(
        shard, 2, "step 1", fraction, start, started, updated, socket.gethostname(), os.getpid()
    )


def test_reporter_writes_once_a_second_and_says_where_it_went_on(tmp_path):
    now = [1000.0]
    report = Reporter(tmp_path / "shard-000003", 3, 4, clock=lambda: now[0])
    report("loading", 0.0, force=True)
    report("step 1", 0.1)
    assert read_progress(tmp_path / "shard-000003").stage == "loading"
    report.resumed_at(0.4)
    now[0] += 1.5
    report("step 2", 0.5)
    found = read_progress(tmp_path / "shard-000003")
    assert (found.shard, found.images, found.stage, found.fraction) == (3, 4, "step 2", 0.5)
    assert found.fraction_at_start == 0.4
    # A tenth of the shard took 1.5 s.
    assert found.seconds_per_shard(1001.5) == pytest.approx(15)


def test_progress_that_does_not_read_is_absent(tmp_path):
    folder = tmp_path / "checkpoints" / "shard-000000"
    folder.mkdir(parents=True)
    assert read_progress(folder) is None
    (folder / "progress.json").write_text('{"shard": 0')
    assert read_progress(folder) is None
    assert read_all(tmp_path) == []


def test_alive_means_the_process_here_and_news_elsewhere():
    assert progress().alive(now=1e9)
    assert not replace(progress(), pid=2**22 + 1).alive(now=100)
    elsewhere = replace(progress(updated=100), host="another machine")
    assert elsewhere.alive(100 + STALE_SECONDS / 2)
    assert not elsewhere.alive(100 + STALE_SECONDS * 2)


def test_time_to_go_by_hand():
    assert time_to_go(0, [], [], 0) == 0
    assert time_to_go(3, [], [10], 0) is None
    # One worker, half done after 50 s, and two more shards: 50 + 200 s.
    assert time_to_go(3, [progress(fraction=0.5)], [], 50) == pytest.approx(250)
    # Two workers share them: 3 - 0.5 - 0.5 shards of 100 s by two.
    pair = [progress(0, 0.5), progress(1, 0.5)]
    assert time_to_go(3, pair, [], 50) == pytest.approx(100)
    # The slowest running shard bounds it from below.
    assert time_to_go(2, [progress(0, 0.9), progress(1, 0.1)], [], 50) == pytest.approx(
        0.9 * (50 / 0.9 + 50 / 0.1) / 2
    )
    # Nothing gained yet: the pace of finished shards.
    assert time_to_go(2, [progress(fraction=0.0)], [30, 50], 1) == pytest.approx(80)
    assert time_to_go(2, [progress(fraction=0.0)], [], 1) is None


def test_status_of_a_run(run):
    arrays, rows = shard_content(run, 0, 0.5)
    rows[0] |= {"status": "failed", "error": "no face"}
    store.commit_shard(run, 0, arrays, rows)
    Reporter(run.checkpoints(1), 1, 2)("step 2", 0.5, force=True)
    status = run_status(run.path)
    assert (status.images, status.images_done, status.images_failed) == (5, 2, 1)
    assert (status.shards_done, status.shards_left, status.images_left) == (1, 2, 3)
    assert [item.stage for item in status.running] == ["step 2"]
    assert status.fraction == pytest.approx((2 + 1) / 5)
    assert not status.complete


def render(renderable) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_what_people_read(run):
    status = make_status(run, {0}, 1, [progress(1)], [])
    text = render(status_table(status))
    assert text.splitlines()[1].split() == ["images", "1", "1", "2", "1"]
    assert "shard 1: step 1, 50%" in text
    assert "time to go" in text
    assert "not running" in render(status_table(replace(status, running=())))
    assert "complete" in render(status_table(replace(status, shards_done=3, running=())))
    assert images_done(status) == "2/5 images done (1 failed)"


def test_lines_for_log_files_are_few():
    console = Console(width=100, force_terminal=False)
    status = RunStatus(4, 0, 0, 2, 0, (), None)
    with console.capture() as capture, terminal_display(console) as display:
        show = run_progress(display.show)
        for _ in range(100):
            show(status)
        for _ in range(100):
            show(replace(status, images_done=4, shards_done=2))
    assert capture.get().splitlines() == ["0/4 images done", "4/4 images done"]


def test_bars_show_images_shards_and_time():
    console = Console(width=120, force_terminal=True, force_interactive=True)
    status = RunStatus(4, 2, 1, 2, 1, (progress(1, 0.5),), 75.0)
    with console.capture() as capture, terminal_display(console) as display:
        run_progress(display.show)(status)
    text = capture.get()
    for part in ("75%", "2/4", "1 failed", "about 1 min 15 s to go", "shard 1: step 1, 50%"):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3700, "1 h 01 min"), (1e5, "1 d 3 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text

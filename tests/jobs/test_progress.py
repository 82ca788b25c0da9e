"""What the terminal shows of tasks: bars for people, few lines for log files."""

from __future__ import annotations

from rich.console import Console

from gan2shape.jobs.progress import below, terminal_display


def said(width: int = 120, *, people: bool, calls: list[tuple]) -> str:
    console = Console(width=width, force_terminal=people, force_interactive=people)
    with console.capture() as capture, terminal_display(console) as display:
        for call in calls:
            display.note(*call) if len(call) == 1 else display.show(*call)
    return capture.get()


def test_log_files_get_a_line_at_the_beginning_and_at_the_end_of_a_task():
    steps = [("a", f"step {n // 50}", n, 100) for n in range(101)]
    others = [("b", "other", n, 10) for n in range(5)]
    lines = said(people=False, calls=[*steps, ("a sentence",), *others]).splitlines()
    assert lines == ["step 0: 0/100", "step 2: 100/100", "a sentence", "other: 0/10"]


def test_a_task_that_begins_again_is_told_again():
    once = [("a", "first", 2, 2), ("a", "first", 2, 2)]
    again = [("a", "second", 0, 3), ("a", "second", 3, 3)]
    lines = said(people=False, calls=[*once, *again]).splitlines()
    assert lines == ["first: 2/2", "second: 0/3", "second: 3/3"]


def test_lines_tell_details_and_the_time_to_go():
    text = said(people=False, calls=[("a", "shards", 0.5, 1.0, 75.0, ["shard 3", "shard 4"])])
    assert text == "shards, about 1 min 15 s to go; shard 3\n"


def test_people_see_bars_side_by_side_and_what_is_inside():
    details = [f"shard {n}" for n in range(10)]
    calls = [
        ("a", "images", 30, 40, 3700.0, details),
        ("b", "losses", 1, 4),
        ("done", "gone", 2, 2),
    ]
    text = said(people=True, calls=calls)
    for part in ("75%", "30/40", "images", "about 1 h 01 min to go", "25%", "losses"):
        assert part in text
    assert "shard 7" in text
    assert "shard 8" not in text
    assert "and 2 more" in text
    assert "gone: 2/2" in text


def test_tasks_of_several_do_not_mix():
    calls: list[tuple] = []
    show = below(lambda *words: calls.append(words), "first")
    show("steps", "step 1", 1, 2)
    assert calls == [("first steps", "first: step 1", 1, 2)]

"""Work directories: whose work they hold, what they keep, and what a killed process leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gan2shape.jobs.training.workdir import (
    Cache,
    differences,
    read_finished,
    read_log,
    read_seconds,
    work_directory,
)
from gan2shape.schemas.errors import UserError


def open_work(path: Path, kind: str = "test", about: Any = None, **fixed: Any) -> Any:
    return work_directory(path, kind, fixed, about or {})


def test_the_same_work_goes_on_and_other_work_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with open_work(out, size=8, betas=(0.9, 1e-5), settings={"seed": 0}) as work:
        key = work.key
        work.checkpoints().save("state", 3)
    with open_work(
        out, about={"images": 9}, size=8, betas=(0.9, 1e-5), settings={"seed": 0}
    ) as work:
        assert work.key == key
        assert work.checkpoints().load("state") == 3
    with (
        pytest.raises(UserError, match=r"holds a training with other seed \(0, not 1\), size \("),
        open_work(out, size=16, betas=(0.9, 1e-5), settings={"seed": 1}),
    ):
        pass
    with pytest.raises(UserError, match=r"other kind \(test, not gan\);"), open_work(out, "gan"):
        pass


def test_what_is_compared_may_be_long_or_missing() -> None:
    before, now = {"a": {"b": [1] * 30, "c": None}, "d": 1}, {"a": {"b": [2] * 30}, "e": 2}
    assert differences(before, now) == ["a.b", "d (1, not None)", "e (None, not 2)"]
    assert differences(before, before) == []


def test_a_mistake_at_the_beginning_leaves_no_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no images"), open_work(out, seed=0):
        raise UserError("no images")
    with open_work(out, seed=1) as work:
        work.checkpoints().save("state", 1)
    with pytest.raises(UserError, match="diverged"), open_work(out, seed=1):
        raise UserError("diverged")
    with pytest.raises(UserError, match=r"seed \(1, not 0\)"), open_work(out, seed=0):
        pass


def test_one_process_at_a_time_and_no_file_in_the_way(tmp_path: Path) -> None:
    with (
        open_work(tmp_path / "out"),
        pytest.raises(UserError, match="Another process works in"),
        open_work(tmp_path / "out"),
    ):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="is a file; name a directory"),
        open_work(tmp_path / "file"),
    ):
        pass
    (tmp_path / "out" / "record.yaml").write_text("- 3")
    with pytest.raises(UserError, match=r"record\.yaml is damaged"), open_work(tmp_path / "out"):
        pass


def test_it_says_how_far_it_went_and_how_long_it_took(tmp_path: Path) -> None:
    assert read_finished(tmp_path) is None
    assert read_seconds(tmp_path) == 0
    with open_work(tmp_path) as work:
        assert work.finished() is None
        work.finish(images=7)
    assert read_finished(tmp_path) == {"images": 7}
    (tmp_path / "seconds").write_text("100.0\n")
    with open_work(tmp_path) as work:
        assert work.finished() == {"images": 7}
    assert read_seconds(tmp_path) >= 100


def test_the_log_goes_on_where_the_work_does(tmp_path: Path) -> None:
    with open_work(tmp_path) as work:
        for images in range(4):
            work.log({"images": images, "loss": {"mean": 1 / 3}})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"images": 4')  # and then it was killed
    assert [row["images"] for row in read_log(tmp_path)] == [0, 1, 2, 3]
    assert read_log(tmp_path)[-1]["loss"]["mean"] == 0.33333
    with open_work(tmp_path) as work:
        work.trim_log(lambda rows: rows[:2])
        work.log({"images": 2})
    assert [row["images"] for row in read_log(tmp_path)] == [0, 1, 2]


def test_what_is_cached_is_made_once_for_each_key_and_again_when_damaged(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path / "cache"), []

    def get(key: int) -> int:
        def make(folder: Path) -> None:
            made.append(key)
            (folder / "value").write_text(str(key))

        return cache.get("part", key, make, lambda folder: int((folder / "value").read_text()))

    assert [get(1), get(1), get(2), get(1)] == [1, 1, 2, 1]
    assert made == [1, 2, 1]
    (value,) = tmp_path.glob("cache/part-*/value")
    value.write_text("")
    assert get(1) == 1
    assert made == [1, 2, 1, 1]

    def fail(folder: Path) -> None:
        (folder / "value").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("part", 3, fail, lambda folder: int((folder / "value").read_text()))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert get(1) == 1
    assert len(made) == 4

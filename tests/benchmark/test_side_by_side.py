"""Trainings side by side on a real Dask cluster: the same networks, in order, and what fails."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gan2shape.benchmark import side_by_side
from gan2shape.benchmark.plan import Plan, Request, Training, make_plan
from gan2shape.benchmark.side_by_side import train_all
from gan2shape.benchmark.trainings import is_trained, networks_file, read_record
from gan2shape.jobs.run.start import Execution
from gan2shape.schemas.errors import UserError
from tests.benchmark import tiny

TWO = Execution("cpu", 2, 1)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train")
    tiny.write_heads(out, range(8))
    return out


def plan(tmp_path: Path, rows: tuple[int, ...], **changes: Any) -> Plan:
    return make_plan(Request(tmp_path / "out", tiny.recipe(**changes), rows=rows))


def trainings(made: Plan) -> list[Training]:
    starts = [row.start for row in made.rows if isinstance(row.start, Training)]
    return list({each.key: each for start in starts for each in start.chain}.values())


def test_they_give_what_they_give_one_by_one(heads: Path, tmp_path: Path) -> None:
    wanted = trainings(plan(tmp_path, (1, 10)))
    names = [each.name for each in wanted]
    assert names == ["supervised", "pretrain", "finetune", "unsup3d", "teach"]
    shown: list[tuple[str, str, int, int]] = []
    notes: list[str] = []

    def show(name: str, stage: str, done: int, total: int, *more: Any) -> None:
        shown.append((name, stage, done, total))

    both, one = tmp_path / "both", tmp_path / "one"
    assert train_all(wanted, heads, both, TWO, show, notes.append)
    assert notes[0] == "5 trainings on 2 workers with 1 thread each"
    assert {name.split(" ")[0] for name, *_ in shown} <= {each.folder for each in wanted}
    assert train_all(wanted, heads, one, tiny.CPU, show, notes.append)
    for each in wanted:
        assert is_trained(both, each)
        assert read_record(both, each.folder).seconds > 0
        assert networks_file(both, each).read_bytes() == networks_file(one, each).read_bytes()
    assert {each.folder for each in wanted} <= {name.split(" ")[0] for name, *_ in shown}
    for name, stage, done, total in shown:
        assert stage.startswith(name.split(" ")[0])
        assert 0 <= done <= total
    assert not train_all(wanted, heads, both, TWO, show, notes.append)


def test_one_that_fails_leaves_the_others_finished(heads: Path, tmp_path: Path) -> None:
    supervised, pretrain, finetune, *_ = trainings(plan(tmp_path, (1, 10)))
    broken = replace(pretrain, limit=0)
    after = replace(finetune, start=broken)
    cache = tmp_path / "cache"
    with pytest.raises(UserError):
        train_all([broken, after, supervised], heads, cache, TWO, lambda *words: None, print)
    assert is_trained(cache, supervised)
    assert not is_trained(cache, broken)
    assert not is_trained(cache, after)


def killed(*args: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_whose_process_is_killed_ends_with_a_sentence(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "train_in_worker", killed)
    wanted = trainings(plan(tmp_path, (1, 6)))
    with pytest.raises(UserError, match=rf"process of {wanted[0].folder} was killed .*--workers 1"):
        train_all(wanted, heads, tmp_path / "cache", TWO, lambda *words: None, print)


def test_one_that_diverges_ends_with_what_a_benchmark_can_change(
    heads: Path, tmp_path: Path
) -> None:
    (training,) = trainings(plan(tmp_path, (1,)))
    wild = training.config.model_copy(update={"learning_rate": 1e5, "images": 400})
    wanted = [replace(training, config=wild)]
    with pytest.raises(UserError, match=f"{wanted[0].folder} diverged; leave out .* --rows"):
        train_all(wanted, heads, tmp_path / "cache", tiny.CPU, lambda *words: None, print)

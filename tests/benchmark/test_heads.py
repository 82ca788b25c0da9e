"""Heads are drawn in pieces, and are there as a whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

import gan2shape.benchmark.heads as heads_module
from gan2shape.benchmark.heads import (
    average_file,
    entries,
    is_complete,
    make_average,
    make_heads,
    read_average,
)
from gan2shape.benchmark.plan import HeadSet
from gan2shape.jobs.report.reference_rows import truths
from gan2shape.pipeline.evaluation.reference_depths import MeanDepth
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig
from tests.benchmark import tiny

FIVE = HeadSet("test", 5, 64)


def nothing(*words: object) -> None:
    """Shows nothing."""


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "PIECE", 2)
    monkeypatch.setattr(heads_module, "write_heads", tiny.write_heads)


def test_an_interrupted_drawing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    most = 2

    def draw(out: Path, seeds: range, *args: Any, **options: Any) -> None:
        if len(drawn) == most:
            raise KeyboardInterrupt
        drawn.append(seeds.start)
        tiny.write_heads(out, seeds, *args, **options)

    monkeypatch.setattr(heads_module, "write_heads", draw)
    folder = tmp_path / "test"
    with pytest.raises(KeyboardInterrupt):
        make_heads(folder, FIVE, nothing)
    assert not folder.exists()
    most = 3
    shown: list[tuple[int, int]] = []
    assert make_heads(folder, FIVE, lambda *words: shown.append(words[2:]))
    assert drawn == [300_000, 300_002, 300_004]
    assert shown == [(5, 5)]
    assert is_complete(folder, FIVE)
    assert [path.name for path in tmp_path.iterdir()] == ["test"]
    for kind in ("image", "depth", "mask", "albedo"):
        assert sorted(int(file.stem) for file in (folder / kind).iterdir()) == list(FIVE.seeds)
    assert pq.read_table(folder / "truth.parquet")["seed"].to_pylist() == list(FIVE.seeds)
    assert yaml.safe_load((folder / "dataset.yaml").read_text())["count"] == 5
    assert not make_heads(folder, FIVE, nothing)
    assert len(drawn) == 3


def test_a_join_cut_short_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "test"
    replace = Path.replace

    def last(path: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", last)
        with pytest.raises(KeyboardInterrupt):
            make_heads(folder, FIVE, nothing)
    assert make_heads(folder, FIVE, nothing)
    assert is_complete(folder, FIVE)


def test_other_heads_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    make_heads(folder, FIVE, nothing)
    for other in (HeadSet("test", 4, 64), HeadSet("val", 5, 64), HeadSet("test", 5, 64, recipe=9)):
        assert not is_complete(folder, other)
        with pytest.raises(UserError, match="test does not hold the"):
            make_heads(folder, other, nothing)
    (folder / "truth.parquet").write_bytes(b"no table")
    assert not is_complete(folder, FIVE)


def test_the_average_depth_is_that_of_the_train_heads(tmp_path: Path) -> None:
    heads = HeadSet("train", 3, 64)
    folder, file = tmp_path / "train", average_file(tmp_path, heads)
    make_heads(folder, heads, nothing)
    assert read_average(file) is None
    assert make_average(file, folder, heads, nothing)
    assert not make_average(file, folder, heads, nothing)
    found = read_average(file)
    assert found is not None
    ((depths, masks),) = truths(entries(folder), CameraConfig())
    assert torch.equal(found, MeanDepth.empty(64).add(depths, masks).result())
    assert file != average_file(tmp_path, HeadSet("train", 4, 64))

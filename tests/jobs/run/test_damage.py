"""Files that go missing or change after their commit: noticed, told in a sentence, mended."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gan2shape.jobs.run import store
from gan2shape.jobs.run.status import run_status
from tests.jobs.content import shard_content

FLIPS = 300


@pytest.fixture
def done(run: store.Run) -> store.Run:
    """All three shards of the run are committed."""
    for shard in range(3):
        store.commit_shard(run, shard, *shard_content(run, shard, 0.5 + shard / 8))
    return run


def files_of(run: store.Run, shard: int) -> list[str]:
    """All files of a shard, its record first."""
    commit = store.committed(run, shard)
    assert commit is not None
    return [f"commits/{shard:06d}.json", *commit.files]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty], ids=["deleted", "cut", "empty"])
def test_a_lost_or_short_file_is_told_and_mended(
    done: store.Run, damage: Callable[[Path], None]
) -> None:
    record, *files = files_of(done, 1)
    metrics = store.read_metrics(done)
    for name in files:
        path = done.path / name
        content = path.read_bytes()
        damage(path)
        (sentence,) = run_status(done.path).damage
        assert name in sentence
        assert f"'gan2shape resume {done.path}'" in sentence
        for read in (
            lambda: store.read_metrics(done),
            lambda: store.read_rows(done.path, "depth", slice(0, 5)),
        ):
            with pytest.raises(store.DamageError) as caught:
                read()
            assert str(caught.value) == sentence
        assert store.missing_shards(done) == [1]
        path.write_bytes(content)  # put back by its owner
        assert store.read_metrics(done).equals(metrics)
    damage(done.path / files[0])
    store.clean(done)
    store.commit_shard(done, 1, *shard_content(done, 1, 0.75))
    store.clean(done)
    assert store.missing_shards(done) == []
    assert store.read_metrics(done)["side"].to_pylist() == [0.5, 0.5, 0.75, 0.75, 0.75]
    assert (store.read_rows(done.path, "depth", [2, 3]) == 0.75).all()
    assert len(list((done.path / "metrics").iterdir())) == 3
    damage(done.path / record)
    assert store.missing_shards(done) == [1]


def test_flipped_bits_are_noticed(done: store.Run) -> None:
    """By `verify` each of them; and a number is right or refused, whatever bit was flipped."""
    names = files_of(done, 1)
    arrays = {spec.name: store.read_rows(done.path, spec.name, [2, 3]) for spec in done.specs()}
    chance = random.Random(0)
    for number in range(FLIPS):
        name = names[number % len(names)]
        path = done.path / name
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(store.DamageError):
            store.read_commit(done, 1, verify=True)
        kind, *rest = name.split("/")
        if kind == "arrays.zarr":
            with suppress(store.DamageError):
                values = store.read_rows(done.path, rest[0], [2, 3])
                np.testing.assert_array_equal(values, arrays[rest[0]])
        else:
            with pytest.raises(store.DamageError, match="resume"):
                store.read_metrics(done)
        path.write_bytes(content)
    assert store.read_commit(done, 1, verify=True) is not None


def test_verified_damage_is_computed_again(done: store.Run) -> None:
    path = done.path / next(name for name in files_of(done, 1) if "/depth/" in name)
    content = bytearray(path.read_bytes())
    content[10] ^= 4
    path.write_bytes(content)
    assert run_status(done.path).damage == ()
    status = run_status(done.path, verify=True)
    assert status.shards_done == 2
    assert "has changed since it was written" in status.damage[0]
    assert f"'gan2shape resume {done.path} --verify'" in status.damage[0]
    store.clean(done, verify=True)
    assert store.missing_shards(done) == [1]
    store.commit_shard(done, 1, *shard_content(done, 1, 0.75))
    assert run_status(done.path, verify=True).damage == ()


def test_lost_metadata_of_arrays_is_mended(done: store.Run) -> None:
    folder = done.path / "arrays.zarr"
    depth = store.read_rows(done.path, "depth", slice(0, 5))
    for damage in (Path.unlink, empty, lambda path: path.write_text("{}")):
        damage(folder / "depth" / "zarr.json")
        with pytest.raises(store.DamageError, match=r"arrays\.zarr/depth.*mends it"):
            store.read_rows(done.path, "depth", [0])
        assert "mends it" in run_status(done.path).damage[0]
        store.clean(done)
        np.testing.assert_array_equal(store.read_rows(done.path, "depth", slice(0, 5)), depth)


def test_another_manifest_is_refused(run: store.Run) -> None:
    file = run.path / "manifest" / "segment-0.parquet"
    content = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(store.RunError, match="0 bytes in place of"):
        store.open_run(run.path)
    file.unlink()
    with pytest.raises(store.RunError, match=r"segment-0\.parquet is missing; put a copy"):
        store.open_run(run.path)
    flipped = bytearray(content)
    flipped[100] ^= 1
    file.write_bytes(flipped)
    opened = store.open_run(run.path)
    for check in (store.read_manifest, lambda run: store.check_segments(run, verify=True)):
        with pytest.raises(store.RunError, match="has changed since"):
            check(opened)


def test_a_record_of_another_run_does_not_count(done: store.Run, tmp_path: Path) -> None:
    records = done.path / "commits"
    shutil.copy(records / "000000.json", records / "000001.json")
    with pytest.raises(store.DamageError, match="belongs to another run"):
        store.read_metrics(done)
    assert store.missing_shards(done) == [1]

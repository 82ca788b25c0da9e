"""The run directory: what is committed is read back, and what is not a run is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import xarray
import yaml

from gan2shape.jobs.run import store
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import FAILED, METRICS_SCHEMA
from tests.jobs.content import LATENT, make_record, shard_content


def part_of(run: store.Run, shard: int) -> Path:
    (part,) = (run.path / "metrics").glob(f"part-{shard:06d}-*.parquet")
    return part


def test_commit_is_read_back(run):
    assert store.missing_shards(run) == [0, 1, 2]
    store.commit_shard(run, 1, *shard_content(run, 1, 0.5))
    assert store.missing_shards(run) == [0, 2]
    table = store.read_metrics(run)
    assert table.schema.names == METRICS_SCHEMA.names
    assert table["row"].to_pylist() == [2, 3]
    assert table["losses"].to_pylist()[0] == [("photometric", 0.5)]
    assert table["mad_degrees"].null_count == 2
    depth = store.read_rows(run.path, "depth", slice(0, 5))
    assert np.isnan(depth[[0, 1, 4]]).all()
    assert (depth[2:4] == 0.5).all()
    assert store.read_rows(run.path, "mask", [0, 2])[:, 0, 0].tolist() == [255, 0]
    units = pq.read_schema(part_of(run, 1)).field("mad_degrees").metadata
    assert units[b"units"] == b"degree"


def test_the_record_tells_what_the_shard_consists_of(run):
    arrays, rows = shard_content(run, 1, 0.5)
    rows[1] |= {"status": FAILED, "seconds_load": 1.0, "seconds_stages": {"step1": 9.0}}
    rows[0] |= {"seconds_load": 0.5, "seconds_inversion": None, "seconds_reconstruction": 2.0}
    store.commit_shard(run, 1, arrays, rows)
    tree = json.loads((run.path / "commits" / "000001.json").read_text())
    assert (tree["run"], tree["first_row"], tree["images"]) == (run.record.config_hash, 2, 2)
    assert (tree["failed"], tree["seconds"]) == (1, 3.5)
    names = {str(part_of(run, 1).relative_to(run.path))}
    for spec in run.specs():
        names.add(f"arrays.zarr/{spec.name}/" + ".".join(["c", "1", *["0"] * len(spec.shape)]))
    assert set(tree["files"]) == names
    for name, file in tree["files"].items():
        assert (run.path / name).stat().st_size == file["size"]


def test_short_last_shard(run):
    store.commit_shard(run, 2, *shard_content(run, 2, 0.5))
    assert store.is_done(run, 2)
    assert (store.read_rows(run.path, "albedo", [4]) == 0.5).all()


def test_a_shard_of_failures_leaves_its_files(run):
    """Else nothing could tell a lost file from one that was never there."""
    plan = run.plan.shard(1)
    arrays = {
        spec.name: np.full((plan.count, *spec.shape), spec.missing, spec.dtype)
        for spec in run.specs()
    }
    store.commit_shard(run, 1, arrays, shard_content(run, 1, 0.5)[1])
    for spec in run.specs():
        (file,) = (run.path / "arrays.zarr" / spec.name).glob("c.1.*")
        assert file.stat().st_size > 0
        values = store.read_rows(run.path, spec.name, [2, 3])
        np.testing.assert_array_equal(values, arrays[spec.name])
    file.unlink()
    with pytest.raises(store.DamageError, match="is missing"):
        store.read_rows(run.path, "depth", [2])


def test_what_is_done_is_not_written_again(run):
    store.commit_shard(run, 1, *shard_content(run, 1, 0.5))
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*") if file.is_file()}
    store.commit_shard(run, 1, *shard_content(run, 1, 0.75))
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (store.read_rows(run.path, "depth", [2, 3]) == 0.5).all()


def test_globs_see_committed_rows_only(run):
    """As DuckDB and Polars read the metrics: without the records."""
    for shard in (0, 2):
        store.commit_shard(run, shard, *shard_content(run, shard, shard))
    leftover = run.path / "metrics" / "part-000001-ffffffffffff.parquet"
    leftover.write_bytes(part_of(run, 0).read_bytes())
    store.clean(run)
    table = pyarrow.dataset.dataset(sorted((run.path / "metrics").glob("*.parquet"))).to_table()
    assert table["row"].to_pylist() == [0, 1, 4]
    assert table["side"].to_pylist() == [0, 0, 2]


def test_xarray_opens_the_arrays(run):
    arrays, rows = shard_content(run, 1, 0.5)
    arrays["depth"][1, 3, 4] = 0.97
    store.commit_shard(run, 1, arrays, rows)
    data = xarray.open_zarr(run.path / "arrays.zarr", consolidated=True)
    assert dict(data.sizes) == {
        "image": 5,
        "y": 32,
        "x": 32,
        "channel": 3,
        "axis": 3,
        "view_parameter": 6,
        "light_parameter": 4,
        "style": LATENT,
    }
    assert data["depth"].dims == ("image", "y", "x")
    assert data["image"].values.tolist() == [0, 1, 2, 3, 4]
    assert float(data["depth"][3, 3, 4]) == np.float32(0.97)
    assert np.isnan(data["depth"][0].values).all()
    for name in data.data_vars:
        assert data[name].attrs["long_name"]
        assert data[name].attrs["units"]
        assert data[name].encoding["chunks"][0] == 1
        assert data[name].encoding["shards"][0] == 2


def test_record_survives_and_its_hash_is_checked(run):
    again = store.open_run(run.path)
    assert again.record == run.record
    text = (run.path / "run.yaml").read_text()
    (run.path / "run.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    with pytest.raises(store.RunError, match="changed by hand"):
        store.open_run(run.path)
    (run.path / "run.yaml").write_text(text.replace("seed: 0", "sede: 0"))
    with pytest.raises(store.RunError, match="damaged"):
        store.open_run(run.path)
    (run.path / "run.yaml").write_text(text[:100])
    with pytest.raises(store.RunError, match="damaged"):
        store.open_run(run.path)


def test_a_run_of_another_format_is_told_apart(run):
    file = run.path / "run.yaml"
    tree = yaml.safe_load(file.read_text()) | {"versions": {"gan2shape": "0.2.0"}}
    del tree["format"]
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(store.RunError, match=r"made by gan2shape 0\.2\.0 in a format"):
        store.open_run(run.path)


def test_a_run_from_before_a_setting_opens_and_keeps_its_hash(run):
    """The run was made when the program did not have `collapse_ratio` yet."""
    record = run.record
    tree = yaml.safe_load(record.dump())
    del tree["config"]["optimization"]["collapse_ratio"]
    older = replace(record, stored=tree["config"])
    assert older.config_hash != record.config_hash
    (run.path / "run.yaml").write_bytes(older.dump())
    store.commit_shard(replace(run, record=older), 1, *shard_content(run, 1, 0.5))

    again = store.open_run(run.path)
    assert again.record.config_hash == older.config_hash
    assert again.record.config == record.config
    assert store.missing_shards(again) == [0, 2]
    text = (run.path / "run.yaml").read_text()
    assert "collapse_ratio" not in text
    (run.path / "run.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    with pytest.raises(store.RunError, match="changed by hand"):
        store.open_run(run.path)


def test_the_hash_is_of_settings_and_weights(run):
    record = make_record()
    others = [
        make_record(seed=1),
        replace(record, gan=store.Weights("gan.bin", "1" * 64)),
        replace(record, lpips=store.Weights("vgg.pt", "1" * 64)),
        replace(record, networks=store.Weights("networks", "1" * 64)),
    ]
    assert len({record.config_hash, *(other.config_hash for other in others)}) == 5
    moved = replace(record, gan=store.Weights("elsewhere/gan.bin", "0" * 64), created="today")
    assert moved.config_hash == record.config_hash
    assert run.record.config_hash == record.config_hash  # whatever the images
    assert make_record(shard_size=4).config_hash == record.config_hash  # and their shards


def test_manifest_of_one_shard(run):
    assert [row["image_id"] for row in store.read_manifest(run, 1)] == ["img2", "img3"]
    assert len(store.read_manifest(run)) == 5
    (segment,) = run.record.segments
    assert (segment.images, segment.shards) == (5, 3)


def test_taken_directories_are_refused(run, tmp_path):
    with pytest.raises(store.RunError, match="resume"):
        store.check_free(run.path)
    with pytest.raises(store.RunError, match="not empty"):
        store.check_free(tmp_path / "images")
    (tmp_path / "file").write_text("")
    with pytest.raises(store.RunError, match="is a file"):
        store.check_free(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    store.check_free(tmp_path / "empty")
    store.check_free(tmp_path / "absent")


CREATE = """
import sys
from pathlib import Path
from tests.jobs.content import new_run
new_run(Path(sys.argv[1]))
"""


def test_what_a_killed_creation_left_is_cleared(run, tmp_path):
    """Without run.yaml it never became a run."""
    path = tmp_path / "killed" / "run"
    process = subprocess.Popen([sys.executable, "-c", CREATE, str(path.parent)])
    while not (path / "arrays.zarr").is_dir():
        assert process.poll() is None
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert not (path / "run.yaml").exists()
    made = store.create_run(path, run.record, store.manifest_table(run))
    assert store.open_run(path).record == made.record
    assert not (path / ".unfinished").exists()


def test_a_folder_that_only_looks_like_a_run_is_left_alone(run, tmp_path):
    """As a run that has lost its record, or a folder of somebody's own checkpoints."""
    mine = tmp_path / "mine" / "checkpoints" / "weights.pt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (run.path / "run.yaml").unlink()
    for path in (tmp_path / "mine", run.path):
        with pytest.raises(store.RunError, match="not empty"):
            store.create_run(path, run.record, store.manifest_table(run))
    assert mine.read_text() == "mine"


def test_a_run_leaves_alone_what_it_finds_beside_itself(run, tmp_path):
    """As another program's temporary files."""
    other = tmp_path / "out" / ".tmp-other" / "file"
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    store.create_run(tmp_path / "out", run.record, store.manifest_table(run))
    assert other.read_text() == "theirs"


def test_absent_run(tmp_path):
    with pytest.raises(store.RunError, match="no run directory"):
        store.open_run(tmp_path)


def test_lock_keeps_a_second_command_out(run):
    with (
        store.locked(run.path),
        pytest.raises(UserError, match="Another gan2shape"),
        store.locked(run.path),
    ):
        pass
    with store.locked(run.path):
        pass


def test_run_yaml_is_for_people_too(run):
    tree = yaml.safe_load((run.path / "run.yaml").read_text())
    assert tree["format"] == 1
    assert tree["config"]["camera"]["size"] == 32
    assert tree["gan"] == {"path": "gan.bin", "sha256": "0" * 64}
    assert tree["config_hash"] == run.record.config_hash
    assert list(tree["segments"][0]["files"]) == ["manifest/segment-0.parquet"]

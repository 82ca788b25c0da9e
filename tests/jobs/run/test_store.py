from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import FAILED, METRICS_SCHEMA
from tests.jobs import standin
from tests.jobs.content import shard_content


def make_record(config=None, images=5) -> store.RunRecord:
    return store.RunRecord(
        config=config or standin.tiny_config(),
        gan=store.Weights("gan.bin", "0" * 64),
        lpips=None,
        images=images,
        latent_size=standin.LATENT,
        manifest_sha256="",
    )


@pytest.fixture
def run(tmp_path) -> store.Run:
    found = scan(str(standin.write_images(tmp_path / "images", 5)))
    return store.create_run(tmp_path / "run", make_record(), found.manifest(2))


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
    units = pq.read_schema(run.part(1)).field("mad_degrees").metadata
    assert units[b"units"] == b"degree"


def test_short_last_shard(run):
    store.commit_shard(run, 2, *shard_content(run, 2, 0.5))
    assert store.is_done(run, 2)
    assert (store.read_rows(run.path, "albedo", [4]) == 0.5).all()


def test_one_file_per_array_and_shard(run):
    for shard in range(3):
        store.commit_shard(run, shard, *shard_content(run, shard, 1))
    files = [p for p in (run.path / "arrays.zarr" / "depth" / "c").rglob("*") if p.is_file()]
    assert len(files) == 3


CRASH = """
    import os, signal, sys
    from pathlib import Path
    from gan2shape.jobs import store
    from tests.jobs.content import shard_content

    def crash(step):
        if step == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    run = store.open_run(Path(sys.argv[1]))
    store.commit_shard(run, 1, *shard_content(run, 1, 0.25), on_step=crash)
"""


@pytest.mark.parametrize("step", ["begin", "region", "part", "renamed"])
def test_a_process_killed_in_the_commit(run, step):
    """Done exactly from the rename on; redoing is right; others' data is untouched."""
    store.commit_shard(run, 0, *shard_content(run, 0, 0.5))
    command = [sys.executable, "-c", textwrap.dedent(CRASH), str(run.path), step]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    ended = subprocess.run(command, env=environment, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL

    assert store.is_done(run, 1) == (step == "renamed")
    assert store.missing_shards(run) == ([2] if step == "renamed" else [1, 2])
    assert store.read_metrics(run)["side"].to_pylist()[:2] == [0.5, 0.5]

    store.clean(run)
    assert len(list((run.path / "metrics").iterdir())) == (2 if step == "renamed" else 1)
    store.commit_shard(run, 1, *shard_content(run, 1, 0.75))
    depth = store.read_rows(run.path, "depth", slice(0, 4))
    assert (depth[:2] == 0.5).all()
    assert (depth[2:] == 0.75).all()


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_empty(path):
    path.write_bytes(b"")


def damage_rows(path):
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def damage_hash(path):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({store.HASH_KEY: b"another"}), path)


def damage_columns(path):
    pq.write_table(pa.table({"row": [2, 3]}), path)


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_empty, damage_rows, damage_hash, damage_columns]
)
def test_a_damaged_part_is_not_done(run, damage):
    store.commit_shard(run, 1, *shard_content(run, 1, 0.5))
    damage(run.part(1))
    assert not store.is_done(run, 1)
    store.commit_shard(run, 1, *shard_content(run, 1, 0.5))
    assert store.is_done(run, 1)


def test_xarray_opens_the_store(run):
    pytest.importorskip("zarr", minversion="3")
    import xarray

    arrays, rows = shard_content(run, 1, 0.5)
    arrays["depth"][1, 3, 4] = 0.97
    store.commit_shard(run, 1, arrays, rows)
    data = xarray.open_zarr(run.path / "arrays.zarr")
    assert dict(data.sizes) == {
        "image": 5,
        "y": 32,
        "x": 32,
        "channel": 3,
        "axis": 3,
        "view_parameter": 6,
        "light_parameter": 4,
        "style": standin.LATENT,
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


def test_a_run_from_before_a_setting_opens_and_keeps_its_hash(run):
    """The run was made when the program did not have `collapse_ratio` yet."""
    record = run.record
    tree = yaml.safe_load(record.dump())
    del tree["config"]["optimization"]["collapse_ratio"]
    older = replace(record, stored=tree["config"])
    assert older.config_hash != record.config_hash
    (run.path / "run.yaml").write_text(older.dump())
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


def test_hash_tells_settings_weights_and_images_apart():
    record = make_record()
    others = [
        replace(record, config=standin.tiny_config(seed=1)),
        replace(record, gan=store.Weights("gan.bin", "1" * 64)),
        replace(record, lpips=store.Weights("vgg.pt", "1" * 64)),
        replace(record, manifest_sha256="1"),
    ]
    assert len({record.config_hash, *(other.config_hash for other in others)}) == 5
    moved = replace(record, gan=store.Weights("elsewhere/gan.bin", "0" * 64), created="today")
    assert moved.config_hash == record.config_hash


def test_manifest_of_one_shard(run):
    assert [row["image_id"] for row in store.read_manifest(run, 1)] == ["img2", "img3"]
    assert len(store.read_manifest(run)) == 5


def test_another_manifest_is_refused(run):
    store.check_manifest(run)
    file = run.path / "manifest.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(store.RunError, match="not the one"):
        store.check_manifest(run)
    file.write_bytes(b"")
    with pytest.raises(store.RunError, match="cannot be read"):
        store.check_manifest(run)


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


def test_what_a_killed_creation_left_is_cleared(run, tmp_path, monkeypatch):
    """Without run.yaml it never became a run."""
    table = pq.read_table(run.path / "manifest.parquet")
    path = tmp_path / "killed"

    def killed(self: store.RunRecord) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.RunRecord, "dump", killed)
        with pytest.raises(KeyboardInterrupt):
            store.create_run(path, run.record, table)
    assert (path / "arrays.zarr").is_dir()
    made = store.create_run(path, run.record, table)
    assert store.open_run(path).record == made.record
    assert not (path / store.UNFINISHED).exists()


def test_a_folder_that_only_looks_like_a_run_is_left_alone(run, tmp_path):
    """As a run that has lost its record, or a folder of somebody's own checkpoints."""
    mine = tmp_path / "mine" / "checkpoints" / "weights.pt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (run.path / "run.yaml").unlink()
    for path in (tmp_path / "mine", run.path):
        with pytest.raises(store.RunError, match="not empty"):
            store.create_run(path, run.record, pq.read_table(run.path / "manifest.parquet"))
    assert mine.read_text() == "mine"


def test_a_run_leaves_alone_what_it_finds_beside_itself(run, tmp_path):
    """As another program's temporary files."""
    other = tmp_path / "out" / ".tmp-other" / "file"
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    store.create_run(tmp_path / "out", run.record, pq.read_table(run.path / "manifest.parquet"))
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


def test_full_disk_in_the_commit_is_one_sentence(run, monkeypatch):
    """The region cannot be written: the shard says so and stays undone."""
    weights = run.path.parent / "gan.bin"
    weights.write_bytes(b"weights")
    gan = standin.load_gan(str(weights))
    record = replace(run.record, gan=store.Weights(str(weights), gan.sha256))
    (run.path / "run.yaml").write_text(record.dump())

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_whole", full)
    outcome = run_shard(run.path, 0, "cpu", standin.make_engine)
    assert "is full" in outcome.fatal
    assert f"gan2shape resume {run.path}" in outcome.fatal
    monkeypatch.undo()
    assert run_shard(run.path, 0, "cpu", standin.make_engine).fatal is None


def test_run_yaml_is_for_people_too(run):
    tree = yaml.safe_load((run.path / "run.yaml").read_text())
    assert tree["config"]["camera"]["size"] == 32
    assert tree["gan"] == {"path": "gan.bin", "sha256": "0" * 64}
    assert tree["config_hash"] == run.record.config_hash


def test_failed_rows_are_counted(run):
    arrays, rows = shard_content(run, 0, 0.5)
    rows[1]["status"] = FAILED
    store.commit_shard(run, 0, arrays, rows)
    assert store.count_failed(store.read_metrics(run)) == 1

"""The task in this process: checkpoints, bad images, and what the result depends on."""

from __future__ import annotations

import shutil
from dataclasses import replace as dataclass_replace

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, prepare
from gan2shape.schemas.errors import UserError
from tests.jobs import standin

CPU = Execution(device="cpu")


def make_run(folder, count=4, config=None, source=None, **request) -> store.Run:
    folder.mkdir(parents=True, exist_ok=True)
    source = source or standin.write_images(folder / "images", count)
    wanted = Request(
        source=str(source),
        gan=standin.write_weights(folder),
        out=folder / "run",
        config=config or standin.tiny_config(),
        spread=False,
        **request,
    )
    return prepare(wanted, CPU, standin.make_engine)[0]


def do_all(run, make_engine=standin.make_engine):
    outcomes = [run_shard(run.path, plan.index, "cpu", make_engine) for plan in run.plan]
    assert all(outcome.fatal is None for outcome in outcomes), outcomes
    return store.read_metrics(run).to_pylist()


def depths(run):
    return store.read_rows(run.path, "depth", slice(0, run.plan.images))


def test_bad_images_are_rows_of_their_own(tmp_path):
    folder = standin.write_images(tmp_path / "images", 4)
    (folder / "img1.png").write_bytes(b"")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "img2.png")
    shutil.copy(folder / "img3.png", folder / f"{standin.BAD}.png")
    config = standin.tiny_config(mask="background", shard_size=6, group_size=3)
    run = make_run(tmp_path, config=config, source=folder)
    rows = {row["image_id"]: row for row in do_all(run)}
    assert rows["img1"]["error"].endswith("is empty (0 bytes).")
    assert "shows no object" in rows["img2"]["error"]
    assert rows[standin.BAD]["error"] == "its samples are all alike"
    good = [row["row"] for row in rows.values() if row["status"] == "done"]
    assert sorted(rows[f"img{i}"]["row"] for i in (0, 3)) == good
    for row in range(5):
        assert np.isfinite(depths(run)[row]).all() == (row in good)
    assert rows["img0"]["seconds_reconstruction"] > 0
    assert rows["img0"]["peak_memory_mb"] > 10
    assert dict(rows["img0"]["losses"])["photometric"] > 0


def test_result_depends_on_the_group_and_not_on_shards_or_their_order(tmp_path):
    small = make_run(tmp_path / "a", 6)
    large = make_run(tmp_path / "b", 6, standin.tiny_config(shard_size=6))
    for shard in (2, 0, 1):
        run_shard(small.path, shard, "cpu", standin.make_engine)
    do_all(large)
    np.testing.assert_array_equal(depths(small), depths(large))
    other = make_run(tmp_path / "c", 6, standin.tiny_config(seed=1))
    do_all(other)
    assert (depths(other) != depths(small)).any()


class StopError(Exception):
    pass


@pytest.mark.parametrize("save", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_going_on_from_any_checkpoint_gives_the_same(tmp_path, monkeypatch, save):
    """Stop after the n-th checkpoint of a shard of two groups, then do it again."""
    config = standin.tiny_config(shard_size=4)
    whole = make_run(tmp_path / "whole", 4, config)
    do_all(whole)
    run = make_run(tmp_path / "cut", 4, config)
    original, calls = Checkpoints.save, []

    def save_and_stop(self, name, state):
        original(self, name, state)
        calls.append(name)
        if len(calls) == save:
            raise StopError

    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    with pytest.raises(StopError):
        do_all(run)
    do_all(run)
    assert len(calls) <= 9  # nothing that was saved is done again
    np.testing.assert_array_equal(depths(run), depths(whole))
    assert not (run.path / "checkpoints" / "shard-000000").exists()


def test_a_damaged_or_foreign_checkpoint_is_ignored(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key")
    assert checkpoints.load("state") is None
    checkpoints.save("state", {"done": 3, "relief": torch.ones(2)})
    assert checkpoints.load("state")["done"] == 3
    assert Checkpoints(tmp_path, "another run").load("state") is None
    file = tmp_path / "state.ckpt"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert checkpoints.load("state") is None
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    file.write_bytes(bytes(flipped))
    assert checkpoints.load("state") is None
    file.write_bytes(b"")
    assert checkpoints.load("state") is None


def test_checkpoints_of_other_images_are_not_taken(tmp_path):
    """An image that has become unreadable since changes its group, which starts anew."""
    run = make_run(tmp_path, 2)
    key_run = make_run(tmp_path / "x", 2)
    assert key_run.record.config_hash != run.record.config_hash  # other paths, other manifest
    folder = run.checkpoints(0)
    from importlib import metadata

    checkpoints = Checkpoints(folder, f"{metadata.version('gan2shape')} {run.record.config_hash}")
    bad = {"ids": ["img0", "imgX"], "latents": torch.zeros(2, standin.LATENT)}
    checkpoints.save("latents", bad)
    checkpoints.save("group-0", {"ids": ["img0"], "nonsense": True})
    assert [row["status"] for row in do_all(run)] == ["done", "done"]


def test_masks(tmp_path):
    folder = standin.write_images(tmp_path / "images", 3)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(masks / "img0.png")
    clear = np.full((32, 32, 4), 90, np.uint8)
    clear[:10, :, 3] = 0
    clear[10:, :, 3] = 255
    Image.fromarray(clear).save(folder / "img1.png")
    run = make_run(tmp_path, 0, standin.tiny_config(mask="given"), folder, masks=str(masks))
    rows = do_all(run)
    found = store.read_rows(run.path, "mask", slice(0, 3))
    np.testing.assert_array_equal(found[0], mask // 255)
    np.testing.assert_array_equal(found[1], clear[..., 3] // 255)  # transparency is a mask
    assert rows[2]["status"] == "failed"
    assert "has no mask" in rows[2]["error"]
    assert (found[2] == 255).all()


def test_ground_truth_is_measured_and_unusable_truth_is_a_note(tmp_path):
    folder = tmp_path / "set"
    standin.write_images(folder / "image", 3)
    (folder / "depth").mkdir()
    Image.fromarray(np.full((32, 32), 1.0, np.float32)).save(folder / "depth" / "img0.tiff")
    (folder / "depth" / "img1.tiff").write_bytes(b"broken")
    rows = do_all(make_run(tmp_path, 0, source=folder))
    assert rows[0]["side"] > 0
    assert rows[1]["status"] == "done"
    assert rows[1]["side"] is None
    assert "img1.tiff" in rows[1]["error"]
    assert rows[2]["side"] is None
    assert rows[2]["error"] is None


def test_given_latents_are_taken_and_checked(tmp_path):
    folder = tmp_path / "set"
    standin.write_images(folder / "image", 3)
    (folder / "latent").mkdir()
    given = torch.arange(standin.LATENT).float()
    torch.save(given, folder / "latent" / "img0.pt")
    torch.save(torch.zeros(3), folder / "latent" / "img1.pt")
    run = make_run(tmp_path, 0, source=folder)
    rows = do_all(run)
    latents = store.read_rows(run.path, "latent", slice(0, 3))
    np.testing.assert_array_equal(latents[0], given)
    assert rows[0]["inversion_l1"] is None
    assert "latent cannot be used" in rows[1]["error"]
    assert rows[2]["inversion_l1"] > 0


def test_latents_in_one_file_are_rows_of_all_images(tmp_path):
    folder = standin.write_images(tmp_path / "images", 5)
    given = torch.arange(5 * standin.LATENT).float().reshape(5, -1)
    torch.save(given, tmp_path / "all.pt")
    run = make_run(tmp_path, 0, source=folder, latents=str(tmp_path / "all.pt"))
    (tmp_path / "all.pt").unlink()  # the run keeps its own copy
    do_all(run)
    np.testing.assert_array_equal(store.read_rows(run.path, "latent", slice(0, 5)), given)

    again = tmp_path / "again"
    run = make_run(again, 0, source=folder, latents=str(run.path))
    do_all(run)
    np.testing.assert_array_equal(store.read_rows(run.path, "latent", slice(0, 5)), given)


def test_changed_weights_stop_the_run(tmp_path):
    run = make_run(tmp_path, 2)
    (tmp_path / "gan.bin").write_bytes(b"others")
    from gan2shape.jobs.run import shard

    shard._gan.cache_clear()
    outcome = run_shard(run.path, 0, "cpu", standin.make_engine)
    assert "not those that the run began with" in outcome.fatal
    assert not store.is_done(run, 0)


def test_a_worker_without_the_run_directory_says_so(tmp_path):
    outcome = run_shard(tmp_path / "absent", 0, "cpu", standin.make_engine)
    assert "disk that all workers share" in outcome.fatal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gan": "absent.pt"}, "no weights file"),
        ({"config": standin.tiny_config(**{"camera.size": 64})}, "camera.size=32"),
        ({"config": standin.tiny_config(mask="given")}, "--masks"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(tmp_path, change, message):
    request = Request(
        source=str(standin.write_images(tmp_path / "images", 1)),
        gan=standin.write_weights(tmp_path),
        out=tmp_path / "run",
        config=standin.tiny_config(),
    )
    with pytest.raises(UserError, match=message):
        prepare(dataclass_replace(request, **change), CPU, standin.make_engine)
    assert not (tmp_path / "run").exists()


def test_groups_are_of_nearly_one_size(tmp_path):
    config = standin.tiny_config(group_size=4, shard_size=8)
    for count, sizes in ((3, [3]), (5, [3, 2]), (9, [3, 3, 3]), (12, [4, 4, 4])):
        run = make_run(tmp_path / str(count), count, config)
        groups = [bounds for plan in run.plan for bounds in plan.groups]
        assert [stop - start for start, stop in groups] == sizes
        assert all(plan.stop - plan.start <= 8 for plan in run.plan)

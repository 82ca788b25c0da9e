"""The task in this process: bad images, and what the result depends on."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Request, prepare
from gan2shape.schemas.errors import UserError
from tests.jobs import tiny
from tests.jobs.tiny import array, do_all, make_forward, make_run


def test_bad_images_are_rows_of_their_own(tmp_path):
    folder = tiny.write_images(tmp_path / "images", 4)
    (folder / "img1.png").write_bytes(b"")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "img2.png")
    config = tiny.forward(shard_size=4)
    run = make_forward(tmp_path, source=str(folder), config=config)
    rows = do_all(run)
    assert rows[1]["error"].endswith("is empty (0 bytes).")
    assert "shows no object" in rows[2]["error"]
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "done"]
    for row in range(4):
        assert np.isfinite(array(run, "depth")[row]).all() == (row in (0, 3))
        assert (array(run, "mask")[row] == 255).all() == (row not in (0, 3))
    assert rows[0]["seconds_reconstruction"] > 0
    assert rows[0]["peak_memory_mb"] > 10
    assert dict(rows[0]["losses"])["photometric"] > 0
    commit = store.committed(run, 0)
    assert commit is not None
    assert (commit.images, commit.failed) == (4, 2)
    assert commit.seconds > rows[0]["seconds_reconstruction"]


def test_images_that_the_optimisation_gives_up(tmp_path):
    """No projected samples vary as much as these settings want."""
    run = make_run(tmp_path, 2, config=tiny.settings(optimization__collapse_ratio=1.0))
    rows = do_all(run)
    assert [row["status"] for row in rows] == ["failed"] * 2
    assert all(row["error"] for row in rows)
    assert np.isnan(array(run, "depth")).all()


def test_result_depends_on_the_group_and_not_on_shards_or_their_order(tmp_path):
    small = make_run(tmp_path / "a", 4)
    large = make_run(tmp_path / "b", 4, config=tiny.settings(shard_size=4))
    for shard in (1, 0):
        run_shard(small.path, shard, "cpu")
    do_all(large)
    for spec in small.specs():
        np.testing.assert_array_equal(array(small, spec.name), array(large, spec.name))
    other = make_run(tmp_path / "c", 2, config=tiny.settings(seed=1))
    do_all(other)
    assert (array(other, "depth") != array(small, "depth")[:2]).any()


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


def test_what_a_killed_worker_left_is_swept(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key")
    checkpoints.save("state", {})
    (tmp_path / ".tmp-1-state.ckpt").touch()
    (tmp_path / ".tmp-2" / "depth").mkdir(parents=True)
    checkpoints.sweep()
    assert [file.name for file in tmp_path.iterdir()] == ["state.ckpt"]


def test_checkpoints_of_other_images_are_not_taken(tmp_path):
    """An image that has become unreadable since changes its group, which starts anew."""
    run = make_run(tmp_path, 2)
    key = f"{metadata.version('gan2shape')} {run.record.config_hash}"
    checkpoints = Checkpoints(run.checkpoints(0), key)
    bad = {"ids": ["img0", "imgX"], "latents": torch.zeros(2, tiny.LATENT)}
    checkpoints.save("latents", bad)
    checkpoints.save("group-0", {"ids": ["img0"], "nonsense": True})
    assert [row["status"] for row in do_all(run)] == ["done", "done"]


def test_masks(tmp_path):
    folder = tiny.write_images(tmp_path / "images", 3)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(masks / "img0.png")
    clear = np.full((32, 32, 4), 90, np.uint8)
    clear[:10, :, 3] = 0
    clear[10:, :, 3] = 255
    Image.fromarray(clear).save(folder / "img1.png")
    config = tiny.forward(mask="given")
    run = make_forward(tmp_path, source=str(folder), config=config, masks=str(masks))
    rows = do_all(run)
    found = array(run, "mask")
    # The mask of the results leaves out what the shape does not cover.
    assert (found[0] <= mask // 255).all()
    assert found[0].sum() > 0.5 * (mask // 255).sum()
    assert (found[1] <= clear[..., 3] // 255).all()  # transparency is a mask
    assert found[1].sum() > 0.5 * (clear[..., 3] // 255).sum()
    assert rows[2]["status"] == "failed"
    assert "has no mask" in rows[2]["error"]
    assert (found[2] == 255).all()


def test_ground_truth_is_measured_and_unusable_truth_is_a_note(tmp_path):
    folder = tmp_path / "set"
    tiny.write_images(folder / "image", 3)
    (folder / "depth").mkdir()
    depths = sorted((tiny.HEADS / "depth").iterdir())
    shutil.copy(depths[0], folder / "depth" / "img0.tiff")
    (folder / "depth" / "img1.tiff").write_bytes(b"broken")
    rows = do_all(make_forward(tmp_path, source=str(folder)))
    assert rows[0]["side"] > 0
    assert 0 < rows[0]["mad_degrees"] < 180
    assert rows[1]["status"] == "done"
    assert rows[1]["side"] is None
    assert "img1.tiff" in rows[1]["error"]
    assert rows[2]["side"] is None
    assert rows[2]["error"] is None


def test_given_latents_are_taken_and_checked_and_others_found(tmp_path):
    folder = tmp_path / "set"
    tiny.write_images(folder / "image", 3)
    (folder / "latent").mkdir()
    given = torch.linspace(-1, 1, tiny.LATENT)
    torch.save(given, folder / "latent" / "img0.pt")
    torch.save(torch.zeros(3), folder / "latent" / "img1.pt")
    run = make_run(tmp_path, source=str(folder), config=tiny.settings(group_size=3, shard_size=3))
    rows = do_all(run)
    latents = array(run, "latent")
    np.testing.assert_array_equal(latents[0], given)
    assert rows[0]["inversion_l1"] is None
    assert "latent cannot be used" in rows[1]["error"]
    assert rows[2]["inversion_l1"] > 0
    assert rows[2]["seconds_inversion"] > 0
    assert np.isfinite(latents[2]).all()


def test_latents_in_one_file_are_rows_of_all_images(tmp_path):
    folder = tiny.write_images(tmp_path / "images", 2)
    given = torch.arange(2 * tiny.LATENT).float().reshape(2, -1) / 1000
    torch.save(given, tmp_path / "all.pt")
    run = make_run(tmp_path, source=str(folder), latents=str(tmp_path / "all.pt"))
    (tmp_path / "all.pt").unlink()  # the run keeps its own copy
    do_all(run)
    np.testing.assert_array_equal(array(run, "latent"), given)

    again = make_run(tmp_path / "again", source=str(folder), latents=str(run.path))
    latents = store.read_latents(again, again.plan.shard(0))
    np.testing.assert_array_equal(latents, given)
    file = again.path / "latents" / "segment-0.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(store.DamageError, match=r"segment-0\.npy has 2172 bytes in place of 2176"):
        store.open_run(again.path)


def test_changed_weights_stop_the_run(tmp_path):
    run = make_forward(tmp_path, 2)
    tiny.networks(tmp_path, seed=1)
    outcome = run_shard(run.path, 0, "cpu")
    assert "not those that the run began with" in outcome.fatal
    assert not store.is_done(run, 0)


def test_a_worker_without_the_run_directory_says_so(tmp_path):
    outcome = run_shard(tmp_path / "absent", 0, "cpu")
    assert "disk that all workers share" in outcome.fatal


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path):
    run = make_forward(tmp_path, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        outcome = run_shard(run.path, 0, "cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "is not taking files as large as these" in outcome.fatal
    assert f"gan2shape resume {run.path}" in outcome.fatal
    assert not store.is_done(run, 0)
    assert run_shard(run.path, 0, "cpu").fatal is None
    assert store.is_done(run, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gan": "absent.pt"}, r"absent\.pt"),
        ({"config": tiny.settings(camera__size=128)}, "camera.size=64"),
        ({"config": tiny.settings(mask="given")}, "--masks"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(tmp_path, change, message):
    request = Request(
        source=str(tiny.write_images(tmp_path / "images", 1)),
        gan="heads64",
        out=tmp_path / "run",
        config=tiny.settings(),
    )
    with pytest.raises(UserError, match=message):
        prepare(replace(request, **change), tiny.CPU)
    assert not (tmp_path / "run").exists()

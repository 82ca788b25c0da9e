"""Runs that start from trained networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan2shape.jobs.inputs.images import load_image
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import check_weights
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig, NetworkConfig
from tests.jobs import tiny
from tests.jobs.tiny import array, do_all, make_forward, make_run


def test_a_forward_pass_is_what_the_networks_make_of_the_images(tmp_path: Path) -> None:
    run = make_forward(tmp_path, 3)
    rows = do_all(run)
    assert [row["status"] for row in rows] == ["done"] * 3
    assert [row["inversion_l1"] for row in rows] == [None] * 3
    assert np.isnan(array(run, "latent")).all()
    pixels = [
        torch.from_numpy(load_image(row["uri"], tiny.SIZE).pixels)
        for row in store.read_manifest(run)
    ]
    networks = load_networks(tmp_path / "networks.safetensors").shape_networks()
    with torch.no_grad():
        wanted = networks.depth(torch.stack(pixels).permute(0, 3, 1, 2).contiguous() * 2 - 1)
    depth = array(run, "depth")
    np.testing.assert_allclose(depth, wanted, atol=1e-6)
    assert np.ptp(depth) > 0
    normals = np.linalg.norm(array(run, "normal").astype(np.float32), axis=-1)
    np.testing.assert_allclose(normals, 1, atol=2e-3)


def test_networks_are_recorded_and_decide_the_hash(tmp_path: Path) -> None:
    run = make_forward(tmp_path, config=tiny.forward(networks__width=32))
    record = store.open_run(run.path).record
    assert record == run.record
    assert record.networks is not None
    assert Path(record.networks.path) == tmp_path / "networks.safetensors"
    assert record.config.networks == NetworkConfig(width=8)  # the file's, not the preset's
    check_weights(run)

    without = make_run(tmp_path, out=tmp_path / "without")
    assert without.record.networks is None
    same = replace(without.record, config=record.config)
    assert record.config_hash != same.config_hash


def test_networks_are_where_the_optimisation_starts(tmp_path: Path) -> None:
    """A cycle that looks at single images alone needs no latents either."""
    cycles = [{"single_image_passes": 1}]
    config = tiny.forward(optimization__cycles=cycles, optimization__learning_rates={"depth": 1e-9})
    tuned = make_forward(tmp_path / "tuned", 2, config=config)
    taken = make_forward(tmp_path / "taken", 2)
    rows = do_all(tuned)
    do_all(taken)
    assert [row["status"] for row in rows] == ["done"] * 2
    assert [row["inversion_l1"] for row in rows] == [None] * 2
    assert np.isnan(array(tuned, "latent")).all()
    np.testing.assert_allclose(array(tuned, "depth"), array(taken, "depth"), atol=1e-3)
    assert (array(tuned, "depth") != array(taken, "depth")).any()


def test_other_networks_in_their_place_stop_the_run(tmp_path: Path) -> None:
    run = make_forward(tmp_path)
    tiny.networks(tmp_path, seed=1)
    with pytest.raises(UserError, match="are not those that"):
        check_weights(run)
    outcome = run_shard(run.path, 0, "cpu")
    assert "not those that the run began with" in (outcome.fatal or "")
    assert not store.is_done(run, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan_sha256": "0" * 64}, "another GAN"),
        ({"camera": CameraConfig(size=32, fov_degrees=20)}, "camera.fov_degrees=20.0"),
    ],
)
def test_networks_that_do_not_fit_are_found_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = Path(tiny.networks(tmp_path))
    file.write_bytes(networks_bytes(replace(load_networks(file), **changes)))
    with pytest.raises(UserError, match=message):
        make_run(tmp_path, config=tiny.forward(), networks=str(file))
    assert not (tmp_path / "run").exists()


def test_without_networks_something_must_be_fitted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing would be fitted; give trained networks"):
        make_run(tmp_path, config=tiny.forward())
    assert not (tmp_path / "run").exists()

"""Runs that start from pretrained networks; the optimisation is the stand-in's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gan2shape.jobs.run import shard, store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, check_weights, prepare
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig, NetworkConfig
from tests.jobs import standin
from tests.networks import tiny_networks


def make_request(folder: Path, **changes: Any) -> Request:
    request = Request(
        source=str(standin.write_images(folder / "images", 2)),
        gan=standin.write_weights(folder),
        out=folder / "run",
        config=standin.tiny_config(**{"networks.width": 32}),
        networks=standin.write_networks(folder),
        spread=False,
    )
    return replace(request, **changes)


def make_run(folder: Path, **changes: Any) -> store.Run:
    return prepare(make_request(folder, **changes), Execution("cpu"), standin.make_engine)[0]


def test_networks_are_recorded_and_reach_the_optimisation(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record = store.open_run(run.path).record
    assert record == run.record
    assert record.networks is not None
    assert Path(record.networks.path) == tmp_path / "networks.safetensors"
    assert record.config.networks == NetworkConfig(width=8)  # the file's, not the preset's
    check_weights(run, standin.make_engine)

    without = make_run(tmp_path, networks=None, out=tmp_path / "without")
    assert without.record.config.networks.width == 32
    same = replace(without.record, config=record.config)
    assert record.config_hash != same.config_hash

    seen: list[TrainedNetworks] = []

    def make_engine() -> Any:
        def reconstruct(*args: Any, pretrained: Any, **options: Any) -> Any:
            seen.append(pretrained)
            return standin.reconstruct(*args, pretrained=pretrained, **options)

        return replace(standin.make_engine(), reconstruct=reconstruct)

    assert run_shard(run.path, 0, "cpu", make_engine).fatal is None
    assert [networks.sha256 for networks in seen] == [record.networks.sha256]


def test_other_networks_in_their_place_stop_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    parameters = tiny_networks("", standin.LATENT, standin.SIZE).parameters
    standin.write_networks(tmp_path, parameters={k: v + 1 for k, v in parameters.items()})
    with pytest.raises(UserError, match="are not those that"):
        check_weights(run, standin.make_engine)
    shard._networks.cache_clear()
    outcome = run_shard(run.path, 0, "cpu", standin.make_engine)
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
    request = make_request(tmp_path)
    standin.write_networks(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        prepare(request, Execution("cpu"), standin.make_engine)
    assert not request.out.exists()


def test_a_record_from_before_there_were_networks_opens(tmp_path: Path) -> None:
    run = make_run(tmp_path, networks=None)
    file = run.path / "run.yaml"
    tree = yaml.safe_load(file.read_text())
    assert tree.pop("networks", "absent") is None
    file.write_text(yaml.safe_dump(tree))
    assert store.open_run(run.path).record == run.record


FORWARD = {"optimization.cycles": [], "shard_size": 4}


@pytest.mark.parametrize("cycles", [[], [{"single_image_passes": 2}]])
def test_without_projection_no_latents_are_looked_for(cycles: list[Any], tmp_path: Path) -> None:
    config = standin.tiny_config(**FORWARD | {"optimization.cycles": cycles})
    request = make_request(tmp_path, config=config)
    standin.write_images(tmp_path / "images", 3)

    def make_engine() -> Any:
        def invert(*args: Any, **options: Any) -> Any:
            raise AssertionError("nothing needs latents")

        return replace(standin.make_engine(), invert=invert)

    run, _ = prepare(request, Execution("cpu"), make_engine)
    assert run_shard(run.path, 0, "cpu", make_engine).fatal is None
    rows = store.read_metrics(run).to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 3
    assert [row["inversion_l1"] for row in rows] == [None] * 3
    assert np.isnan(store.read_rows(run.path, "latent", slice(0, 3))).all()
    assert np.isfinite(store.read_rows(run.path, "depth", slice(0, 3))).all()


def test_without_networks_something_must_be_fitted(tmp_path: Path) -> None:
    config = standin.tiny_config(**FORWARD)
    with pytest.raises(UserError, match="nothing would be fitted; give trained networks"):
        make_run(tmp_path, config=config, networks=None)
    assert not (tmp_path / "run").exists()

"""The task with the real pipeline: a small GAN, few iterations, every part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.inputs.images import load_image
from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from gan2shape.jobs.run.start import Execution, Request, prepare
from gan2shape.pipeline.networks.trained import load_networks, networks_bytes
from gan2shape.pipeline.stylegan2.checkpoint import load_gan
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

SETTINGS: dict[str, Any] = {
    "mask": "background",
    "networks.width": 8,
    "ellipsoid.iterations": 4,
    "optimization.cycles": [{"step1": 2, "step2": 2, "step3": 2}],
    "optimization.batch": 4,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 4,
    "optimization.collapse_ratio": 0.0,
    "inversion.iterations": 2,
    "group_size": 2,
    "shard_size": 4,
}


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Three of the GAN's own images with made-up ground truth, and a file that is no image."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("image", "depth"):
        (folder / name).mkdir()
    generator = load_gan("heads64").generator
    noise = torch.randn(3, generator.style_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        images = generator(generator.mapping(noise)).clamp(-1, 1)
    for i, image in enumerate(images):
        pixels = ((image.permute(1, 2, 0) + 1) * 127.5).byte().numpy()
        Image.fromarray(pixels).save(folder / "image" / f"{i}.png")
        y, x = np.mgrid[-1:1:64j, -1:1:64j]
        depth = 0.95 + 0.1 * np.minimum(x**2 + y**2, 1)
        Image.fromarray(depth.astype(np.float32)).save(folder / "depth" / f"{i}.tiff")
    (folder / "image" / "3.png").write_bytes(b"no image")
    return folder


def make_run(
    source: Path, out: Path, config: RunConfig | None = None, networks: str | None = None
) -> store.Run:
    config = config or load_settings("heads", "paper", overrides=SETTINGS)
    request = Request(str(source), "heads64", out, config, networks=networks, spread=False)
    return prepare(request, Execution(device="cpu"))[0]


def test_a_shard_and_going_on_from_its_real_checkpoints(source, tmp_path, monkeypatch):
    whole = make_run(source, tmp_path / "whole")
    outcome = run_shard(whole.path, 0, "cpu")
    assert (outcome.fatal, outcome.images, outcome.failed) == (None, 4, 1)
    rows = store.read_metrics(whole).to_pylist()
    for row in rows[:3]:
        assert row["status"] == "done", row["error"]
        assert 0 < row["side"] < 0.2
        assert 0 < row["mad_degrees"] < 180
        assert row["inversion_l1"] > 0
        assert row["seconds_reconstruction"] > 0
        assert np.isfinite([value for _, value in row["losses"]]).all()
    assert "not an image" in rows[3]["error"]
    arrays = {
        spec.name: store.read_rows(whole.path, spec.name, slice(0, 4)) for spec in whole.specs()
    }
    for name, values in arrays.items():
        if name != "mask":
            assert np.isfinite(values[:3].astype(np.float32)).all(), name
            assert np.isnan(values[3].astype(np.float32)).all(), name
    np.testing.assert_allclose(
        np.linalg.norm(arrays["normal"][:3].astype(np.float32), axis=-1), 1, atol=2e-3
    )

    original, calls = Checkpoints.save, []

    def save_and_stop(self, name, state):
        original(self, name, state)
        calls.append(name)
        if len(calls) in (3, 6):  # within the first group, then between the groups
            raise StopError

    cut = make_run(source, tmp_path / "cut")
    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    for _ in range(2):
        with pytest.raises(StopError):
            run_shard(cut.path, 0, "cpu")
    assert not store.is_done(cut, 0)
    assert run_shard(cut.path, 0, "cpu").fatal is None
    assert calls[:6] == ["latents", "state", "state", "state", "state", "group-0"]
    for name, values in arrays.items():
        again = store.read_rows(cut.path, name, slice(0, 4))
        np.testing.assert_array_equal(again, values, err_msg=name)


def test_a_forward_pass_of_pretrained_networks(source, tmp_path):
    gan = load_gan("heads64")
    pretrained = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    file = tmp_path / "networks.safetensors"
    file.write_bytes(networks_bytes(pretrained))
    config = load_settings("heads", "forward", overrides={"precision": "float32"})
    run = make_run(source, tmp_path / "run", config, str(file))
    assert run_shard(run.path, 0, "cpu").fatal is None
    rows = store.read_metrics(run).to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 3 + ["failed"]
    assert all(0 < row["side"] < 0.2 and row["inversion_l1"] is None for row in rows[:3])
    assert np.isnan(store.read_rows(run.path, "latent", slice(0, 4))).all()
    images = torch.stack(
        [
            torch.from_numpy(load_image(row["uri"], 64).pixels)
            for row in store.read_manifest(run)[:3]
        ]
    )
    networks = load_networks(file).shape_networks()
    with torch.no_grad():
        wanted = networks.depth(images.permute(0, 3, 1, 2).contiguous() * 2 - 1)
    depth = store.read_rows(run.path, "depth", slice(0, 3))
    np.testing.assert_allclose(depth, wanted, atol=1e-6)
    assert np.ptp(depth) > 0

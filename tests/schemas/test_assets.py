"""Packaged files go by their category's name, others by their path."""

from __future__ import annotations

from pathlib import Path

from gan2shape.schemas.packaged import GAN_FILE, asset_names, asset_path


def test_names_and_paths() -> None:
    assert "heads64" in asset_names(GAN_FILE)
    packaged = asset_path("heads64", GAN_FILE)
    assert packaged.is_file()
    assert packaged.parts[-3:] == ("assets", "heads64", GAN_FILE)
    assert asset_path("folder/mine.safetensors", GAN_FILE) == Path("folder/mine.safetensors")


def test_a_category_has_only_the_files_that_come_with_it() -> None:
    assert asset_names("absent.yaml") == []
    assert asset_path("heads64", "absent.yaml") == Path("heads64")

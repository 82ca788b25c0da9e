"""Files of packaged models go by the model's name, others by their path."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan2shape.schemas.packaged import (
    GAN_FILE,
    JOINT_FILE,
    MODEL_FILE,
    NETWORKS_FILE,
    asset_names,
    asset_path,
)


def test_names_and_paths() -> None:
    assert "heads64" in asset_names() == asset_names(GAN_FILE)
    packaged = asset_path("heads64", GAN_FILE)
    assert packaged.is_file()
    assert packaged.parts[-3:] == ("assets", "heads64", GAN_FILE)
    assert asset_path(f"heads64/{JOINT_FILE}", NETWORKS_FILE) == packaged.parent / JOINT_FILE
    assert asset_path("folder/mine.safetensors", GAN_FILE) == Path("folder/mine.safetensors")
    assert asset_names("absent.yaml") == []


def test_a_folder_of_the_user_goes_before_a_file_of_a_packaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "heads64" / "own.safetensors"
    own.parent.mkdir()
    own.touch()
    monkeypatch.chdir(tmp_path)
    assert asset_path("heads64/own.safetensors", GAN_FILE) == Path("heads64/own.safetensors")
    assert asset_path("heads64", GAN_FILE).is_file()  # the packaged one's


def test_the_folder_of_a_model_stands_for_its_files(tmp_path: Path) -> None:
    assert asset_path(tmp_path, GAN_FILE) == tmp_path
    (tmp_path / MODEL_FILE).touch()
    assert asset_path(tmp_path, GAN_FILE) == tmp_path / GAN_FILE

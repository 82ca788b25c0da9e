"""LPIPS against a plain reading of its definition, with random weights of the right shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.perceptual.lpips import load_lpips
from gan2shape.pipeline.stylegan2 import CheckpointError

State = dict[str, Tensor]
SLICES = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
WIDTHS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


def weights(head: str = "lin{}") -> State:
    draw = torch.Generator().manual_seed(0)
    state: State = {
        "scaling_layer.shift": torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1),
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1),
    }
    inputs = 3
    for number, layers in SLICES.items():
        width = WIDTHS[number]
        for layer in layers:
            name = f"net.slice{number}.{layer}"
            spread = (2 / (9 * inputs)) ** 0.5
            state[f"{name}.weight"] = torch.randn(width, inputs, 3, 3, generator=draw) * spread
            state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=draw)
            inputs = width
        name = head.format(number - 1)
        state[f"{name}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=draw)
    return state


def distance_map(a: Tensor, b: Tensor, state: State) -> list[Tensor]:
    """Per layer, (B, H, W), straight from the definition."""
    maps = []
    x, y = ((v - state["scaling_layer.shift"]) / state["scaling_layer.scale"] for v in (a, b))
    for number, layers in SLICES.items():
        if number > 1:
            x, y = (functional.max_pool2d(v, 2, 2) for v in (x, y))
        for layer in layers:
            name = f"net.slice{number}.{layer}"
            kernel, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            x, y = (functional.conv2d(v, kernel, bias, padding=1).relu() for v in (x, y))
        unit = [v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (x, y)]
        gap = (unit[0] - unit[1]).square()
        maps.append(functional.conv2d(gap, state[f"lin{number - 1}.model.1.weight"])[:, 0])
    return maps


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips.pt"
    torch.save(weights(), path)
    return path


def pictures() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    a = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    b = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    return a, b


def test_equals_the_definition_per_image(file: Path) -> None:
    network = load_lpips(file)
    a, b = pictures()
    expected = torch.stack([m.mean((1, 2)) for m in distance_map(a, b, weights())]).sum(0)
    torch.testing.assert_close(network(a, b), expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs() > 1e-3
    assert torch.equal(network(a, a), torch.zeros(2))


def test_masks_weigh_the_pixels(file: Path) -> None:
    network = load_lpips(file)
    a, b = pictures()
    mask = torch.zeros(2, 32, 32)
    mask[:, :16] = 1
    expected = torch.stack(
        [m[:, : m.shape[1] // 2].mean((1, 2)) for m in distance_map(a, b, weights())]
    ).sum(0)
    torch.testing.assert_close(network(a, b, mask), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(a, b, torch.ones(2, 32, 32)), network(a, b))
    assert torch.isfinite(network(a, b, torch.zeros(2, 32, 32))).all()


def test_gradients_are_finite_also_where_all_features_vanish(file: Path) -> None:
    network = load_lpips(file)
    with torch.no_grad():
        for layers in network.slices:
            layers[-1].bias.fill_(-100.0)
    a, b = (x.requires_grad_() for x in pictures())
    network(a, b).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_other_names_and_formats(file: Path, tmp_path: Path) -> None:
    a, b = pictures()
    expected = load_lpips(file)(a, b)
    torch.save({f"module.{k}": v for k, v in weights("lins.{}").items()}, tmp_path / "other.pth")
    save_file(weights(), tmp_path / "other.safetensors")
    for name in ("other.pth", "other.safetensors"):
        assert torch.equal(load_lpips(tmp_path / name)(a, b), expected)


def _changed(key: str, value: Tensor | None) -> State:
    state = weights()
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

"""LPIPS against a plain reading of its definition, with random weights of the right shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.jobs.weights.lpips_file import load_lpips

State = dict[str, Tensor]
SLICES = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
WIDTHS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


def weights() -> State:
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
        state[f"lin{number - 1}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=draw)
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

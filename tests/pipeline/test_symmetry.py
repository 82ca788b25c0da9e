"""The halves of a symmetric object: alike under its true shape, view and light, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.camera import Camera
from gan2shape.pipeline.canonical import Canonical
from gan2shape.pipeline.symmetry import asymmetry
from gan2shape.schemas.config import CameraConfig
from tests.pipeline.shapes import depth_map, symmetric_albedo

CAMERA = Camera.from_config(CameraConfig(size=64))
LIGHT = torch.tensor([[-0.2, 0.4, 0.6, 0.1]])
VIEW = torch.tensor([[0.05, 0.3, 0.05, 0.003, 0.0, 0.0]])
ALL = torch.ones(1, CAMERA.size, CAMERA.size)


def dome(relief: float = 1.0) -> Canonical:
    """A symmetric shape, its depths `relief` times as far from the plane behind it."""
    depth = depth_map("bump", CAMERA, 1).float()
    depth = (depth + depth.flip(-1)) / 2
    return Canonical.of(1 + relief * (depth - 1), symmetric_albedo(CAMERA), CAMERA)


def measured(
    shape: Canonical, view: Tensor = VIEW, light: Tensor = LIGHT, masks: Tensor = ALL
) -> Tensor:
    """Of the input that shows the true shape under VIEW and LIGHT."""
    seen = dome().render(VIEW, LIGHT, CAMERA)
    return asymmetry(shape, view, light, seen.image, masks * seen.mask, CAMERA)


def with_one(vector: Tensor, place: int, value: float) -> Tensor:
    changed = vector.clone()
    changed[0, place] = value
    return changed


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({"shape": dome(0.6)}, 1.5),
        ({"shape": dome(1.4)}, 1.5),
        ({"view": with_one(VIEW, 1, 0.2)}, 1.5),
        ({"view": with_one(VIEW, 1, 0.4)}, 1.5),
        ({"view": with_one(VIEW, 2, -0.05)}, 1.5),
        ({"light": with_one(LIGHT, 2, 0.2)}, 1.5),
        ({"light": with_one(LIGHT, 2, -0.6)}, 4.0),
    ],
)
def test_the_truth_has_the_least(change: dict[str, Any], times: float) -> None:
    truth = {"shape": dome()}
    assert float(measured(**truth | change)) > times * float(measured(**truth))


def test_the_albedo_network_has_no_say() -> None:
    grey = replace(dome(), albedo=torch.zeros(1, 3, CAMERA.size, CAMERA.size))
    torch.testing.assert_close(measured(grey), measured(dome()), rtol=0, atol=0)


def test_descending_brings_shape_and_light_closer() -> None:
    relief = torch.tensor(0.7, requires_grad=True)
    light = with_one(LIGHT, 2, 0.2).requires_grad_()
    optimizer = torch.optim.Adam([relief, light], 0.02)
    depth = dome().depth
    for _ in range(60):
        shape = Canonical.of(1 + relief * (depth - 1), symmetric_albedo(CAMERA), CAMERA)
        optimizer.zero_grad()
        measured(shape, light=light).sum().backward()
        optimizer.step()
    assert abs(relief.item() - 1) < 0.15
    assert abs(light[0, 2].item() - 0.6) < 0.2


def test_what_shows_no_two_halves_counts_nothing() -> None:
    masks = ALL.clone()
    masks[..., 20:] = 0
    assert float(measured(dome(), masks=masks)) == 0

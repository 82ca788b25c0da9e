"""Unshaded by its true shape, view and light, and no others, a symmetric object's halves are alike
and one colour has one brightness.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.extensions.colour_constancy import (
    ANOTHER,
    colour_loss,
    unevenness,
    without_bas_relief,
)
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.schemas.settings import CameraConfig
from tests.pipeline.shapes import depth_map, symmetric_albedo

CAMERA = Camera.from_config(CameraConfig(size=64))
LIGHT = torch.tensor([[-0.2, 0.4, 0.6, 0.1]])
VIEW = torch.tensor([[0.05, 0.3, 0.05, 0.003, 0.0, 0.0]])
ALL = torch.ones(1, CAMERA.size, CAMERA.size)


def dome(relief: float = 1.0) -> Shape:
    """A symmetric shape, its depths `relief` times as far from the plane behind it."""
    depth = depth_map("bump", CAMERA, 1).float()
    depth = (depth + depth.flip(-1)) / 2
    return Shape.of(1 + relief * (depth - 1), symmetric_albedo(CAMERA), CAMERA)


def measured(
    shape: Shape, view: Tensor = VIEW, light: Tensor = LIGHT, masks: Tensor = ALL
) -> Tensor:
    """Of the input that shows the true shape under VIEW and LIGHT."""
    seen = dome().render(VIEW, LIGHT, CAMERA)
    return colour_loss(shape, view, light, seen.image, masks * seen.mask, CAMERA, symmetry=1)[0]


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
        shape = Shape.of(1 + relief * (depth - 1), symmetric_albedo(CAMERA), CAMERA)
        optimizer.zero_grad()
        measured(shape, light=light).sum().backward()
        optimizer.step()
    assert abs(relief.item() - 1) < 0.15
    assert abs(light[0, 2].item() - 0.6) < 0.2


def test_what_shows_no_two_halves_counts_nothing() -> None:
    masks = ALL.clone()
    masks[..., 20:] = 0
    assert float(measured(dome(), masks=masks)) == 0


def patches() -> Tensor:
    """An albedo (1, 3, S, S) of two colours, the first above the second."""
    albedo = torch.tensor([0.6, 0.4, 0.3])[:, None, None].repeat(1, CAMERA.size, CAMERA.size)
    albedo[:, 44:] = torch.tensor([0.2, 0.3, 0.5])[:, None, None]
    return albedo[None] * 2 - 1


def dented(depth: Tensor, by: float = 1.0) -> Shape:
    """The dome with `by` times a dent in its right side."""
    line = torch.linspace(-1, 1, CAMERA.size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    dent = 0.02 * torch.exp(-30 * ((x - 0.25) ** 2 + (y + 0.1) ** 2))
    return Shape.of(depth + by * dent, patches(), CAMERA)


def uneven(shape: Shape, light: Tensor = LIGHT) -> Tensor:
    """Of the input that shows the dented dome in two colours under VIEW and LIGHT."""
    seen = dented(dome().depth).render(VIEW, LIGHT, CAMERA)
    return colour_loss(shape, VIEW, light, seen.image, seen.mask, CAMERA, evenness=1)[0]


def test_one_colour_has_one_brightness_under_the_truth_alone() -> None:
    truth = float(uneven(dented(dome().depth)))
    for by in (0.0, 2.0):
        assert float(uneven(dented(dome().depth, by))) > 1.5 * truth
    assert float(uneven(dented(dome().depth), with_one(LIGHT, 2, -0.6))) > 3 * truth


def test_descending_brings_a_dent_back() -> None:
    by = torch.tensor(0.0, requires_grad=True)
    optimizer = torch.optim.Adam([by], 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        uneven(dented(dome().depth, by)).sum().backward()
        optimizer.step()
    assert abs(by.item() - 1) < 0.25


def test_other_colours_are_left_alone() -> None:
    colours = torch.zeros(1, 3, 64, 64)
    colours[:, 0, 32:] = 1.0
    colours[:, :, 32:] += 2.0
    assert float(unevenness(colours, torch.ones(1, 1, 64, 64))) < 0.05 * ANOTHER
    grey = torch.zeros(1, 3, 64, 64)
    grey[:, :, 32:] = 2.0
    found = unevenness(grey, torch.ones(1, 1, 64, 64))
    assert 0.05 * ANOTHER < float(found) < ANOTHER  # the most that any two points count for


def test_nothing_seen_is_even() -> None:
    colours = torch.randn(2, 3, 64, 64)
    assert unevenness(colours, torch.zeros(2, 1, 64, 64)).tolist() == [0, 0]


def test_tilt_and_relief_have_no_gradient() -> None:
    depth = dome().depth.requires_grad_()
    weight = torch.zeros_like(depth)
    weight[:, 10:50, 5:60] = 1
    free = without_bas_relief(depth, weight)
    torch.testing.assert_close(free, depth, rtol=0, atol=0)
    pull = torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    free.backward(pull)
    line = torch.linspace(-1, 1, CAMERA.size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    assert depth.grad is not None
    for way in (torch.ones_like(x), x, y, depth.detach()[0]):
        along = (depth.grad[0] * way * weight[0]).sum() / (way * weight[0]).norm()
        assert abs(float(along)) < 1e-3 * float(pull.norm())
    outside = weight == 0
    torch.testing.assert_close(depth.grad[outside], pull[outside])


def test_what_weighs_nothing_is_not_computed() -> None:
    seen = dome().render(VIEW, LIGHT, CAMERA)
    given = (dome(), VIEW, LIGHT, seen.image, seen.mask, CAMERA)
    loss, figures = colour_loss(*given)
    assert (float(loss), figures) == (0, {})
    assert set(colour_loss(*given, symmetry=1, evenness=1)[1]) == {"asymmetry", "unevenness"}

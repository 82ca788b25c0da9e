from __future__ import annotations

import math

import pytest
import torch

from gan2shape.pipeline.scene.shading import (
    diffuse_shading,
    light_direction,
    light_like,
    light_strengths,
    shade,
)


def facing(x: float, y: float, z: float) -> torch.Tensor:
    """Normals (1, 2, 2, 3), all alike."""
    normal = torch.tensor([x, y, z], dtype=torch.float64)
    return (normal / normal.norm()).expand(1, 2, 2, 3)


def test_shading_of_a_known_angle():
    # l = (1, 0, 1)/sqrt 2 meets n = (0, 0, 1) at 45 degrees; a = 0.4, b = 0.8.
    light = torch.tensor([[-0.2, 0.6, 1.0, 0.0]], dtype=torch.float64)
    albedo = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)  # 0.75 in [0, 1]
    diffuse = diffuse_shading(facing(0, 0, 1), light)
    assert diffuse.shape == (1, 1, 2, 2)
    torch.testing.assert_close(diffuse, torch.full_like(diffuse, math.sqrt(0.5)))
    texture = shade(albedo, facing(0, 0, 1), light)
    expected = 2 * 0.75 * (0.4 + 0.8 * math.sqrt(0.5)) - 1
    torch.testing.assert_close(texture, torch.full_like(texture, expected))


def test_faces_turned_away_get_ambient_light_only():
    light = torch.tensor([[0.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    away = facing(-2, 0, 1)
    assert (diffuse_shading(away, light) == 0).all()
    texture = shade(torch.ones(1, 3, 2, 2, dtype=torch.float64), away, light)
    torch.testing.assert_close(texture, torch.zeros_like(texture))  # 2 * 1 * 0.5 - 1


def test_each_image_has_its_own_light():
    lights = torch.tensor([[0, 0, 0, 0], [0, 0, 0.5, -0.5]], dtype=torch.float64)
    direction = light_direction(lights)
    torch.testing.assert_close(direction[0], torch.tensor([0, 0, 1]).double())
    torch.testing.assert_close(direction[1], torch.tensor([0.5, -0.5, 1]).double() / 1.5**0.5)


def test_shading_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    albedo = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    light = torch.tensor([[0.1, 0.2, 0.3, -0.4]] * 2, dtype=torch.float64, requires_grad=True)
    normals = facing(0.2, 0.1, 1).repeat(2, 1, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(shade, (albedo, normals, light))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="light must be"):
        diffuse_shading(facing(0, 0, 1), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="normals must be"):
        diffuse_shading(torch.zeros(2, 2, 3), torch.zeros(1, 4))


def test_a_changed_light_keeps_what_an_estimate_takes_for_bright():
    before, after = torch.tensor([[-0.2, 0.4, 0.3, 0.1]]), torch.tensor([-0.6, 0.4, -0.5, 0.2])
    torch.testing.assert_close(light_like(before, before, after), after[None])
    brighter = torch.tensor([[0.2, 0.4, 0.0, 0.0]])  # ambient 0.6 in place of 0.4
    ambient, _ = light_strengths(light_like(brighter, before, after))
    torch.testing.assert_close(ambient, torch.tensor([0.3]))
    torch.testing.assert_close(light_like(brighter, before, after)[:, 2:], after[None, 2:])

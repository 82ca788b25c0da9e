from __future__ import annotations

import math

import pytest
import torch

from gan2shape.pipeline.scene.camera import Camera, pixel_rays
from gan2shape.pipeline.scene.geometry import normals_from_depth, smoothness
from tests.pipeline.shapes import depth_map

FRONT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def plane(camera: Camera, normal: torch.Tensor) -> torch.Tensor:
    """Depth (1, S, S) of the plane through (0, 0, 1) with this inward normal."""
    rays = pixel_rays(camera, "cpu", torch.float64)
    return (normal[2] / (rays @ normal))[None]


@pytest.mark.parametrize("degrees", [0, 10, 40, 70])
@pytest.mark.parametrize("turn", [0, 90, 200])
def test_a_tilted_plane_has_its_normal_everywhere_but_at_the_border(degrees, turn):
    camera = Camera(32)
    tilt, turn = math.radians(degrees), math.radians(turn)
    normal = torch.tensor(
        [math.sin(tilt) * math.cos(turn), math.sin(tilt) * math.sin(turn), math.cos(tilt)],
        dtype=torch.float64,
    )
    normals = normals_from_depth(plane(camera, normal), camera)
    torch.testing.assert_close(normals[0, 1:-1, 1:-1], normal.expand(30, 30, 3))
    for edge in (normals[0, 0], normals[0, -1], normals[0, :, 0], normals[0, :, -1]):
        torch.testing.assert_close(edge, FRONT.expand(32, 3))


def test_normals_point_inwards_and_towards_the_side_that_lies_deeper():
    camera = Camera(16)
    deeper_right = torch.linspace(0.95, 1.05, 16).expand(1, 16, 16)
    normal = normals_from_depth(deeper_right, camera)[0, 8, 8]
    assert normal[2] > 0
    assert normal[0] < 0


def test_normals_are_exactly_unit_length_in_float32():
    camera = Camera(128)
    normals = normals_from_depth(depth_map("rough", camera, 2).float(), camera)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(2, 128, 128), rtol=0, atol=1e-6)


def test_normals_are_differentiable():
    camera = Camera(6)
    depth = depth_map("bump", camera, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: normals_from_depth(d, camera), depth)


def test_smoothness_is_zero_on_planes_and_known_on_a_parabola():
    line = torch.arange(8, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    flat, bowl, saddle = 3 * x - 2 * y + 1, x**2, x * y
    result = smoothness(torch.stack([flat, bowl, saddle]))
    # d2(x^2) = 2 along x; d2(xy)/dxdy = 1, counted twice.
    torch.testing.assert_close(result, torch.tensor([0, 2, 2], dtype=torch.float64))
    torch.testing.assert_close(smoothness(torch.stack([flat, bowl, saddle])[:, None]), result)


def test_smoothness_is_per_image():
    values = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(
        smoothness(values), torch.cat([smoothness(one[None]) for one in values])
    )
    with pytest.raises(ValueError, match="values must be"):
        smoothness(torch.rand(8, 8))

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan2shape.pipeline.scene.camera import (
    Camera,
    pixel_rays,
    project,
    rotation_matrix,
    transform,
    unproject,
)
from gan2shape.schemas.settings import CameraConfig
from tests.pipeline.shapes import depth_map, views


def test_intrinsics_put_the_outermost_pixel_centres_at_half_the_field_of_view():
    camera = Camera(64)
    assert camera.center == 31.5
    assert camera.focal == pytest.approx(360.0457, abs=1e-3)
    ray = pixel_rays(camera, "cpu", torch.float64)[0, 63]
    assert math.degrees(math.atan(ray[0])) == pytest.approx(5)
    assert math.degrees(math.atan(ray[1])) == pytest.approx(-5)


def test_camera_takes_every_setting_of_the_config():
    config = CameraConfig(
        size=128, fov_degrees=20, min_depth=0.8, max_depth=1.4, rotation_depth=1.05
    )
    camera = Camera.from_config(config)
    assert {
        name: getattr(camera, name) for name in type(config).model_fields
    } == config.model_dump()
    assert camera.margin == pytest.approx(0.3)


def test_projection_undoes_unprojection():
    camera = Camera(32)
    pixels = project(unproject(depth_map("rough", camera, 2), camera), camera)
    index = torch.arange(32, dtype=torch.float64)
    torch.testing.assert_close(pixels[..., 0], index.expand(2, 32, 32))
    torch.testing.assert_close(pixels[..., 1], index[:, None].expand(2, 32, 32))


@pytest.mark.parametrize(
    ("angles", "point", "expected"),
    [
        ((math.pi / 2, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, math.pi / 2, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, math.pi / 2), (1, 0, 0), (0, 1, 0)),
        # x first, then y: (0,1,0) -> (0,0,1) -> (1,0,0), then z turns that to (0,1,0).
        ((math.pi / 2, math.pi / 2, math.pi / 2), (0, 1, 0), (0, 1, 0)),
    ],
)
def test_rotation_is_right_handed_and_applies_x_then_y_then_z(angles, point, expected):
    turned = rotation_matrix(torch.tensor([angles]).double())[0] @ torch.tensor(point).double()
    torch.testing.assert_close(turned, torch.tensor(expected).double())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_rotations_keep_lengths_and_handedness(angles):
    rotation = rotation_matrix(torch.tensor([angles], dtype=torch.float64))[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double())
    assert torch.linalg.det(rotation).item() == pytest.approx(1)


def test_views_turn_about_the_rotation_centre_and_then_shift():
    camera = Camera(32, rotation_depth=1.2)
    view = torch.tensor([[0.3, -0.5, 0.2, 0.01, 0.02, 0.03]], dtype=torch.float64)
    pivot = torch.tensor([[0, 0, 1.2]], dtype=torch.float64)
    moved = transform(pivot[None], view, camera)[0]
    torch.testing.assert_close(moved, pivot + view[:, 3:])


def test_inverse_undoes_a_view():
    camera = Camera(16)
    points, view = unproject(depth_map("rough", camera, 3), camera), views(3)
    back = transform(transform(points, view, camera), view, camera, inverse=True)
    torch.testing.assert_close(back, points)


def test_points_behind_the_camera_project_to_finite_pixels():
    camera = Camera(16)
    points = torch.tensor([[0.1, 0.1, 0.0], [0.1, 0.1, -1.0]], requires_grad=True)
    pixels = project(points, camera)
    assert pixels.isfinite().all()
    (grad,) = torch.autograd.grad(pixels.sum(), points)
    assert grad.isfinite().all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="depth must be"):
        unproject(torch.ones(16, 16), Camera(16))
    with pytest.raises(ValueError, match="view must be"):
        transform(torch.ones(1, 4, 3), torch.zeros(1, 3), Camera(16))
    with pytest.raises(ValueError, match="points must be"):
        transform(torch.ones(2, 4, 3), torch.zeros(3, 6), Camera(16))
    with pytest.raises(ValueError, match="rotations must be"):
        rotation_matrix(torch.zeros(3))

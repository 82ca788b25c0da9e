from __future__ import annotations

import math

import pytest
import torch

from gan2shape.pipeline.scene.camera import Camera, pixel_rays, rotation_matrix
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.pictures import coverage, normal_picture, relight, shape_picture, turn
from gan2shape.pipeline.scene.render import warp
from gan2shape.pipeline.scene.shading import shade, turn_light
from tests.pipeline.shapes import depth_map, textures, views

CAMERA = Camera(32)


@pytest.fixture
def shape():
    """Depth, albedo, view and light of two shapes."""
    depth, albedo = depth_map("bump", CAMERA, 2).float(), textures(CAMERA, 2).float() * 0.5
    light = torch.tensor([[0.0, 0.2, 0.3, 0.1], [-0.4, 0.0, -0.5, 0.2]])
    return depth, albedo, views(2).float(), light


def own_view(depth, albedo, view, light):
    seen = warp(shade(albedo, normals_from_depth(depth, CAMERA), light), depth, view, CAMERA)
    return torch.where(seen.mask[:, None] > 0, seen.image.clamp(-1, 1), -1.0)


def test_turning_by_nothing_is_the_reconstruction(shape):
    images = turn(*shape, torch.zeros(1, 3), CAMERA)
    assert images.shape == (2, 1, 3, 32, 32)
    torch.testing.assert_close(images[:, 0], own_view(*shape))


def test_offsets_add_to_the_view_and_absolute_rotations_replace_it(shape):
    depth, albedo, view, light = shape
    rotations = torch.tensor([[0, 0.2, 0], [0, -0.3, 0.1]])
    offsets = turn(*shape, rotations, CAMERA)
    absolute = turn(*shape, rotations, CAMERA, relative=False)
    for k, rotation in enumerate(rotations):
        added, replaced = view.clone(), view.clone()
        added[:, :3] += rotation
        replaced[:, :3] = rotation
        torch.testing.assert_close(offsets[:, k], own_view(depth, albedo, added, light))
        torch.testing.assert_close(absolute[:, k], own_view(depth, albedo, replaced, light))


def test_background_fills_what_nothing_covers(shape):
    away = torch.tensor([[0.0, 0.9, 0.0]])
    black, white = (turn(*shape, away, CAMERA, background=b) for b in (-1.0, 1.0))
    uncovered = (black == -1).all(2) & (white == 1).all(2)
    assert 0.05 < uncovered.float().mean() < 0.9
    covered = coverage(shape[0], shape[2], away, CAMERA)
    assert torch.equal(covered < 0.5, uncovered)
    filled = turn(*shape, away, CAMERA, background=None)
    assert (filled.permute(0, 1, 3, 4, 2)[uncovered] != -1).any()


def test_relighting_with_the_own_light_is_the_reconstruction(shape):
    depth, albedo, view, light = shape
    images = relight(depth, albedo, view, light, CAMERA)
    assert images.shape == (2, 2, 3, 32, 32)
    reconstruction = own_view(*shape)
    for image in range(2):
        torch.testing.assert_close(images[image, image], reconstruction[image])
    assert (images[0, 0] - images[0, 1]).abs().max() > 0.05


def test_shape_picture_is_grey_and_flat_for_a_plane():
    plane = torch.ones(1, 32, 32)
    image = shape_picture(plane, None, CAMERA)
    assert image.shape == (1, 3, 32, 32)
    assert image.std() < 1e-5
    bump = shape_picture(depth_map("bump", CAMERA, 1).float(), torch.zeros(1, 6), CAMERA)
    assert torch.equal(bump[:, 0], bump[:, 2])
    assert bump.std() > 0.05
    # The light comes from the upper left: that flank of a bump is the brighter one.
    assert bump[0, 0, 10, 10] > bump[0, 0, 21, 21] + 0.1


def test_shape_picture_shows_normals_in_the_views_frame():
    # A plane turned about the vertical axis is lit as the plane of that tilt.
    line = pixel_rays(CAMERA, "cpu", torch.float32)[..., 0]
    turned = 1 / (1 + math.tan(0.3) * line)[None]  # the plane through (0, 0, 1) under that yaw
    view = torch.tensor([[0, 0.3, 0, 0, 0, 0.0]])
    seen = shape_picture(torch.ones(1, 32, 32), view, CAMERA, background=5.0)
    direct = shape_picture(turned, None, CAMERA)
    inside = seen < 5
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(seen[inside], direct[inside], rtol=0, atol=1e-3)


def test_shape_picture_leaves_the_background_outside_the_mask():
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    image = shape_picture(torch.ones(1, 32, 32), None, CAMERA, mask=mask, background=0.25)
    assert (image[:, :, :8] == 0.25).all()
    assert (image[:, :, 10, 10] != 0.25).all()


def test_normal_picture_shows_right_up_and_front():
    line = torch.linspace(0.95, 1.05, 32)
    faces_left = normal_picture(line.flip(0).expand(1, 32, 32), None, CAMERA)[0, :, 16, 16]
    # Deeper to the left: the surface looks left, so red is low, and blue is positive.
    assert faces_left[0] < -0.1
    assert faces_left[2] > 0
    faces_up = normal_picture(line.flip(0)[:, None].expand(1, 32, 32), None, CAMERA)[0, :, 16, 16]
    assert faces_up[1] > 0.1


def test_wrong_shapes_are_refused(shape):
    depth, albedo, view, light = shape
    with pytest.raises(ValueError, match="rotations must be"):
        turn(*shape, torch.zeros(3), CAMERA)
    with pytest.raises(ValueError, match="lights must be"):
        relight(depth, albedo, view, light[0], CAMERA)
    with pytest.raises(ValueError, match="2 depths for 1"):
        turn(depth, albedo[:1], view, light, torch.zeros(1, 3), CAMERA)


def test_lights_of_the_camera_and_of_single_shapes(shape):
    depth, albedo, view, light = shape
    turned = turn_light(
        light, rotation_matrix(view[:, :3])
    )  # the same lights, as the camera has it
    images = relight(depth, albedo, view, turned[:, None], CAMERA, with_camera=True)
    assert images.shape == (2, 1, 3, 32, 32)
    # All but the outermost pixels, whose normals are fixed in the canonical frame.
    gap = (images[:, 0] - own_view(*shape)).abs()
    assert gap.flatten(1).median() < 1e-5
    assert (gap > 1e-4).float().mean() < 0.2
    with pytest.raises(ValueError, match=r"lights must be \(K, 4\) or \(2, K, 4\)"):
        relight(depth, albedo, view, turned[:1, None], CAMERA)

"""Heads drawn again: what stays, which way they turn, about which point, and where the light is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera, rotation_matrix
from gan2shape.pipeline.scene.pictures import relight, turn
from gan2shape.pipeline.scene.shading import turn_light
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.render import Head, draw_head
from gan2shape.pipeline.synthetic.variations import Sitter, Studio

SIZE = 64
SEEDS = (200_000, 200_003)
LIGHT = (-0.2, 0.5, 0.8, -0.3)


@pytest.fixture(scope="module")
def studio(model: HeadModel) -> Studio:
    return Studio(model, SIZE)


@pytest.fixture(scope="module", params=SEEDS)
def sitter(studio: Studio, request: pytest.FixtureRequest) -> Sitter:
    return studio.sitter(request.param)


def picture(head: Head) -> Tensor:
    """(3, S, S) in [-1, 1]."""
    return torch.from_numpy(head.image).permute(2, 0, 1) * 2 - 1


def canonical(studio: Studio, sitter: Sitter) -> dict[str, Tensor]:
    """What a perfect reconstruction of the head would find, as `edit.turn` takes it."""
    own = sitter.parameters
    frontal = studio.draw(sitter.posing(np.zeros(6), own.light))
    view = torch.from_numpy(own.view)[None].float()
    light = torch.from_numpy(own.light)[None].float()
    return {
        "depth": torch.from_numpy(frontal.depth)[None],
        "albedo": torch.from_numpy(frontal.albedo).permute(2, 0, 1)[None] * 2 - 1,
        "view": view,
        "light": turn_light(light, rotation_matrix(view[:, :3]).mT),
    }


def face_error(image: Tensor, head: Head) -> float:
    """Mean difference on [0, 1] in the middle of the head, where a depth map has no gaps."""
    mask = torch.from_numpy(head.mask)
    inside = torch.nn.functional.avg_pool2d(mask[None].float(), 9, 1, 4)[0] > 0.99
    return float((image - picture(head)).abs().mean(0)[inside].mean() / 2)


def test_a_sitter_shows_as_its_data_set_does(model: HeadModel, studio: Studio):
    head = studio.draw(studio.sitter(SEEDS[0]))
    assert np.array_equal(head.image, draw_head(SEEDS[0], model, SIZE).image)


@pytest.mark.parametrize("degrees", [-15, 15])
def test_a_turned_head_is_what_turning_the_true_shape_shows(studio, sitter, degrees):
    yaw = math.radians(degrees)
    shape = canonical(studio, sitter)

    def turned(yaw: float, **other: Tensor) -> Tensor:
        rotations = torch.tensor([[0.0, yaw, 0.0]])
        return turn(**(shape | other), rotations=rotations, camera=Camera(SIZE))[0, 0]

    truth = studio.draw(sitter.turned(yaw))
    right = face_error(turned(yaw), truth)
    assert right < 0.03
    assert face_error(turned(-yaw), truth) > 2.5 * right  # the other way round
    # The light would stay with the camera:
    fixed = turn_light(shape["light"], rotation_matrix(torch.tensor([[0.0, -yaw, 0.0]])))
    assert face_error(turned(yaw, light=fixed), truth) > 1.5 * right
    # Another centre of rotation:
    assert face_error(turned(yaw, depth=shape["depth"] + 0.03), truth) > 1.5 * right


def test_a_relit_head_is_what_relighting_the_true_shape_shows(studio, sitter):
    shape = canonical(studio, sitter)
    depth, albedo, view = shape["depth"], shape["albedo"], shape["view"]
    light = torch.tensor([LIGHT])
    truth = studio.draw(sitter.relit(LIGHT))

    def relit(light: Tensor, with_camera: bool = True) -> float:
        images = relight(depth, albedo, view, light, Camera(SIZE), with_camera=with_camera)
        return face_error(images[0, 0], truth)

    right = relit(light)
    assert right < 0.03
    mirrored, upturned = light * torch.tensor([1, 1, -1, 1]), light * torch.tensor([1, 1, 1, -1])
    assert min(relit(mirrored), relit(upturned)) > 1.5 * right
    inner = turn_light(light, rotation_matrix(view[:, :3]).mT)
    assert relit(inner, with_camera=False) == pytest.approx(right, abs=1e-4)


def test_what_stays_of_a_head(studio, sitter):
    own = studio.draw(sitter)
    relit = studio.draw(sitter.relit(LIGHT))
    assert np.array_equal(own.depth, relit.depth)
    assert np.array_equal(own.albedo, relit.albedo)
    assert not np.array_equal(own.image, relit.image)
    back = studio.draw(sitter.turned(0.3).turned(-0.3))
    np.testing.assert_allclose(back.image, own.image, atol=1e-3)


def test_portraits_are_the_same_every_time_and_differ(studio):
    first = [head.image for head in studio.portraits(5, 3)]
    again = [head.image for head in studio.portraits(5, 3)]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert np.abs(first[0] - first[1]).mean() > 0.01
    assert {head.parameters.seed for head in studio.portraits(5, 2)} == {5}


def test_a_light_from_behind_is_made_to_graze():
    light = torch.tensor([[0.1, 0.2, 1.0, 0.0]])
    around = rotation_matrix(torch.tensor([[0.0, math.radians(80), 0.0]]))
    turned = turn_light(light, around)
    assert torch.isfinite(turned).all()
    assert turned[0, 2] > 5
    torch.testing.assert_close(
        turn_light(turn_light(light, around[0] * 0 + torch.eye(3)), torch.eye(3)), light
    )

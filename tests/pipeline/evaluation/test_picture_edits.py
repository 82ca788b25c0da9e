"""Edits without a shape."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.evaluation.picture_edits import CARD_RADIUS, moved_latents, turned_card
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.pictures import turn
from gan2shape.pipeline.stylegan2 import Generator


def test_a_card_turns_about_the_axis_to_the_side_of_the_yaw():
    camera = Camera(32)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    yaws = torch.tensor([0.0, 0.4, -0.4])
    turned = turned_card(image, yaws, camera)
    assert turned.shape == (1, 3, 3, 32, 32)
    torch.testing.assert_close(turned[:, 0], image, rtol=0, atol=1e-4)
    # A stripe in the middle of the front goes where the same point of a shape goes.
    stripe = torch.full((1, 3, 32, 32), -1.0)
    stripe[..., 15:17] = 1.0
    depth = torch.full((1, 32, 32), 1 - CARD_RADIUS)
    light = torch.tensor([[1.0, -1.0, 0.0, 0.0]])  # ambient 1, no diffuse light
    rotations = torch.stack([0 * yaws, yaws, 0 * yaws], dim=1)
    expected = turn(depth, stripe, torch.zeros(1, 6), light, rotations, camera)
    found = turned_card(stripe, yaws, camera)
    for ours, theirs in zip(_place(found), _place(expected), strict=True):
        assert abs(ours - theirs) < 0.7
    assert _place(found)[1] < _place(found)[0] - 3 or _place(found)[1] > _place(found)[0] + 3


def _place(images: Tensor) -> list[float]:
    """Mean column of the light in images (1, K, 3, S, S)."""
    light = images[0, :, 0].add(1).sum(1)  # (K, S)
    columns = torch.arange(light.shape[-1], dtype=light.dtype)
    return ((light * columns).sum(1) / light.sum(1)).tolist()


def test_latents_are_moved_by_their_own_steps():
    torch.manual_seed(0)
    generator = Generator(16, 8, 2, dict.fromkeys((4, 8, 16), 8))
    latents = generator.sample_latents(2, 0)
    steps = torch.randn(2, 3, 8) * torch.tensor([0.0, 1.0, 2.0])[:, None]
    images = moved_latents(generator, latents, steps, 16)
    assert images.shape == (2, 3, 3, 16, 16)
    with torch.no_grad():
        expected = generator(latents[1:] + steps[1, 2:]).clamp(-1, 1)
        torch.testing.assert_close(images[1, 2], expected[0])
        torch.testing.assert_close(images[:, 0], generator(latents).clamp(-1, 1))
    half = moved_latents(generator, latents, steps, 8)
    assert half.shape == (2, 3, 3, 8, 8)

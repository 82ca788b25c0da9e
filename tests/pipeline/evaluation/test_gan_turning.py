"""Turning, with a generator and networks whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.evaluation.gan_turning import (
    BATCH,
    Turning,
    light_directions,
    measure_turning,
    rows,
    yaw_direction,
)
from gan2shape.pipeline.scene.camera import rotation_matrix
from gan2shape.pipeline.scene.shading import turn_light

YAWS = torch.linspace(-0.5, 0.5, 5)


class Painter:
    """Draws images whose channels are even: red is the yaw, green and blue are another two
    numbers of the latent; `leak` of the yaw shows in green.
    """

    size, style_dim = 8, 4

    def __init__(self, leak: float = 0.0, stuck: bool = False) -> None:
        self.leak, self.stuck = leak, stuck

    def sample_latents(self, count: int, seed: int) -> Tensor:
        return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) * 0.2

    def __call__(self, latents: Tensor) -> Tensor:
        yaw, green, blue = latents[:, 0], latents[:, 1], latents[:, 2]
        red = yaw.clamp(-0.1, 0.1) if self.stuck else yaw
        channels = torch.stack((red, green + self.leak * yaw, blue), dim=1)
        return channels[:, :, None, None].expand(-1, -1, 8, 8)


class Looker:
    """Sees the yaw in red, the albedo in green, and an even depth and light."""

    def view(self, images: Tensor) -> Tensor:
        view = torch.zeros(len(images), 6)
        view[:, 1] = images[:, 0].mean(dim=(1, 2))
        view[:, 0] = images[:, 2].mean(dim=(1, 2))
        return view

    def albedo(self, images: Tensor) -> Tensor:
        return images[:, 1:2]

    def depth(self, images: Tensor) -> Tensor:
        return images[:, 2]

    def light(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4)


def measured(painter: Any) -> Turning:
    looker: Any = Looker()
    direction = yaw_direction(painter, looker, count=500)
    return measure_turning(painter, looker, direction, YAWS, count=40)


def test_a_gan_that_turns_and_changes_nothing_else():
    found = measured(Painter())
    assert found.r2 == pytest.approx(1, abs=1e-3)
    assert found.slope == pytest.approx(1, abs=0.01)
    assert found.correlation == pytest.approx(1, abs=1e-3)
    assert set(found.changes) == {"pitch", "roll", "shift", "light", "depth", "albedo"}
    assert max(found.changes.values()) < 0.15  # of samples, whose numbers correlate by chance


def test_what_changes_with_the_yaw_is_told():
    found = measured(Painter(leak=1.0))
    assert found.slope == pytest.approx(1, abs=0.01)
    assert found.changes["albedo"] > 0.5
    assert max(found.changes[name] for name in ("pitch", "depth", "light", "roll")) < 0.15


def test_a_gan_that_does_not_turn_far():
    found = measured(Painter(stuck=True))
    assert found.slope < 0.4
    assert found.correlation < 0.95


def test_rows_begin_with_the_sample_and_go_to_the_yaws():
    painter: Any = Painter()
    looker: Any = Looker()
    vector = torch.tensor([1.0, 0.0, 0.0, 0.0])
    latents = painter.sample_latents(3, 5)
    found = list(rows(painter, looker, vector, latents, YAWS))
    assert len(found) == 3
    for images, latent in zip(found, latents, strict=True):
        assert torch.equal(images[:1], painter(latent[None]))
        torch.testing.assert_close(looker.view(images)[1:, 1], YAWS)
        assert bool((images[:, 1:] == images[:1, 1:]).all())


def test_more_pictures_than_are_made_at_once_are_the_same_pictures():
    painter: Any = Painter(leak=0.3)
    looker: Any = Looker()
    vector = torch.tensor([1.0, 0.0, 0.0, 0.0])
    latents = painter.sample_latents(1, 5)
    yaws = torch.linspace(-0.5, 0.5, BATCH + 8)
    (whole,) = rows(painter, looker, vector, latents, yaws)
    for number, yaw in enumerate(yaws):
        (alone,) = rows(painter, looker, vector, latents, yaw[None])
        torch.testing.assert_close(whole[[0, 1 + number]], alone)


class LampLooker(Looker):
    """Sees a light in green and blue, which belongs to the camera, as the turned shape has it."""

    def light(self, images: Tensor) -> Tensor:
        _, green, blue = images.mean(dim=(2, 3)).unbind(1)
        camera = torch.stack((0.5 * blue, -blue, green, 0.2 * green), dim=1)
        return turn_light(camera, rotation_matrix(self.view(images)[:, :3]).mT)

    def view(self, images: Tensor) -> Tensor:
        view = torch.zeros(len(images), 6)
        view[:, 1] = images[:, 0].mean(dim=(1, 2))
        return view


def test_directions_of_light_leave_the_yaw_alone():
    painter: Any = Painter()
    looker: Any = LampLooker()
    found = light_directions(painter, looker, count=2000)
    ambient, diffuse, across, _ = (direction.vector for direction in found)
    torch.testing.assert_close(across[1], torch.tensor(1.0), rtol=0.05, atol=0)
    assert across[0].abs() < 0.1
    assert ambient[2] == pytest.approx(2, rel=0.05)
    assert diffuse[2] == pytest.approx(-1, rel=0.05)

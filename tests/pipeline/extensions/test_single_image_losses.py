"""The losses of single images: what they leave alone, and what corrects them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gan2shape.pipeline.extensions.single_image_losses import CORRECTION_RATE, SingleImages
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.schemas.network_training import FinetuneConfig
from tests.networks import tiny_networks

SIZE, STYLE = 32, 8


class KnownViews(nn.Module):
    """Finds the views (B, 6) that it was given, in units of the network's scale."""

    def __init__(self, views: Tensor) -> None:
        super().__init__()
        self.views = nn.Parameter(views)

    def forward(self, images: Tensor) -> Tensor:
        return self.views


def setting() -> tuple[SingleImages, ShapeNetworks, Tensor, Tensor]:
    trained = tiny_networks("0" * 64, STYLE, SIZE)
    config = FinetuneConfig(
        camera=trained.camera, networks=trained.networks, precision="float32", symmetric=False
    )
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return SingleImages(config), trained.shape_networks(), images, torch.ones(4, SIZE, SIZE)


def test_the_losses_change_nothing_until_they_are_told_to() -> None:
    objective, networks, images, masks = setting()
    before = copy.deepcopy(objective.state_dict())
    losses, _, correction = objective(networks, images, masks, 0)
    again, _, same = objective(networks, images, masks, 0)
    assert torch.equal(losses, again)
    assert all(torch.equal(value, objective.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(value, same[name]) for name, value in correction.items())
    objective.advance(correction)
    assert all(torch.equal(objective.state_dict()[name], correction[name]) for name in before)
    assert not torch.equal(correction["yaw_factor"], before["yaw_factor"])


def test_rolls_that_follow_yaws_are_taught_less() -> None:
    objective, networks, images, masks = setting()
    view = torch.zeros(4, 6)
    view[:, 1] = torch.tensor([-0.4, -0.1, 0.1, 0.4])
    view[:, 2] = 0.5 * view[:, 1]
    scale = networks.view_scale.clamp_min(1e-9)
    networks.view_net = KnownViews(view / scale)  # type: ignore[assignment]
    _, _, correction = objective(networks, images, masks, 0)
    assert float(correction["roll_slope"]) == pytest.approx(CORRECTION_RATE * 0.5, rel=1e-4)

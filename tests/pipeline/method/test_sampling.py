"""Random views and lights have the distributions they are told to have."""

from __future__ import annotations

import pytest
import torch

from gan2shape.pipeline.method.sampling import light_spread, sample_lights, sample_views
from gan2shape.schemas.settings import LightPriorConfig, ViewPriorConfig


def test_views_follow_the_gaussian_and_scale_only_the_yaw() -> None:
    prior = ViewPriorConfig(
        mean=(0.1, -0.2, 0, 0, 0, 0), std=(0.1, 0.3, 0.05, 0.01, 0.02, 0), view_scale=1.5
    )
    views = sample_views(20_000, prior, torch.Generator().manual_seed(0))
    assert torch.allclose(views.mean(0), torch.tensor(prior.mean), atol=0.02)
    wanted = torch.tensor([0.1, 0.45, 0.05, 0.01, 0.02, 0])
    assert torch.allclose(views.std(0), wanted, rtol=0.05)
    assert (views[:, 5] == 0).all()


def test_extra_diffuse_light_takes_its_share_of_the_ambient() -> None:
    prior = LightPriorConfig(x=(-0.5, 0.5), y=(0.0, 0.2), diffuse=(0.1, 0.3))
    base = torch.tensor([[0.2, -0.4, 9.0, 9.0]]).repeat(5000, 1)
    lights = sample_lights(base, prior, torch.Generator().manual_seed(0))
    extra = (lights[:, 1] - base[:, 1]) / 2
    assert extra.min() >= 0.1
    assert extra.max() <= 0.3
    assert torch.allclose((lights[:, 0] - base[:, 0]) / 2, -0.4 * extra, atol=1e-6)
    assert lights[:, 2].abs().max() <= 0.5
    assert lights[:, 3].min() >= 0
    assert lights[:, 3].max() <= 0.2


def test_the_spread_of_random_lights_is_that_of_the_draws() -> None:
    prior = LightPriorConfig(x=(-0.8, 0.6), y=(0.0, 0.5), diffuse=(-0.2, 0.4))
    lights = sample_lights(torch.zeros(20_000, 4), prior, torch.Generator().manual_seed(0))
    assert light_spread(prior).tolist() == pytest.approx(lights.std(0).tolist(), rel=0.02)
    gaussian = LightPriorConfig(mean=(0, 0, 0, 0), std=(0.1, 0.2, 0.3, 0.4))
    assert light_spread(gaussian).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])

"""What renderings teach and tell: their turns are true, and responses are those of the networks."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor, nn

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.method.estimate import Estimate
from gan2shape.pipeline.method.group import Group, new_group
from gan2shape.pipeline.training.responses import rendered_samples, responses
from gan2shape.schemas.settings import RunConfig
from tests.pipeline.gan_targets import gan_targets

SETTINGS: dict[str, Any] = {
    "networks": {"width": 8},
    "view_prior": {"std": [0.1, 0.4, 0.05, 0.01, 0.01, 0.0]},
    "optimization": {"projected_samples": 3, "feature_blocks": 1},
    "precision": "float32",
}


@pytest.fixture(scope="module")
def group() -> Group:
    gan = load_gan("heads64")
    made = new_group(gan_targets(gan, "abc"), gan, RunConfig.model_validate(SETTINGS))
    made.fail(1, "for the test")
    return made


def test_samples_are_renderings_at_their_turns(group: Group) -> None:
    samples = rendered_samples(group)
    assert samples.images.shape == (3, 3, 3, 64, 64)
    assert not samples.images[1].any()
    assert not samples.turns[1].any()
    view = Estimate(group).view
    views = samples.turns[[0, 2]] + view[[0, 2], None]
    assert float(views[..., 1].std()) > 5 * float(views[..., 0].std()) / 4 > 0
    assert samples.masks[0].any()
    assert samples.images[0].float().std() > 0.1


class _Mean(nn.Module):
    """A network that tells no more than how bright its images are, of every component."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None].expand(-1, self.size)


def test_responses_tell_what_networks_follow(group: Group) -> None:
    networks = copy.deepcopy(group.networks)
    networks.light_net = nn.Sequential(_Mean(4))
    _, light = responses(replace(group, networks=networks))
    assert bool((light.gain[:2] > 0.02).all())  # more light, brighter images
    assert bool((light.noise > 0).all())
    networks.light_net = nn.Sequential(nn.Flatten(), _Blind())
    _, light = responses(replace(group, networks=networks))
    assert light.gain.tolist() == light.noise.tolist() == [0.0] * 4


class _Blind(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.new_full((len(images), 4), 0.3)

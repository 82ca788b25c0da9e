"""Turns of samples: found from what the samples show, whatever was asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.extensions.turn_calibration import calibrate_turns, response
from gan2shape.pipeline.method.group import Group, new_group
from gan2shape.pipeline.reconstruct import variant_of
from gan2shape.pipeline.training.responses import rendered_samples
from gan2shape.schemas.load import load_settings
from tests.pipeline.gan_targets import gan_targets

SETTINGS: dict[str, Any] = {
    "optimization.projected_samples": 12,
    "optimization.learning_rates.view": 0.0005,
    "view_prior.std": [0.08, 0.32, 0.06, 0.0, 0.0, 0.0],
    "precision": "float32",
}


@pytest.fixture
def group() -> Group:
    gan, networks = load_gan("heads64"), load_networks("heads64")
    config = load_settings(
        "heads", "refine", overrides=SETTINGS | {"networks": networks.networks.model_dump()}
    )
    targets = gan_targets(gan, "abcd")
    return new_group(targets, gan, config, None, networks, variant=variant_of(config))


def test_a_response_is_gain_and_noise() -> None:
    random = torch.Generator().manual_seed(0)
    changes = torch.randn(20000, 3, generator=random) * torch.tensor([0.1, 0.4, 0.0])
    noise = 0.05 * torch.randn(20000, 3, generator=random)
    found = response(changes, torch.tensor([0.5, 0.8, 1.0]) * changes + noise)
    assert found.gain.tolist() == pytest.approx([0.5, 0.8, 0.0], abs=0.01)
    assert found.noise.tolist() == pytest.approx([0.05] * 3, rel=0.03)


def test_turns_are_those_that_samples_show(group: Group) -> None:
    before = {name: value.clone() for name, value in group.networks.state_dict().items()}
    group.samples = rendered_samples(group)
    true = group.samples.turns.clone()
    asked = torch.tensor([2.0, 1.0, 1.5, 1.0, 1.0, 1.0])
    group.samples.turns.mul_(asked)  # renderings that stay behind what they were asked for
    calibrate_turns(group, 40)
    moves = slice(0, 3)
    found = group.samples.turns[..., moves].flatten(0, 1).std(0)
    wanted = true[..., moves].flatten(0, 1).std(0)
    assert (found / wanted).tolist() == pytest.approx([1.0] * 3, abs=0.35)
    assert found[1] == wanted[1]  # the yaw's stay
    assert torch.isfinite(group.samples.turns).all()
    for name, value in group.networks.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_yaw_too_is_what_samples_show_if_wanted(group: Group) -> None:
    group.config = load_settings(
        "heads", "refine", overrides=SETTINGS | {"optimization.calibrate_yaw": True}
    )
    group.samples = rendered_samples(group)
    true = group.samples.turns[..., 1].std()
    group.samples.turns[..., 1] *= 1.5
    calibrate_turns(group, 40)
    assert float(group.samples.turns[..., 1].std() / true) == pytest.approx(1, abs=0.2)


def test_what_samples_do_not_follow_is_no_turn(group: Group) -> None:
    group.samples = rendered_samples(group)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    group.samples.turns[..., 0] = group.samples.turns[:, order, 0]  # pitches of others
    before = group.samples.turns.flatten(0, 1).std(0)
    calibrate_turns(group, 30)
    after = group.samples.turns.flatten(0, 1).std(0)
    assert after[0] < 0.6 * before[0]
    assert after[1] == before[1]


def test_it_needs_samples(group: Group) -> None:
    with pytest.raises(ValueError, match="no projected samples yet"):
        calibrate_turns(group, 1)

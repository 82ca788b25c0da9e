"""Fitting to inputs alone: from networks that know the category, without latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gan2shape.pipeline.group import Targets
from gan2shape.pipeline.losses import relative_relief
from gan2shape.pipeline.pretrained import load_pretrained
from gan2shape.pipeline.reconstruct import Shapes, reconstruct
from gan2shape.pipeline.sampling import YAW
from gan2shape.pipeline.schedule import make_schedule
from gan2shape.pipeline.stylegan2 import Gan, load_gan
from gan2shape.schemas.config import RunConfig, load_config
from tests.pipeline.gan_targets import gan_targets


@pytest.fixture(scope="module")
def gan() -> Gan:
    return load_gan("heads64")


@pytest.fixture(scope="module")
def targets(gan: Gan) -> Targets:
    return replace(gan_targets(gan, "abcd"), latents=None)


def settings(looks: int, **changes: Any) -> RunConfig:
    cycles = {"optimization.cycles": [{"looks": looks}] if looks else []}
    plain = {"precision": "float32", "networks.width": 24}
    return load_config("heads64-tune", plain | cycles | changes, "heads64")


def tuned(targets: Targets, gan: Gan, config: RunConfig) -> Shapes:
    return reconstruct(targets, gan, config, pretrained=load_pretrained("heads64"))


@pytest.fixture(scope="module")
def before(gan: Gan, targets: Targets) -> Shapes:
    return tuned(targets, gan, settings(0))


def test_it_comes_closer_to_the_inputs(gan: Gan, targets: Targets, before: Shapes) -> None:
    after = tuned(targets, gan, settings(60))
    assert after.losses["photometric"].mean() < 0.9 * before.losses["photometric"].mean()
    assert after.failures == [None] * 4
    assert not torch.equal(after.depth, before.depth)
    assert after.latent.isnan().all()
    assert "inputs" in after.seconds


def test_yaws_spread_as_at_the_start_whatever_the_prior_says(
    gan: Gan, targets: Targets, before: Shapes
) -> None:
    wide = {"view_prior.view_scale": 3.0, "optimization.learning_rates.view": 1e-9}
    prior = settings(1).view_prior
    after = tuned(targets, gan, settings(25, **wide))
    spreads = [
        (each.view[:, YAW] - prior.mean[YAW]).square().mean().sqrt() for each in (before, after)
    ]
    assert float(spreads[1] / spreads[0]) == pytest.approx(1, abs=0.05)


def test_shapes_stay_as_deep_whatever_the_losses_say(
    gan: Gan, targets: Targets, before: Shapes
) -> None:
    even = {"optimization.colour_evenness": 20.0}  # alone it changes reliefs by a tenth
    after = tuned(targets, gan, settings(30, **even))
    typical = before.depth.mean(0).expand_as(before.depth)
    reliefs = [
        relative_relief(each.depth, typical, targets.masks).mean() for each in (before, after)
    ]
    assert float(reliefs[1] / reliefs[0]) == pytest.approx(1, abs=0.05)


def test_it_comes_after_the_other_steps_of_a_cycle() -> None:
    cycles = [{"step1": 1, "step2": 1, "step3": 1, "looks": 2}, {"looks": 3}]
    config = load_config("heads64-tune", {"optimization.cycles": cycles})
    schedule = make_schedule(config, pretrained=True)
    assert [step.key for step in schedule] == ["step1", "step2", "step3", "inputs", "inputs"]
    assert [step.ends_cycle for step in schedule] == [False, False, False, True, True]
    assert config.needs_latents
    assert not settings(3).needs_latents

"""Fitting to inputs alone: from networks that know the category, without latents."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.extensions.single_image import fit_single_images
from gan2shape.pipeline.method.group import Targets, new_group
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.losses import relative_relief
from gan2shape.pipeline.reconstruct import (
    Shapes,
    iterations_total,
    make_schedule,
    reconstruct,
    variant_of,
)
from gan2shape.pipeline.scene.camera import YAW
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.pipeline.stylegan2 import Gan
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import RunConfig
from tests.pipeline.gan_targets import gan_targets


@pytest.fixture(scope="module")
def gan() -> Gan:
    return load_gan("heads64")


@pytest.fixture(scope="module")
def targets(gan: Gan) -> Targets:
    return replace(gan_targets(gan, "abcd"), latents=None)


@pytest.fixture(scope="module")
def pair(gan: Gan) -> Targets:
    return replace(gan_targets(gan, "ab"), latents=None)


def settings(passes: int, **changes: Any) -> RunConfig:
    cycles = {"optimization.cycles": [{"single_image_passes": passes}] if passes else []}
    plain = {"precision": "float32", "networks.width": 24, "optimization.perceptual_weight": 0.0}
    return load_settings(
        "heads", "single-image", priors="heads64", overrides=plain | cycles | changes
    )


ALONE = load_networks("heads64").with_teachers([])


def tuned(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    networks: TrainedNetworks = ALONE,
    **options: Any,
) -> Shapes:
    return reconstruct(targets, gan, config, pretrained=networks, **options)


@pytest.fixture(scope="module")
def before(gan: Gan, targets: Targets) -> Shapes:
    return tuned(targets, gan, settings(0))


def test_it_comes_closer_to_the_inputs(gan: Gan, targets: Targets, before: Shapes) -> None:
    after = tuned(targets, gan, settings(40, **{"optimization.perceptual_weight": 0.5}))
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


def test_shapes_become_as_deep_as_asked_whatever_the_losses_say(
    gan: Gan, targets: Targets, before: Shapes
) -> None:
    even = {"optimization.colour_evenness": 20.0}  # alone it changes reliefs by a tenth
    typical = before.depth.mean(0).expand_as(before.depth)
    for relief in (1.0, 1.15):
        cycles = {"optimization.cycles": [{"single_image_passes": 30, "relief_factor": relief}]}
        after = tuned(targets, gan, settings(0, **even | cycles))
        found = [
            relative_relief(each.depth, typical, targets.masks).mean() for each in (before, after)
        ]
        assert float(found[1] / found[0]) == pytest.approx(relief, abs=0.05)


def test_shapes_come_to_what_networks_and_teachers_make_of_the_inputs(
    gan: Gan, targets: Targets
) -> None:
    networks = ALONE.with_teachers([load_networks("heads64/joint.safetensors")])
    config = settings(0)
    group = new_group(targets, gan, config, pretrained=networks, variant=variant_of(config))
    several = [group.networks, *(each.shape_networks() for each in networks.teachers)]
    mean = consensus_depth(several, targets.images, targets.masks, "float32", mirrored=True)
    view = group.networks.view(targets.images).detach()

    @torch.no_grad()
    def far() -> float:
        seen, _ = render_depth(group.networks.depth(targets.images), view, group.camera)
        return float(consensus_error(seen, mean, group.camera)[0].mean())

    before, losses = far(), list[torch.Tensor]()
    fit_single_images(group, losses.append, passes=0, relief=1.0, teachers=networks.teachers)
    assert float(losses[0]) == pytest.approx(before, rel=1e-3)
    assert far() < 0.5 * before
    assert torch.equal(group.networks.view(targets.images), view)


def test_with_teachers_too_it_goes_on_as_if_it_had_not_stopped(gan: Gan, pair: Targets) -> None:
    networks = ALONE.with_teachers([load_networks("heads64/joint.safetensors")])
    config = settings(
        0, **{"optimization.cycles": [{"single_image_passes": 1}, {"single_image_passes": 1}]}
    )
    states: list[dict[str, Any]] = []
    shown: list[tuple[int, int]] = []
    whole = tuned(
        *(pair, gan, config, networks),
        on_checkpoint=lambda state: states.append(deepcopy(state)),
        on_progress=lambda name, done, total: shown.append((done, total)),
    )
    total = iterations_total(config, 2, pretrained=True, teachers=1)
    assert shown == [(done, total) for done in range(1, total + 1)]
    again = tuned(pair, gan, config, networks, state=states[0])
    torch.testing.assert_close(again.depth, whole.depth)


def test_it_comes_after_the_other_steps_of_a_cycle() -> None:
    cycles = [
        {"step1": 1, "step2": 1, "step3": 1, "single_image_passes": 2},
        {"single_image_passes": 3},
    ]
    config = load_settings("heads", "single-image", overrides={"optimization.cycles": cycles})
    schedule = make_schedule(config, ALONE)
    assert [step.key for step in schedule] == ["step1", "step2", "step3", "inputs", "inputs"]
    assert [step.ends_cycle for step in schedule] == [False, False, False, True, True]
    assert config.needs_latents
    assert not settings(3).needs_latents

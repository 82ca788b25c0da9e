"""Trained networks: what they are made of, and what they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gan2shape.pipeline.networks.trained import (
    NetworksError,
    TrainedNetworks,
    check_networks,
    parameters_of,
)
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

SIZE, STYLE = 32, 16


@pytest.fixture(scope="module")
def networks() -> TrainedNetworks:
    return tiny_networks("ab" * 32, STYLE, SIZE)


def test_networks_are_made_without_touching_the_random_numbers(networks: TrainedNetworks) -> None:
    before = torch.random.get_rng_state()
    made = parameters_of(networks.shape_networks(), networks.offset_encoder())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert made.keys() == networks.parameters.keys()
    assert all(torch.equal(value, made[name]) for name, value in networks.parameters.items())


def test_parameters_of_other_networks(networks: TrainedNetworks) -> None:
    wider = replace(networks, networks=networks.networks.model_copy(update={"width": 16}))
    with pytest.raises(NetworksError, match="does not hold the networks"):
        wider.shape_networks()
    longer = replace(networks, style_dim=STYLE + 1)
    with pytest.raises(NetworksError, match="does not hold the networks"):
        longer.offset_encoder()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config, gan: (config, replace(gan, sha256="cd" * 32)),
            "another GAN than tiny.*--gan",
        ),
        (
            lambda config, gan: (_with(config, "camera", fov_degrees=12.0), gan),
            r"camera.fov_degrees 10.0, not 12.0; use '--set camera.fov_degrees=10.0'",
        ),
        (lambda config, gan: (_with(config, "networks", width=9), gan), "networks.width 8, not 9"),
        (
            lambda config, gan: (_with(config, "latent", mapping_layers=2), gan),
            "latent.mapping_layers 8, not 2; use '--set latent.mapping_layers=8'",
        ),
    ],
)
def test_networks_of_another_gan_or_other_settings(
    networks: TrainedNetworks,
    change: Callable[[RunConfig, Gan], tuple[RunConfig, Gan]],
    message: str,
) -> None:
    gan = _gan()
    config = RunConfig(camera=networks.camera, networks=networks.networks)
    check_networks(networks, gan, config)
    changed, other = change(config, gan)
    with pytest.raises(NetworksError, match=message):
        check_networks(networks, other, changed)


def test_a_forward_pass_has_no_use_for_the_encoder(networks: TrainedNetworks) -> None:
    config = RunConfig(camera=networks.camera, networks=networks.networks)
    config = _with(_with(config, "latent", mapping_layers=2), "optimization", cycles=())
    check_networks(networks, _gan(), config)


def _gan() -> Gan:
    channels = dict.fromkeys((4, 8, 16, 32), 8)
    return Gan(
        Generator(SIZE, STYLE, 2, channels), Discriminator(SIZE, channels), "ab" * 32, "tiny"
    )


def _with(config: RunConfig, part: str, **changes: Any) -> RunConfig:
    return config.model_copy(update={part: getattr(config, part).model_copy(update=changes)})

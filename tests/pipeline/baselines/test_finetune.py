"""Finetuning: what it keeps, what teaches the views, and that it goes on where it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.baselines import finetune
from gan2shape.pipeline.baselines.training import Batch
from gan2shape.pipeline.pretrained import Pretrained
from gan2shape.schemas.baseline_training import (
    FinetuneConfig,
    baseline_config,
    finetune_settings,
)
from gan2shape.schemas.config import ConfigError, load_config
from tests.networks import tiny_networks

SIZE, STYLE = 32, 8


def made(initial: Pretrained, **changes: Any) -> FinetuneConfig:
    own = {
        "method": "finetune",
        "camera": initial.camera,
        "networks": initial.networks,
        "precision": "float32",
    }
    config = baseline_config(own | changes)
    assert isinstance(config, FinetuneConfig)
    return config


def some_images() -> Tensor:
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_all_networks_learn_and_the_encoder_stays() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    training = finetune.trainer(made(initial), initial)
    images = some_images()
    with torch.no_grad():
        start = initial.shape_networks().depth(images)
    torch.testing.assert_close(training.look(images).depth, start)
    training.step(Batch(images))
    left = training.networks()
    changed = {
        name.split(".")[0]
        for name, value in initial.parameters.items()
        if not torch.equal(value, left.parameters[name])
    }
    assert changed == {"depth_net", "albedo_net", "view_net", "light_net"}
    assert left.offset_encoder() is not None
    assert (left.gan_sha256, left.style_dim) == ("0" * 64, STYLE)


def test_yaws_learn_from_renderings_alone() -> None:
    """Without a prior of views no rendering teaches them, and the images may not."""
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    alone = {"view_prior": {"std": [0.0] * 6}, "weight_decay": 0.0}
    training = finetune.trainer(made(initial, **alone), initial)
    before = initial.shape_networks().view_net.head.weight
    assert training.step(Batch(some_images()))["loss"].isfinite()
    after = training.shape_networks.view_net.head.weight
    moved = (after != before).any(1)
    assert moved.tolist() == [True, False, True, True, True, False]


def test_the_spread_of_the_yaw_is_held_to_the_priors() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    wide = {"view_prior": {"std": [0.1, 5.0, 0.1, 0.0, 0.0, 0.0]}}
    narrow = {"view_prior": {"std": [0.1, 1e-9, 0.1, 0.0, 0.0, 0.0]}}
    for changes, least, most in ((wide, 1.0, 1.1), (narrow, 0.9, 1.0)):
        training = finetune.trainer(made(initial, **changes), initial)
        for _ in range(2):
            training.step(Batch(some_images()))
        factor = float(training.state()["objective"]["yaw_factor"])
        assert least < factor < most


def test_rolls_that_follow_yaws_are_taught_less() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    objective = finetune.SingleImages(made(initial))
    view = torch.zeros(4, 6)
    view[:, 1] = torch.tensor([-0.4, -0.1, 0.1, 0.4])
    view[:, 2] = 0.5 * view[:, 1]
    objective._pin(view)
    assert float(objective.roll_slope) == pytest.approx(finetune.PIN_RATE * 0.5)


def test_it_goes_on_from_a_state() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    images = some_images()
    whole, first, second = (finetune.trainer(made(initial), initial) for _ in range(3))
    for _ in range(3):
        whole.step(Batch(images))
    first.step(Batch(images))
    second.restore(first.state())
    for _ in range(2):
        second.step(Batch(images))
    ours, theirs = (each.networks().parameters for each in (second, whole))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, msg=name)


def test_settings_come_from_a_preset() -> None:
    run = load_config("heads64-finetune", {"optimization.symmetry_step3": "never"})
    config = baseline_config(finetune_settings(run))
    assert isinstance(config, FinetuneConfig)
    assert (config.mask, config.symmetric) == ("background", False)
    assert config.view_prior == run.view_prior
    assert config.depth_smoothness == run.optimization.depth_smoothness
    with pytest.raises(ConfigError, match="takes no mask files"):
        finetune_settings(load_config("heads64-finetune", {"mask": "given"}))

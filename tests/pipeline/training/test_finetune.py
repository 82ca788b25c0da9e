"""Finetuning: what it keeps, what teaches the views, and that it goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.networks.trained import NetworksError, TrainedNetworks
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.training import finetune
from gan2shape.pipeline.training.trainer import Batch
from gan2shape.schemas.errors import ConfigError
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.network_training import FinetuneConfig, baseline_config, finetune_settings
from tests.networks import tiny_networks

SIZE, STYLE = 32, 8


def made(initial: TrainedNetworks, **changes: Any) -> FinetuneConfig:
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
    torch.testing.assert_close(training.predict(images).depth, start)
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


def test_known_masks_take_the_place_of_found_ones() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    objective = finetune.Finetuning(made(initial, mask="background"))
    images = some_images()
    half = torch.ones(4, SIZE, SIZE)
    half[:, : SIZE // 2] = 0
    found = object_masks(images, objective.single.config.background_threshold).float()

    def photometric(masks: Tensor | None) -> Tensor:
        return objective(initial.shape_networks(), Batch(images, masks=masks), 0).figures[
            "photometric"
        ]

    torch.testing.assert_close(photometric(found), photometric(None))
    assert float(photometric(half) - photometric(None)) != pytest.approx(0, abs=1e-4)


def test_the_halves_of_an_image_are_compared_where_the_settings_say_so() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    losses = []
    for changes in ({}, {"colour_symmetry": 2.0}, {"colour_symmetry": 2.0, "symmetric": False}):
        objective = finetune.Finetuning(made(initial, **changes))
        loss, figures, _ = objective(initial.shape_networks(), Batch(some_images()), 0)
        losses.append(loss)
        assert ("asymmetry" in figures) == (changes == {"colour_symmetry": 2.0})
    plain, halves, no_symmetry = losses
    assert (halves > plain).all()
    assert no_symmetry.isfinite().all()


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
    wide = {"view_prior": {"std": [0.1, 3.0, 0.1, 0.0, 0.0, 0.0]}}
    narrow = {"view_prior": {"std": [0.1, 1e-9, 0.1, 0.0, 0.0, 0.0]}}
    for changes, least, most in ((wide, 1.0, 1.1), (narrow, 0.9, 1.0)):
        training = finetune.trainer(made(initial, **changes), initial)
        for _ in range(2):
            training.step(Batch(some_images()))
        factor = float(training.state()["objective"]["single.yaw_factor"])
        assert least < factor < most


def test_shapes_come_closer_to_the_teachers() -> None:
    initial, other = (tiny_networks("0" * 64, STYLE, SIZE, seed) for seed in (0, 1))
    alone = made(initial, perceptual_weight=0.0, learning_rate=1e-3, mirror=False, symmetric=False)
    training = finetune.trainer(alone, initial, teachers=[other])
    figures = [training.step(Batch(some_images())) for _ in range(20)]
    assert figures[-1]["from_teachers_degrees"] < 0.8 * figures[0]["from_teachers_degrees"]
    without = finetune.trainer(alone, initial)
    assert "from_teachers_degrees" not in without.step(Batch(some_images()))
    assert set(training.state()["objective"]) == set(without.state()["objective"])
    assert [each.networks for each in training.networks().teachers] == [other.networks]
    assert without.networks().teachers == ()
    agreed = finetune.trainer(alone, initial, teachers=[initial])
    assert agreed.step(Batch(some_images()))["from_teachers_degrees"] < 0.1


def test_teachers_need_the_same_camera() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    other = replace(tiny_networks("0" * 64, STYLE, 2 * SIZE), source="large")
    with pytest.raises(NetworksError, match="large see images through another camera"):
        finetune.trainer(made(initial), initial, teachers=[other])


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
    run = load_settings("heads", "finetune", overrides={"optimization.symmetry_step3": "never"})
    config = baseline_config(finetune_settings(run))
    assert isinstance(config, FinetuneConfig)
    assert (config.mask, config.symmetric) == ("background", False)
    assert config.view_prior == run.view_prior
    assert config.depth_smoothness == run.optimization.depth_smoothness
    with pytest.raises(ConfigError, match="takes no mask files"):
        finetune_settings(load_settings("heads", "finetune", overrides={"mask": "given"}))

"""Finetuning: what it keeps, and that it goes on from the networks it is given."""

from __future__ import annotations

import torch

from gan2shape.pipeline.baselines import finetune
from gan2shape.pipeline.baselines.training import Batch
from gan2shape.pipeline.pretrained import Pretrained
from gan2shape.schemas.baseline_training import FinetuneConfig, baseline_config
from tests.networks import tiny_networks

SIZE, STYLE = 32, 8


def made(initial: Pretrained) -> FinetuneConfig:
    config = baseline_config(
        {
            "method": "finetune",
            "camera": initial.camera,
            "networks": initial.networks,
            "warm_up": 4,
            "precision": "float32",
        }
    )
    assert isinstance(config, FinetuneConfig)
    return config


def test_views_and_the_encoder_stay_and_the_rest_learns() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    training = finetune.trainer(made(initial), initial)
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    start = initial.shape_networks()
    with torch.no_grad():
        torch.testing.assert_close(training.look(images).depth, start.depth(images))

    def changed() -> set[str]:
        after = training.networks().parameters
        return {
            name.split(".")[0]
            for name, value in initial.parameters.items()
            if not torch.equal(value, after[name])
        }

    training.step(Batch(images))
    assert changed() == {"albedo_net", "light_net"}  # the warm-up
    for _ in range(2):
        training.step(Batch(images))
    assert changed() == {"albedo_net", "light_net", "depth_net"}
    left = training.networks()
    assert left.offset_encoder() is not None
    assert (left.gan_sha256, left.style_dim) == ("0" * 64, STYLE)


def test_it_goes_on_from_a_state() -> None:
    initial = tiny_networks("0" * 64, STYLE, SIZE)
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
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

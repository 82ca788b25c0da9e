"""Projection with an untrained encoder: what must hold whatever it has learnt."""

from __future__ import annotations

import pytest
import torch

from gan2shape.pipeline.evaluation.projector import OBJECTS, Projector
from gan2shape.pipeline.networks.shape_networks import OffsetEncoder
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.schemas.settings import InversionConfig, LatentConfig, NetworkConfig

SIZE, STYLE, DEPTH = 32, 16, 3


@pytest.fixture(scope="module")
def gan() -> Gan:
    torch.manual_seed(0)
    return Gan(Generator(SIZE, STYLE, DEPTH, dict.fromkeys((4, 8, 16, 32), 8)), None, "", "")


@pytest.fixture(scope="module")
def encoder() -> OffsetEncoder:
    torch.manual_seed(1)
    return OffsetEncoder(SIZE, NetworkConfig(width=8), STYLE)


def test_what_the_gan_made_is_projected_onto_itself(gan, encoder):
    options = LatentConfig(mapping_layers=1, relative=True)  # more would take the pixel norm too
    latents = gan.generator.sample_latents(3, 5)
    with torch.no_grad():
        own = gan.generator(latents)
    pictures = torch.stack([own, own.flip(-1)], dim=1)  # (3, 2, 3, S, S)
    found = Projector(gan, encoder, options, None, "float32")(
        pictures, torch.ones(3, 2, SIZE, SIZE), latents
    )
    assert found.shape == pictures.shape
    torch.testing.assert_close(found[:, 0], own.clamp(-1, 1), rtol=0, atol=1e-4)
    assert (found[:, 1] - found[:, 0]).abs().max() > 1e-3


def test_company_makes_no_difference(gan, encoder):
    project = Projector(gan, encoder, LatentConfig(mapping_layers=2), None, "float32")
    count = OBJECTS + 1  # more than are projected at once
    latents = gan.generator.sample_latents(count, 6)
    random = torch.Generator().manual_seed(2)
    pictures = torch.rand(count, 2, 3, SIZE, SIZE, generator=random) * 2 - 1
    masks = torch.ones(count, 2, SIZE, SIZE)
    whole = project(pictures, masks, latents)
    for part in (slice(1, 2), slice(OBJECTS, count)):
        alone = project(pictures[part], masks[part], latents[part])
        torch.testing.assert_close(alone, whole[part], rtol=0, atol=1e-4)


def test_refinement_comes_closer(gan, encoder):
    latents = gan.generator.sample_latents(2, 7)
    with torch.no_grad():
        wanted = gan.generator(latents.flip(0)).clamp(-1, 1)[:, None]
    options = LatentConfig(mapping_layers=1)
    steps = InversionConfig(iterations=20, learning_rate=0.2, perceptual_weight=0.0)
    masks = torch.zeros(2, 1, SIZE, SIZE)
    masks[..., : SIZE // 2] = 1  # the left half counts
    gaps = []
    for config in (None, steps):
        made = Projector(gan, encoder, options, config, "float32")(wanted, masks, latents)
        gaps.append((made - wanted).abs().unflatten(-1, (2, -1)).mean((0, 1, 2, 3, 5)))
    plain, refined = gaps
    assert refined[0] < 0.8 * plain[0]
    assert refined[0] / plain[0] < refined[1] / plain[1]

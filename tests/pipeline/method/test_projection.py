"""Projection with an untrained encoder: what must hold whatever it has learnt."""

from __future__ import annotations

import pytest
import torch

from gan2shape.pipeline.method.projection import latent_offset
from gan2shape.pipeline.networks.shape_networks import OffsetEncoder
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.schemas.settings import LatentConfig, NetworkConfig

SIZE, STYLE, DEPTH = 32, 16, 3


@pytest.fixture(scope="module")
def gan() -> Gan:
    torch.manual_seed(0)
    return Gan(Generator(SIZE, STYLE, DEPTH, dict.fromkeys((4, 8, 16, 32), 8)), None, "", "")


@pytest.fixture(scope="module")
def encoder() -> OffsetEncoder:
    torch.manual_seed(1)
    return OffsetEncoder(SIZE, NetworkConfig(width=8), STYLE)


def test_offsets_are_regularised_by_the_mapping_network(gan, encoder):
    pictures = torch.zeros(1, 3, SIZE, SIZE)
    mapping, place = gan.generator.mapping, torch.zeros(1, dtype=torch.long)

    def offset(**options: object) -> torch.Tensor:
        return latent_offset(encoder, mapping, LatentConfig(**options), pictures, None, place)

    with torch.no_grad():
        torch.testing.assert_close(offset(regularize=False, relative=False), encoder(pictures))
        *head, tail = mapping
        hidden = torch.nn.Sequential(*head)(torch.zeros(1, STYLE))
        expected = tail(encoder(pictures) + hidden) - tail(hidden)
        torch.testing.assert_close(offset(mapping_layers=1, relative=False), expected)
    with pytest.raises(ValueError, match="relative offsets"):
        offset(relative=True)

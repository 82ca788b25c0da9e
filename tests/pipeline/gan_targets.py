"""Targets that the GAN made itself, whose latents are exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gan2shape.pipeline.method.group import Targets
from gan2shape.pipeline.stylegan2 import Gan


def gan_targets(gan: Gan, ids: Sequence[str]) -> Targets:
    """Always the same images for as many ids."""
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(len(ids), gan.generator.style_dim, generator=random)
    with torch.no_grad():
        latents = gan.generator.mapping(noise)
        images = gan.generator(latents).float().clamp(-1, 1).contiguous()
    return Targets(list(ids), images, (images.mean(1) > -0.9).float(), latents)

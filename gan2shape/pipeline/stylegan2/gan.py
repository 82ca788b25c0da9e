"""A pretrained GAN: generator, discriminator, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.generator import Generator


@dataclass(frozen=True)
class Gan:
    """A pretrained generator and discriminator, frozen and in evaluation mode."""

    generator: Generator
    discriminator: Discriminator | None
    sha256: str
    """Of the file that they came from."""
    source: str
    latent_avg: Tensor | None = None
    """Mean w (D,), where the file tells it."""

    def to(self, device: torch.device | str) -> Gan:
        """Move the networks to `device`, in place; returns the GAN there."""
        self.generator.to(device)
        if self.discriminator is not None:
            self.discriminator.to(device)
        average = None if self.latent_avg is None else self.latent_avg.to(device)
        return Gan(self.generator, self.discriminator, self.sha256, self.source, average)

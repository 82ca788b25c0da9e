"""StyleGAN2: generator, discriminator, directions in its latent space, training."""

from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.stylegan2.generator import Generator

__all__ = ["Discriminator", "Gan", "Generator"]

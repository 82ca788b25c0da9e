"""StyleGAN2: generator, discriminator, checkpoint formats, inversion."""

from gan2shape.pipeline.stylegan2.checkpoint import (
    CheckpointError,
    Gan,
    export_rosinality,
    load_gan,
    save_gan,
)
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.generator import Generator

__all__ = [
    "CheckpointError",
    "Discriminator",
    "Gan",
    "Generator",
    "export_rosinality",
    "load_gan",
    "save_gan",
]

"""The settings of `gan2shape train gan`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from gan2shape.schemas.base import (
    Count,
    Images,
    Layers,
    LearningRate,
    Positive,
    Precision,
    Seed,
    Settings,
    Share,
    Weight,
    Width,
    first_problem,
)
from gan2shape.schemas.errors import ConfigError

SIDES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


class AugmentConfig(Settings):
    """Transforms that the discriminator sees real and generated images through, each with the
    probability that the adaptive rule sets: they do not leak into what the generator draws.
    """

    mirror: bool = Field(
        default=False,
        description="Mirror images. Leave it out where left and right differ, as in lit faces.",
    )
    shift: Share = Field(
        default=0.125, description="Largest shift as a share of the size; shifts are whole pixels."
    )
    scale: float = Field(
        default=0.2,
        ge=0,
        le=3,
        description="Standard deviation of the binary logarithm of the zoom.",
    )
    rotation_degrees: float = Field(
        default=15.0, ge=0, le=180, description="Largest rotation, in degrees."
    )
    brightness: float = Field(
        default=0.2, ge=0, le=2, description="Standard deviation of the added brightness."
    )
    contrast: float = Field(
        default=0.3,
        ge=0,
        le=3,
        description="Standard deviation of the binary logarithm of the contrast.",
    )
    saturation: float = Field(
        default=0.5,
        ge=0,
        le=3,
        description="Standard deviation of the binary logarithm of the saturation.",
    )


class GanTrainingConfig(Settings):
    """All that decides the weights of a training, besides the images and the initial weights.

    Counts of images are numbers of real images shown to the discriminator.
    """

    size: int = Field(
        default=64, ge=8, le=1024, description="Width and height in pixels, a power of two."
    )
    channels: tuple[Width, ...] = Field(
        default=(128, 128, 128, 64, 32),
        description="Channels of generator and discriminator at 4 pixels, at 8 pixels, and so on.",
    )
    style_dim: Width = Field(default=256, description="Numbers of a latent.")
    mapping_layers: Layers = Field(default=8, description="Layers of the mapping network.")
    images: Images = Field(
        default=200_000, description="Budget: training ends when so many images have been shown."
    )
    batch: Positive = Field(default=16, description="Images of one step.")
    learning_rate: LearningRate = Field(default=0.002, description="Adam's learning rate.")
    warm_up: Count = Field(default=1000, description="Images over which the learning rate rises.")
    r1: Weight = Field(
        default=0.1, description="Weight of the gradient penalty R1 on real images (gamma)."
    )
    r1_interval: Positive = Field(default=16, description="Steps from one R1 penalty to the next.")
    path_length: Weight = Field(
        default=0.0, description="Weight of path-length regularisation; 2 in the StyleGAN2 paper."
    )
    path_length_interval: Positive = Field(
        default=8, description="Steps from one path-length regularisation to the next."
    )
    style_mixing: Share = Field(
        default=0.9, description="Share of generated images that mix two latents."
    )
    ema_half_life: Images = Field(
        default=10_000, description="Images over which the averaged weights forget half."
    )
    ema_ramp_up: float = Field(
        default=0.05,
        ge=0,
        le=100,
        description="Largest half-life of the averaged weights, as a share of the images shown so "
        "far; 0 for no limit.",
    )
    ada_target: Share = Field(
        default=0.6,
        description="Images are augmented more where the mean sign of the discriminator on real "
        "images, E[sign D(x)], is above this; 0 for no augmentation.",
    )
    ada_images: Images = Field(
        default=200_000,
        description="Fewest images over which the probability of augmentation rises from 0 to 1.",
    )
    augment: AugmentConfig = AugmentConfig()
    shift: int = Field(
        default=0,
        ge=0,
        le=511,
        description="Largest random shift of the real images, in pixels. The generator then learns "
        "to move the object. Use it where all images are aligned.",
    )
    mirror: bool = Field(default=False, description="Mirror half of the real images.")
    precision: Precision = Field(
        default="auto",
        description="Arithmetic of the networks; auto takes bfloat16 where the hardware "
        "multiplies it natively.",
    )
    seed: Seed = Field(default=0, description="Seed of all randomness.")

    @model_validator(mode="after")
    def _fits(self) -> GanTrainingConfig:
        if self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from 8 to 1024, not {self.size}")
        if len(self.channels) != len(self.sides):
            raise ValueError(
                f"channels must have {len(self.sides)} widths, for {self.sides[0]} to {self.size} "
                f"pixels, not {len(self.channels)}"
            )
        if self.shift >= self.size // 2:
            raise ValueError(f"shift must be less than half the size, not {self.shift}")
        return self

    @property
    def sides(self) -> tuple[int, ...]:
        """4, 8, ..., size."""
        return tuple(side for side in SIDES if side <= self.size)

    @property
    def widths(self) -> dict[int, int]:
        """Resolution -> channels."""
        return dict(zip(self.sides, self.channels, strict=True))


ARCHITECTURE = ("size", "channels", "style_dim", "mapping_layers")
"""Settings that a training cannot change when it goes on."""


def default_channels(size: int) -> tuple[int, ...]:
    """Widths for `size` where none are given: 128 up to 16 pixels, then half for each doubling."""
    return tuple(max(16, min(128, 128 * 16 // side)) for side in SIDES if side <= size)


def training_config(values: dict[str, Any]) -> GanTrainingConfig:
    """Check settings; raises `ConfigError` with one sentence that names the setting."""
    try:
        return GanTrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"GAN training: {first_problem(error, GanTrainingConfig)}.") from error

"""What `gan2shape gan train` is told to do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gan2shape.schemas.settings import ConfigError, Settings, first_problem

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

SIDES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


class AugmentConfig(Settings):
    """Transforms that the discriminator sees real and generated images through, each with the
    probability that the adaptive rule sets: they do not leak into what the generator draws.
    """

    mirror: bool = False
    """Mirror images; leave it out where left and right differ, as faces and lights do."""
    shift: Share = 0.125
    """Largest shift as a share of the size; shifts are whole pixels."""
    scale: float = Field(default=0.2, ge=0)
    """Standard deviation of the binary logarithm of the zoom."""
    rotation_degrees: float = Field(default=15.0, ge=0)
    brightness: float = Field(default=0.2, ge=0)
    contrast: float = Field(default=0.3, ge=0)
    """Standard deviation of the binary logarithm of the contrast."""
    saturation: float = Field(default=0.5, ge=0)
    """Standard deviation of the binary logarithm of the saturation."""


class GanTrainingConfig(Settings):
    """All that decides the weights of a training, besides the images and the initial weights.

    Counts of images are numbers of real images shown to the discriminator.
    """

    size: Positive = 64
    channels: tuple[Positive, ...] = (128, 128, 128, 64, 32)
    """Widths at 4, 8, ..., size pixels, of generator and discriminator."""
    style_dim: Positive = 256
    mapping_layers: Positive = 8
    images: Positive = 200_000
    """Budget: training ends when so many have been shown."""
    batch: Positive = 16
    learning_rate: float = Field(default=0.002, gt=0)
    warm_up: Count = 1000
    """Images over which the learning rate rises to its value."""
    r1: float = Field(default=0.1, ge=0)
    """Weight of the gradient penalty on real images (gamma; half of it multiplies the norm)."""
    r1_interval: Positive = 16
    """Iterations from one penalty to the next; its weight makes up for the rest."""
    path_length: float = Field(default=0.0, ge=0)
    """Weight of path-length regularisation (2 in the StyleGAN2 paper; small nets do without)."""
    path_length_interval: Positive = 8
    style_mixing: Share = 0.9
    """Share of generated images that mix two latents."""
    ema_half_life: Positive = 10_000
    """Images over which the averaged weights forget half."""
    ema_ramp_up: float = Field(default=0.05, ge=0)
    """The half-life is at most this share of the images shown so far; 0 for no such limit."""
    ada_target: Share = 0.6
    """The share by which the discriminator may be sure of real images, E[sign D(x)], before the
    images are augmented more; 0 switches augmentation off."""
    ada_images: Positive = 200_000
    """Images over which the probability of augmentation can go from 0 to 1."""
    augment: AugmentConfig = AugmentConfig()
    shift: Count = 0
    """Pixels by which the images themselves are shifted at random, so that the generator learns to
    move the object; for images that are all aligned alike."""
    mirror: bool = False
    """Mirror half of the images themselves."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto takes bfloat16 where the hardware multiplies it natively."""
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> GanTrainingConfig:
        if self.size < 8 or self.size > SIDES[-1] or self.size & (self.size - 1):
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
        raise ConfigError(f"GAN training: {first_problem(error)}.") from error

"""Pictures of shapes, projected onto a GAN's images: what step 2 does with pseudo samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gan2shape.pipeline.method.projection import latent_offset
from gan2shape.pipeline.perceptual.inversion import LatentSpace, measure_space, pictures, refine
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.settings import InversionConfig, LatentConfig

OBJECTS = 8
"""Objects whose pictures are projected at once."""


@dataclass(frozen=True)
class Projector:
    """A GAN with its offset encoder, as joint training leaves them."""

    gan: Gan
    encoder: nn.Module
    options: LatentConfig
    """Those that the encoder was trained with."""
    refinement: InversionConfig | None
    """How the latents that the encoder proposes are optimised, if they are."""
    precision: str = "auto"

    @cached_property
    def _space(self) -> LatentSpace:
        return measure_space(self.gan)

    def __call__(self, renderings: Tensor, masks: Tensor, latents: Tensor) -> Tensor:
        """What the GAN makes of K renderings each of B objects: (B, K, 3, S, S) in [-1, 1].

        Args:
            renderings: (B, K, 3, S, S) in [-1, 1], filled where they show nothing.
            masks: (B, K, S, S), where they show something: only that is worth refining for.
            latents: (B, D), the objects' own.
        """
        parts = (values.split(OBJECTS) for values in (renderings, masks, latents))
        found = torch.cat([self._project(*part) for part in zip(*parts, strict=True)])
        return found.clamp(-1, 1)

    def _project(self, renderings: Tensor, masks: Tensor, latents: Tensor) -> Tensor:
        count, size = renderings.shape[1], renderings.shape[-1]
        flat, mapping = renderings.flatten(0, 1), self.gan.generator.mapping
        place = torch.arange(len(latents), device=latents.device).repeat_interleave(count)
        with torch.no_grad(), autocast(flat.device, self.precision):
            anchors = pictures(self.gan.generator, latents, size)
            offset = latent_offset(self.encoder, mapping, self.options, flat, anchors, place)
            proposed = latents[place] + offset
        if self.refinement is None:
            with torch.no_grad(), autocast(flat.device, self.precision):
                made = pictures(self.gan.generator, proposed, size)
        else:
            made = refine(
                self.gan,
                flat,
                proposed,
                self.refinement,
                masks=masks.flatten(0, 1),
                precision=self.precision,
                space=self._space,
            ).images
        return made.unflatten(0, (len(latents), count))

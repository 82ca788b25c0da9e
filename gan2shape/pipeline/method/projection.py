"""Projection of pictures onto a GAN's images (section 3.2): G(w + dw), dw from the offset encoder.

A rendering of a shape becomes an image that the GAN could have made: what the rendering lacks or
has wrong is put right, and what the GAN cannot show is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gan2shape.pipeline.perceptual.inversion import LatentSpace, measure_space, pictures, refine
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.settings import InversionConfig, LatentConfig

OBJECTS = 8
"""Objects whose pictures are projected at once."""


def latent_offset(
    encoder: nn.Module,
    mapping: nn.Sequential,
    options: LatentConfig,
    images: Tensor,
    anchors: Tensor | None,
    place: Tensor,
) -> Tensor:
    """The offset dw (B, D) that the encoder proposes for `images` (B, 3, S, S).

    With latent regularisation the code passes the last layers F of the mapping network,
    dw = F(code + h0) - F(h0), h0 being the hidden code of z = 0 there (section 3.2).

    Args:
        encoder: images (B, 3, S, S) to codes (B, D).
        mapping: the generator's mapping network.
        anchors: (A, 3, S, S), the GAN's images of latents that codes are relative to; needed where
            `options` ask for relative ones.
        place: (B,) which of the anchors goes with each image.
    """
    code = encoder(images)
    if options.relative:
        if anchors is None:
            raise ValueError("relative offsets need the GAN's images of the latents")
        code = code - encoder(anchors)[place]
    if not options.regularize:
        return code
    head, tail = _split_mapping(mapping, options.mapping_layers)
    with torch.autocast(code.device.type, enabled=False):
        with torch.no_grad():
            hidden = head(torch.zeros_like(code[:1]))
            origin = tail(hidden)
        return tail(code + hidden) - origin


@dataclass(frozen=True)
class Projector:
    """A GAN with its offset encoder, as pretraining leaves them."""

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


def _split_mapping(layers: nn.Sequential, last: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The mapping network before and from its `last` linear layers; all of them take the norm."""
    linear = len(layers) - 1
    cut = 0 if last == linear else len(layers) - last
    modules = list(layers)
    return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])

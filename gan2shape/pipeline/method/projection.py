"""Projection of pictures onto a GAN's images (section 3.2): G(w + dw), dw from the offset encoder.

A rendering of a shape becomes an image that the GAN could have made: what the rendering lacks or
has wrong is put right, and what the GAN cannot show is lost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan2shape.schemas.settings import LatentConfig


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


def _split_mapping(layers: nn.Sequential, last: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The mapping network before and from its `last` linear layers; all of them take the norm."""
    linear = len(layers) - 1
    cut = 0 if last == linear else len(layers) - last
    modules = list(layers)
    return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])

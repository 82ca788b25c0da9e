"""What turning and relighting of shapes are compared with: edits that know no shape."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.perceptual.inversion import pictures
from gan2shape.pipeline.scene.camera import Camera, pixel_rays
from gan2shape.pipeline.scene.render import warp
from gan2shape.pipeline.stylegan2.generator import Generator

BATCH = 32
"""Pictures that the generator makes at once."""
CARD_RADIUS = 0.06
"""In scene units: of the cylinder that turned pictures of validation heads best. A flat card does
no better than not turning at all."""


def turned_card(images: Tensor, yaws: Tensor, camera: Camera) -> Tensor:
    """Images (B, K, 3, S, S) of pictures (B, 3, S, S) on cards, turned by yaws (K,) in radians.

    A card is bent to the front half of a cylinder whose axis goes upright through the rotation
    centre, and goes on as a plane on both sides. What the cards leave free is black.
    """
    batch, count = len(images), len(yaws)
    views = torch.zeros(batch * count, 6).to(images)
    views[:, 1] = yaws.to(images).repeat(batch)
    across = pixel_rays(camera, images.device, images.dtype)[..., 0] * camera.rotation_depth
    bulge = (CARD_RADIUS**2 - across.square()).clamp(min=0).sqrt()
    card = (camera.rotation_depth - bulge)[None]  # (1, S, S)
    seen = warp(images.repeat_interleave(count, 0), card, views, camera)
    turned = torch.where(seen.mask[:, None] > 0.5, seen.image, -1.0)
    return turned.unflatten(0, (batch, count))


@torch.no_grad()
def moved_latents(generator: Generator, latents: Tensor, steps: Tensor, size: int) -> Tensor:
    """The generator's images (B, K, 3, size, size) of latents (B, D) moved by steps (B, K, D)."""
    moved = (latents[:, None] + steps).flatten(0, 1)
    parts = [pictures(generator, part, size) for part in moved.split(BATCH)]
    return torch.cat(parts).clamp(-1, 1).unflatten(0, steps.shape[:2])

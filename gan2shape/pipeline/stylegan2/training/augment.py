"""Image transforms for training: those between images and discriminator, and those of the data.

Adaptive augmentation follows Karras et al., "Training GANs with limited data" (NeurIPS 2020): real
and generated images pass the same random transforms, each applied with probability p, so that the
generator still learns the distribution of the images as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.schemas.gan_training import AugmentConfig


def augment(images: Tensor, p: float, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """Random transforms of `images` (B, 3, S, S), each of them with probability `p`.

    Differentiable with respect to the images. The images themselves at `p` = 0.
    """
    if p <= 0:
        return images
    return _recolour(_move(images, p, config, random), p, config, random)


def adapt(p: float, sureness: float, images: int, target: float, full_images: int) -> float:
    """The next probability of augmentation, up where `sureness` (mean sign of D on real images) is
    above `target`; `images` were seen since the last change, `full_images` take it from 0 to 1.
    """
    if target <= 0:
        return 0.0
    return min(max(p + math.copysign(images / full_images, sureness - target), 0.0), 1.0)


def shift_images(images: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Shift each of `images` (B, 3, S, S) by up to `most` whole pixels, repeating its border."""
    if most <= 0:
        return images
    batch, _, height, width = images.shape
    moves = torch.randint(-most, most + 1, (2, batch, 1), generator=random, device=images.device)
    rows = torch.arange(height, device=images.device) + moves[0]  # (B, H)
    columns = torch.arange(width, device=images.device) + moves[1]  # (B, W)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    sample = torch.arange(batch, device=images.device)
    pixels = images.permute(0, 2, 3, 1)
    moved = pixels[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def mirror_images(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror half of `images` (B, 3, S, S)."""
    flip = torch.rand(len(images), generator=random, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def _move(images: Tensor, p: float, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """Mirror, shift, zoom and rotate in one resampling; whole-pixel shifts stay exact."""
    batch, _, size, _ = images.shape
    draws = torch.rand(4, batch, generator=random, device=images.device)
    normal = torch.randn(batch, generator=random, device=images.device)
    uniform = torch.rand(3, batch, generator=random, device=images.device) * 2 - 1
    chosen = (draws < p).float()
    # a mirrored image is as likely as not, so the probability counts for half
    flip = torch.where(draws[0] < p / 2, -1.0, 1.0) if config.mirror else torch.ones_like(normal)
    zoom = torch.exp2(-config.scale * normal * chosen[1])
    angle = math.radians(config.rotation_degrees) * uniform[2] * chosen[2]
    most = math.floor(config.shift * size)
    # shifts in the units of affine_grid with align_corners: 2 across size - 1 pixels
    shifts = (uniform[:2] * (most + 0.5)).round().clamp(-most, most)
    shifts = shifts * (2.0 / (size - 1)) * chosen[3]
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    top = torch.stack((cosine * flip, -sine, shifts[0]), dim=1)
    bottom = torch.stack((sine * flip, cosine, shifts[1]), dim=1)
    matrix = torch.stack((top, bottom), dim=1).to(images.dtype)  # (B, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=True)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )


def _recolour(images: Tensor, p: float, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """Brightness, contrast about grey, saturation about the luma."""
    batch = images.shape[0]
    chosen = (torch.rand(3, batch, generator=random, device=images.device) < p).to(images.dtype)
    normal = torch.randn(3, batch, generator=random, device=images.device).to(images.dtype)
    normal = normal * chosen
    offset = (config.brightness * normal[0])[:, None, None, None]
    contrast = torch.exp2(config.contrast * normal[1])[:, None, None, None]
    saturation = torch.exp2(config.saturation * normal[2])[:, None, None, None]
    luma = images.mean(dim=1, keepdim=True)
    return (luma + (images - luma) * saturation) * contrast + offset

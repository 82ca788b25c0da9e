"""A quality figure that needs no other network: sliced Wasserstein distances.

Patches of 7 x 7 pixels at every level of a Laplacian pyramid compare detail by its size (Karras et
al., "Progressive growing of GANs", ICLR 2018); whole images at 16 x 16 pixels compare layout:
poses, colours, and how much they vary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

PATCH = 7
"""Pixels of a patch's side."""
PATCHES = 32
"""Patches of each image and level."""
PROJECTIONS = 256
"""Random directions that a distance is the mean over."""
LAYOUT = 16
"""Pixels of whole images when their layout is compared."""
Descriptors = Mapping[str, Tensor]


def descriptors(images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """What the distances compare, by name: "64", "32", "16" for the pyramid's levels, and "layout".

    Args:
        images: (N, 3, S, S) in [-1, 1]; compare equal numbers of images.
        seed: of the patches' places.
    Returns:
        (N * 32, 147) for each level, (N, 768) for the layout.
    """
    random = torch.Generator().manual_seed(seed)
    images = images.float()
    found: dict[str, Tensor] = {}
    level = images
    while level.shape[-1] >= 2 * LAYOUT:
        small = functional.avg_pool2d(level, 2)
        coarse = functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        found[str(level.shape[-1])] = _patches(level - coarse, random)
        level = small
    found[str(level.shape[-1])] = _patches(level, random)
    layout = functional.adaptive_avg_pool2d(images, min(LAYOUT, images.shape[-1]))
    found["layout"] = layout.flatten(1)
    return found


def descriptors_of_parts(parts: Iterable[Tensor]) -> dict[str, Tensor]:
    """`descriptors` of images that come in parts (n, 3, S, S), so that few are in memory at a time.

    Compare sets that came in equal parts.
    """
    found = [descriptors(part, seed) for seed, part in enumerate(parts)]
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def distances(found: Descriptors, reference: Descriptors, seed: int = 0) -> dict[str, float]:
    """Sliced Wasserstein-1 distances times 1000 from `reference`, in its spread; lower is better.

    By level, with "mean" over all of them. Equal sets have 0; two samples of one distribution have
    a positive value that falls with their number. The paper brings both sets to mean 0 and spread
    1; here only the reference sets the scale, so that wrong colours and contrasts count.
    """
    random = torch.Generator().manual_seed(seed)
    result: dict[str, float] = {}
    for name, values in reference.items():
        directions = torch.randn(values.shape[1], PROJECTIONS, generator=random)
        directions = (directions / directions.norm(dim=0)).to(values)
        spread = values.std().clamp_min(1e-6)
        own = (values @ directions).sort(dim=0).values
        other = (found[name] @ directions).sort(dim=0).values
        result[name] = 1000.0 * float((own - other).abs().mean() / spread)
    result["mean"] = sum(result.values()) / len(result)
    return result


def _patches(images: Tensor, random: torch.Generator) -> Tensor:
    """Random patches (N * 32, 3 * 7 * 7) of images (N, 3, S, S)."""
    count, channels, size, _ = images.shape
    place = torch.randint(0, size - PATCH + 1, (2, count, PATCHES, 1), generator=random)
    within = torch.arange(PATCH)
    rows, columns = (place + within).to(images.device)  # each (N, P, 7)
    sample = torch.arange(count, device=images.device)[:, None, None, None]
    pixels = images.permute(0, 2, 3, 1)
    patches = pixels[sample, rows[..., :, None], columns[..., None, :]]  # (N, P, 7, 7, 3)
    return patches.reshape(count * PATCHES, PATCH * PATCH * channels)

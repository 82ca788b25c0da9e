"""Random views and lights of pseudo samples (section 3.2 and the paper's appendix)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.scene.camera import YAW
from gan2shape.schemas.settings import LightPriorConfig, ViewPriorConfig


def sample_views(count: int, prior: ViewPriorConfig, random: Generator) -> Tensor:
    """Views (count, 6) from the prior's Gaussian, the yaw's spread multiplied by `view_scale`."""
    device = random.device
    std = torch.tensor(prior.std, device=device)
    std[YAW] = prior.yaw_std
    noise = torch.randn(count, 6, generator=random, device=device)
    return torch.tensor(prior.mean, device=device) + std * noise


def sample_lights(lights: Tensor, prior: LightPriorConfig, random: Generator) -> Tensor:
    """New lights (B, 4) from the prior's Gaussian, if it has one, or else around `lights` (B, 4).

    Around them means a random direction and an extra diffuse term r.
    Diffuse rises by r and ambient changes by `ambient_per_diffuse * r`, both as factors of the
    shading; the light's own numbers stand for half of that, hence the 2.
    """
    if prior.mean is not None and prior.std is not None:
        noise = torch.randn(len(lights), 4, generator=random, device=random.device)
        mean, std = (torch.tensor(x, device=random.device) for x in (prior.mean, prior.std))
        return (mean + std * noise).clamp(-1, 1)
    draw = torch.rand(len(lights), 3, generator=random, device=random.device)
    extra = _between(draw[:, 0], prior.diffuse)
    return torch.stack(
        [
            lights[:, 0] + 2 * prior.ambient_per_diffuse * extra,
            lights[:, 1] + 2 * extra,
            _between(draw[:, 1], prior.x),
            _between(draw[:, 2], prior.y),
        ],
        dim=1,
    )


def light_spread(prior: LightPriorConfig) -> Tensor:
    """Standard deviations (4,) of the lights that `sample_lights` draws for one image."""
    if prior.std is not None:
        return torch.tensor(prior.std)
    extra, x, y = ((high - low) / 12**0.5 for low, high in (prior.diffuse, prior.x, prior.y))
    return torch.tensor([2 * abs(prior.ambient_per_diffuse) * extra, 2 * extra, x, y])


def _between(unit: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * unit

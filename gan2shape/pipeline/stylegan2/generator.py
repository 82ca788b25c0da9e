"""The StyleGAN2 generator with skip connections, in the parameter naming of the rosinality port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from gan2shape.pipeline.seeds import SEED_STRIDE
from gan2shape.pipeline.stylegan2.ops import EqualLinear, PixelNorm, StyledConv, ToRgb, work_dtype

NoiseMode = Literal["fixed", "random", "none"]


class MappingNetwork(nn.Sequential):
    """z -> w: pixel norm, then `depth` linear layers with leaky ReLU.

    The modules are those of a plain `nn.Sequential`, index 0 being the pixel norm, so that its tail
    can be taken as GAN2Shape's latent regularisation does.
    """

    def __init__(self, style_dim: int, depth: int, lr_mul: float = 0.01) -> None:
        layers = [
            EqualLinear(style_dim, style_dim, lr_mul=lr_mul, activate=True) for _ in range(depth)
        ]
        super().__init__(PixelNorm(), *layers)


class ConstantInput(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class Generator(nn.Module):
    """Images from latents.

    `channels` maps each resolution 4, 8, ..., `size` to its width. `num_layers` latents enter an
    image; `forward` takes one w for all of them or one each.
    """

    def __init__(
        self, size: int, style_dim: int, mapping_depth: int, channels: Mapping[int, int]
    ) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"size must be a power of two of at least 8, not {size}")
        self.size = size
        self.style_dim = style_dim
        self.mapping_depth = mapping_depth
        self.channels = {side: channels[side] for side in resolutions(size)}
        self.num_layers = 2 * len(self.channels)

        self.style = MappingNetwork(style_dim, mapping_depth)
        self.input = ConstantInput(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], style_dim)
        self.to_rgb1 = ToRgb(channels[4], style_dim, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.noises = nn.Module()
        # without buffers in a file these stand: the same for everyone
        draw = torch.Generator().manual_seed(0)
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4, generator=draw))
        for index, side in enumerate(resolutions(size)[1:]):
            inputs, outputs = channels[side // 2], channels[side]
            self.convs.append(StyledConv(inputs, outputs, style_dim, upsample=True))
            self.convs.append(StyledConv(outputs, outputs, style_dim))
            self.to_rgbs.append(ToRgb(outputs, style_dim))
            for number in (2 * index + 1, 2 * index + 2):
                noise = torch.randn(1, 1, side, side, generator=draw)
                self.noises.register_buffer(f"noise_{number}", noise)

    @property
    def mapping(self) -> MappingNetwork:
        """z (B, D) -> w (B, D)."""
        return self.style

    def forward(
        self, w: Tensor, noise: NoiseMode = "fixed", random: torch.Generator | None = None
    ) -> Tensor:
        """Synthesise images.

        Args:
            w: latents (B, D), or (B, num_layers, D) with one per layer.
            noise: the checkpoint's own maps, fresh ones for every image, or no noise at all.
            random: where fresh noise comes from; the global generator if `None`.
        Returns:
            (B, 3, S, S) float32 in channels_last, about [-1, 1], not clamped.
        Raises:
            ValueError: `w` does not have one of the two shapes.
        """
        if w.dim() == 2:
            w = w[:, None].expand(-1, self.num_layers, -1)
        if w.shape[1:] != (self.num_layers, self.style_dim):
            raise ValueError(
                f"latents must be (B, {self.style_dim}) or (B, {self.num_layers}, "
                f"{self.style_dim}), not {tuple(w.shape)}"
            )
        batch = w.shape[0]

        def noise_map(number: int) -> Tensor | None:
            fixed: Tensor = getattr(self.noises, f"noise_{number}")
            if noise == "none":
                return None
            if noise == "fixed":
                return fixed
            shape = (batch, 1, *fixed.shape[2:])
            return torch.randn(shape, generator=random, device=fixed.device, dtype=fixed.dtype)

        x = self.input.input.expand(batch, -1, -1, -1)
        x = x.to(work_dtype(x)).contiguous(memory_format=torch.channels_last)
        x = self.conv1(x, w[:, 0], noise_map(0))
        image = self.to_rgb1(x, w[:, 1])
        for block, to_rgb in enumerate(self.to_rgbs):
            up, conv, latent = 2 * block, 2 * block + 1, 2 * block + 1
            x = self.convs[up](x, w[:, latent], noise_map(2 * block + 1))
            x = self.convs[conv](x, w[:, latent + 1], noise_map(2 * block + 2))
            image = to_rgb(x, w[:, latent + 2], image)
        return image

    @torch.no_grad()
    def sample_latents(self, count: int, seed: int) -> Tensor:
        """`count` random latents w (count, D), the same on every device."""
        # Networks are often initialised from a small seed, whose numbers are their first weights.
        draw = torch.Generator().manual_seed((seed + 1) * SEED_STRIDE % (1 << 63))
        z = torch.randn(count, self.style_dim, generator=draw)
        weight = self.input.input
        return self.mapping(z.to(weight.device, weight.dtype))

    def mean_latent(self, count: int = 10_000, seed: int = 0) -> Tensor:
        """Mean w of random samples: (D,)."""
        return self.sample_latents(count, seed).mean(dim=0)


def resolutions(size: int) -> list[int]:
    """4, 8, ..., size."""
    return [4 << step for step in range((size // 4).bit_length())]

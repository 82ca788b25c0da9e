"""The residual StyleGAN2 discriminator, in the parameter naming of the rosinality port."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan2shape.pipeline.stylegan2.generator import resolutions
from gan2shape.pipeline.stylegan2.ops import (
    EPSILON,
    GAIN,
    SLOPE,
    Bias,
    EqualConv2d,
    EqualLinear,
    Fir,
    conv_down,
    full_precision,
    work_dtype,
)


def _conv_activate(x: Tensor, layer: nn.Sequential) -> Tensor:
    """Convolution, bias, leaky ReLU with gain sqrt(2), the gain being folded into weights and
    bias.
    """
    conv, activate = cast(EqualConv2d, layer[0]), cast(Bias, layer[1])
    padding = conv.weight.shape[-1] // 2
    weight, bias = conv.scaled(GAIN).to(x.dtype), (activate.bias * GAIN).to(x.dtype)
    return functional.leaky_relu_(functional.conv2d(x, weight, bias, padding=padding), SLOPE)


class ResBlock(nn.Module):
    """Two convolutions, the second halving the resolution, beside a linear skip path: their sum
    over sqrt(2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv2d(inputs, inputs, 3), Bias(inputs))
        self.conv2 = nn.Sequential(Fir(), EqualConv2d(inputs, outputs, 3), Bias(outputs))
        self.skip = nn.Sequential(Fir(), EqualConv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        blur, conv, activate = self.conv2
        # the sum's 1/sqrt(2) cancels the activation's gain on the main path and scales the weights
        # of the other
        main = conv_down(
            _conv_activate(x, self.conv1),
            cast(EqualConv2d, conv).scaled(),
            cast(Fir, blur).kernel,
            cast(Bias, activate).bias,
        )
        blur, conv = self.skip
        skip = conv_down(
            x, cast(EqualConv2d, conv).scaled(1 / math.sqrt(2.0)), cast(Fir, blur).kernel
        )
        return functional.leaky_relu_(main, SLOPE) + skip


class Discriminator(nn.Module):
    """Real or fake: one logit per image.

    `channels` maps each resolution 4, 8, ..., `size` to its width. The last layers see the standard
    deviation over groups of up to four images, so a logit depends on the batch; `features` do not.
    """

    def __init__(self, size: int, channels: Mapping[int, int]) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"size must be a power of two of at least 8, not {size}")
        self.size = size
        self.channels = {side: channels[side] for side in resolutions(size)}
        sides = resolutions(size)[::-1]
        blocks: list[nn.Module] = [
            nn.Sequential(EqualConv2d(3, channels[size], 1), Bias(channels[size]))
        ]
        blocks += [ResBlock(channels[side], channels[side // 2]) for side in sides[:-1]]
        self.convs = nn.Sequential(*blocks)
        last = channels[4]
        self.final_conv = nn.Sequential(EqualConv2d(last + 1, last, 3), Bias(last))
        self.final_linear = nn.Sequential(
            EqualLinear(last * 16, last, activate=True), EqualLinear(last, 1)
        )

    @property
    def blocks(self) -> int:
        """How many feature maps there are: one from RGB, one per residual block."""
        return len(self.convs)

    def features(self, images: Tensor, blocks: int | None = None) -> list[Tensor]:
        """Feature maps of `images` (B, 3, H, W) after the RGB layer and after each residual block.

        The first `blocks` of them (all if `None`): (B, C, H, W), (B, C', H/2, W/2), ... in
        channels_last. The layers are convolutions, so images of another size than the
        discriminator's own will do.

        Raises:
            ValueError: the images do not fit, or there are fewer than `blocks` blocks.
        """
        count = self.blocks if blocks is None else blocks
        if not 1 <= count <= self.blocks:
            raise ValueError(f"blocks must be 1 to {self.blocks}, not {count}")
        step = 1 << (count - 1)
        if (
            images.dim() != 4
            or images.shape[1] != 3
            or any(side % step for side in images.shape[2:])
        ):
            raise ValueError(
                f"images must be (B, 3, H, W) with sides that are multiples of {step}, "
                f"not {tuple(images.shape)}"
            )
        x = images.to(work_dtype(images)).contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = []
        for index in range(count):
            block = self.convs[index]
            x = _conv_activate(x, cast(nn.Sequential, block)) if index == 0 else block(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) float32 of `images` (B, 3, size, size) in [-1, 1]; `ValueError` at other
        sizes.
        """
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"images must be (B, 3, {self.size}, {self.size}), not {tuple(images.shape)}"
            )
        x = self.features(images)[-1]
        x = torch.cat((x, _group_deviation(x)), dim=1)
        x = _conv_activate(x, self.final_conv)
        flat = x.flatten(1).to(images.dtype)  # channel-major, whatever the memory format
        logits: Tensor = self.final_linear(flat)
        return logits[:, 0]


def _group_deviation(x: Tensor, limit: int = 4) -> Tensor:
    """Mean standard deviation over groups of up to `limit` images, as one more channel (B, 1, H,
    W).
    """
    batch, _, height, width = x.shape
    group = next(size for size in range(min(limit, batch), 0, -1) if batch % size == 0)
    with full_precision(x):
        grouped = x.float().reshape(group, batch // group, -1)
        spread = torch.sqrt(grouped.var(dim=0, unbiased=False) + EPSILON).mean(dim=1)
    return spread.to(x.dtype).repeat(group)[:, None, None, None].expand(-1, 1, height, width)

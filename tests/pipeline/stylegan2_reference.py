"""StyleGAN2 written for reading: weights are modulated, filters run one after the other.

Works on a state dict in rosinality's naming. Slow, for small networks only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def linear(x: Tensor, state: State, name: str, lr_mul: float = 1.0) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * lr_mul / math.sqrt(weight.shape[1])).t() + bias * lr_mul


def upfirdn(x: Tensor, kernel: Tensor, up: int, down: int, before: int, after: int) -> Tensor:
    """Insert zeros, pad, convolve with the kernel, keep every `down`-th pixel."""
    batch, channels, height, width = x.shape
    wide = x.new_zeros(batch, channels, height * up, width * up)
    wide[:, :, ::up, ::up] = x
    wide = functional.pad(wide, (before, after, before, after))
    flat = wide.reshape(batch * channels, 1, *wide.shape[2:])
    out = functional.conv2d(flat, kernel.flip(0, 1)[None, None])
    return out.reshape(batch, channels, *out.shape[2:])[:, :, ::down, ::down]


def modulated(x: Tensor, w: Tensor, state: State, name: str, demodulate: bool) -> Tensor:
    """One image at a time; upsamples where the state has a blur."""
    weight = state[f"{name}.weight"][0]
    inputs, k = weight.shape[1:3]
    styles = linear(w, state, f"{name}.modulation")
    kernel = state.get(f"{name}.blur.kernel")
    made = []
    for image, style in zip(x, styles, strict=True):
        own = weight / math.sqrt(inputs * k * k) * style[None, :, None, None]
        if demodulate:
            own = own / torch.sqrt(own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if kernel is None:
            made.append(functional.conv2d(image[None], own, padding=k // 2))
        else:
            wide = functional.conv_transpose2d(image[None], own.transpose(0, 1), stride=2)
            made.append(upfirdn(wide, kernel, 1, 1, 1, 1))
    return torch.cat(made)


def mapping(z: Tensor, state: State) -> Tensor:
    x = z / torch.sqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
    depth = sum(key.startswith("style.") and key.endswith("weight") for key in state)
    for number in range(1, depth + 1):
        x = lrelu(linear(x, state, f"style.{number}", lr_mul=0.01))
    return x


def generator(w: Tensor, state: State, noisy: bool = True) -> Tensor:
    """Images of latents (B, L, D)."""

    def styled(x: Tensor, name: str, latent: int, noise: int) -> Tensor:
        y = modulated(x, w[:, latent], state, f"{name}.conv", demodulate=True)
        if noisy:
            y = y + state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"]
        return lrelu(y + state[f"{name}.activate.bias"][None, :, None, None])

    def rgb(x: Tensor, name: str, latent: int) -> Tensor:
        return modulated(x, w[:, latent], state, f"{name}.conv", False) + state[f"{name}.bias"]

    x = state["input.input"].repeat(len(w), 1, 1, 1)
    x = styled(x, "conv1", 0, 0)
    image = rgb(x, "to_rgb1", 1)
    blocks = sum(key.startswith("to_rgbs.") and key.endswith("upsample.kernel") for key in state)
    for block in range(blocks):
        x = styled(x, f"convs.{2 * block}", 2 * block + 1, 2 * block + 1)
        x = styled(x, f"convs.{2 * block + 1}", 2 * block + 2, 2 * block + 2)
        image = upfirdn(image, state[f"to_rgbs.{block}.upsample.kernel"], 2, 1, 2, 1)
        image = image + rgb(x, f"to_rgbs.{block}", 2 * block + 3)
    return image


def conv(x: Tensor, state: State, name: str, padding: int = 0, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    scale = 1 / math.sqrt(weight[0].numel())
    return functional.conv2d(x, weight * scale, padding=padding, stride=stride)


def activate(x: Tensor, state: State, name: str) -> Tensor:
    return lrelu(x + state[f"{name}.bias"][None, :, None, None])


def discriminator_features(images: Tensor, state: State) -> list[Tensor]:
    x = activate(conv(images, state, "convs.0.0"), state, "convs.0.1")
    maps = [x]
    block = 1
    while f"convs.{block}.conv1.0.weight" in state:
        name = f"convs.{block}"
        y = conv(x, state, f"{name}.conv1.0", padding=1)
        y = activate(y, state, f"{name}.conv1.1")
        y = upfirdn(y, state[f"{name}.conv2.0.kernel"], 1, 1, 2, 2)
        y = activate(conv(y, state, f"{name}.conv2.1", stride=2), state, f"{name}.conv2.2")
        skip = upfirdn(x, state[f"{name}.skip.0.kernel"], 1, 1, 1, 1)
        x = (y + conv(skip, state, f"{name}.skip.1", stride=2)) / math.sqrt(2)
        maps.append(x)
        block += 1
    return maps


def discriminator(images: Tensor, state: State) -> Tensor:
    x = discriminator_features(images, state)[-1]
    batch, channels, height, width = x.shape
    group = min(4, batch)
    y = x.view(group, -1, 1, channels, height, width)
    y = torch.sqrt(y.var(0, unbiased=False) + 1e-8).mean([2, 3, 4], keepdim=True).squeeze(2)
    x = torch.cat([x, y.repeat(group, 1, height, width)], 1)
    x = activate(conv(x, state, "final_conv.0", padding=1), state, "final_conv.1")
    x = lrelu(linear(x.reshape(batch, -1), state, "final_linear.0"))
    return linear(x, state, "final_linear.1")[:, 0]

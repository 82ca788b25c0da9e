"""Building blocks of StyleGAN2 (Karras et al., CVPR 2020), arranged for CPUs.

Convolutions are never grouped per sample: a modulated convolution scales its input by the style and
its output by the demodulation factor, which equals scaling the weights. Activations stay in
channels_last. Everything differentiates twice, as R1 and path-length regularisation need.

Parameters carry the names of the rosinality PyTorch port, see `generator.py` and
`discriminator.py`. The gains of the activations are folded into biases and scales, so that each
layer passes over its activations as rarely as possible.

Precision: styles, demodulation factors, weight scaling and the RGB sum are float32 also under
autocast; convolutions and the activations between them take the autocast type.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
GAIN = math.sqrt(2.0)
EPSILON = 1e-8


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which autocast leaves the operations on `tensor`'s device alone."""
    return torch.autocast(tensor.device.type, enabled=False)


def work_dtype(tensor: Tensor) -> torch.dtype:
    """The type that convolutions of `tensor` are computed in: autocast's, or its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def default_kernel(gain: float = 1.0) -> Tensor:
    """The FIR filter [1, 3, 3, 1] x [1, 3, 3, 1] with sum `gain`: (4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64.0)


class PixelNorm(nn.Module):
    """Scales every vector of the batch to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (B, D)
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: stored weights have the spread 1 / `lr_mul`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias_init)))
        self.scale = lr_mul / math.sqrt(inputs)
        self.lr_mul = lr_mul
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs) -> (B, outputs), float32
        with full_precision(x):
            bias = self.bias * self.lr_mul
            y = functional.linear(x.to(self.weight.dtype) * self.scale, self.weight, bias)
            return functional.leaky_relu(y, SLOPE) * GAIN if self.activate else y


class EqualConv2d(nn.Module):
    """Holder of convolution weights (O, I, k, k) of unit variance; compute with `scaled`."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1.0 / math.sqrt(inputs * kernel * kernel)

    def scaled(self, gain: float = 1.0) -> Tensor:
        return self.weight * (self.scale * gain)


class Bias(nn.Module):
    """Holder of the bias (C,) of a leaky ReLU with gain sqrt(2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class Fir(nn.Module):
    """Holder of a 4x4 FIR kernel."""

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", default_kernel(gain))


def _worth_folding(x: Tensor, side: int) -> bool:
    """Whether one 6x6 convolution beats a 3x3 one followed by a blur.

    It has four times the arithmetic and one pass over memory less: measured faster, forward plus
    backward, in reduced precision on maps that are large for their number of channels.
    """
    return x.dtype != torch.float32 and side >= 16 and x.shape[1] <= 128


def fold_blur(weight: Tensor, kernel: Tensor) -> Tensor:
    """Weights (O, I, k, k) convolved with the FIR `kernel` (4, 4): (O, I, k+3, k+3).

    As one matrix product, which is far cheaper than a convolution over so many small maps.
    """
    outputs, inputs, k, _ = weight.shape
    with full_precision(weight):
        unit = torch.eye(k * k, dtype=weight.dtype, device=weight.device).view(k * k, 1, k, k)
        spread = functional.conv2d(unit, kernel.flip(0, 1)[None, None].to(weight.dtype), padding=3)
        folded = weight.reshape(-1, k * k) @ spread.view(k * k, -1)
    return folded.view(outputs, inputs, k + 3, k + 3)


def _depthwise(x: Tensor, kernel: Tensor, padding: int, stride: int = 1) -> Tensor:
    channels = x.shape[1]
    taps = kernel.flip(0, 1).to(x.dtype).expand(channels, 1, 4, 4)
    return functional.conv2d(x, taps, padding=padding, stride=stride, groups=channels)


def conv_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Transposed 3x3 convolution with stride 2, then blur: (B, I, H, W) -> (B, O, 2H, 2W)."""
    if _worth_folding(x, min(x.shape[2:])):
        folded = fold_blur(weight, kernel).transpose(0, 1).to(x.dtype)
        return functional.conv_transpose2d(x, folded, stride=2, padding=2)
    y = functional.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2)
    return _depthwise(y, kernel, padding=1)


def conv_down(x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Blur, then 3x3 or 1x1 convolution with stride 2: (B, I, H, W) -> (B, O, H/2, W/2)."""
    k = weight.shape[-1]
    padding = (k + 1) // 2  # 2 for 3x3, 1 for 1x1
    bias = None if bias is None else bias.to(x.dtype)
    if _worth_folding(x, min(x.shape[2:]) // 2):
        # correlation with w after correlation with the flipped kernel = correlation with the full
        # convolution of both
        folded = fold_blur(weight, kernel.flip(0, 1)).to(x.dtype)
        return functional.conv2d(x, folded, bias, stride=2, padding=padding)
    weight = weight.to(x.dtype)
    if k == 1 and x.dtype == torch.float32:
        return functional.conv2d(_depthwise(x, kernel, padding, stride=2), weight, bias)
    # a strided depthwise convolution in bfloat16 has a very slow backward pass: blur densely there
    return functional.conv2d(_depthwise(x, kernel, padding), weight, bias, stride=2)


def upsample_image(x: Tensor, kernel: Tensor) -> Tensor:
    """FIR upsampling of an RGB image: (B, 3, H, W) -> (B, 3, 2H, 2W)."""
    with full_precision(x):
        channels = x.shape[1]
        taps = kernel.to(x.dtype).expand(channels, 1, 4, 4)
        return functional.conv_transpose2d(x, taps, stride=2, padding=1, groups=channels)


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are scaled per sample by a style and, optionally, normalised again.

    `forward` returns the plain result and the output scale (the demodulation factor, (B, O)) apart,
    so that the caller joins it with bias and activation.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style_dim: int, upsample: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(style_dim, inputs, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(inputs * kernel * kernel)
        if upsample:
            self.blur = Fir(gain=4.0)
        self.upsample = upsample
        self.padding = kernel // 2

    def forward(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight[0] * self.scale  # (O, I, k, k)
        factor = self.modulation(style)  # (B, I)
        with full_precision(factor):
            energy = weight.square().sum(dim=(2, 3))  # (O, I)
            demodulation = torch.rsqrt(factor.square() @ energy.t() + EPSILON)  # (B, O)
        x = x * factor.to(x.dtype)[:, :, None, None]
        if self.upsample:
            return conv_up(x, weight, self.blur.kernel), demodulation
        return functional.conv2d(x, weight.to(x.dtype), padding=self.padding), demodulation


class NoiseWeight(nn.Module):
    """Holder of the strength (1,) of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU with gain sqrt(2)."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style_dim, upsample)
        self.noise = NoiseWeight()
        self.activate = Bias(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        y, demodulation = self.conv(x, style)
        # leaky(y * d + n + b) * g = leaky(y * (d g) + (n + b) g), in two passes over y
        offset = self.activate.bias[None, :, None, None]
        if noise is not None:
            offset = offset + self.noise.weight * noise
        # addcmul takes the memory format of its first argument
        offset = (offset * GAIN).to(y.dtype).contiguous(memory_format=torch.channels_last)
        y = torch.addcmul(offset, y, (demodulation * GAIN).to(y.dtype)[:, :, None, None])
        return functional.leaky_relu_(y, SLOPE)


class ModulatedToRgb(nn.Module):
    """Holder of the modulated 1x1 convolution to RGB, which is not demodulated."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3, inputs, 1, 1))
        self.modulation = EqualLinear(style_dim, inputs, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(inputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        with full_precision(x):
            factor = self.modulation(style) * self.scale  # (B, I)
            weight = factor[:, :, None] * self.weight[0, :, :, 0, 0].t()  # (B, I, 3)
            # with so few outputs, weights per sample cost less than another pass over the
            # activations
            pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
            rgb = torch.bmm(pixels, weight.to(x.dtype))
        return rgb.view(batch, height, width, 3).permute(0, 3, 1, 2)


class ToRgb(nn.Module):
    """Adds a layer's contribution to the image, upsampled from the layer before: a sum in float32,
    whatever the layers compute in.
    """

    def __init__(self, inputs: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        if upsample:
            self.upsample = Fir(gain=4.0)
        self.conv = ModulatedToRgb(inputs, style_dim)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
        rgb = self.conv(x, style).to(self.bias.dtype) + self.bias
        return rgb if image is None else rgb + upsample_image(image, self.upsample.kernel)

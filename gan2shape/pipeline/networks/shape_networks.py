"""The networks of one image set: depth, albedo, view, light, and the latent-offset encoder."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.settings import NetworkConfig

CODE_CHANNELS = 256
"""Of the code between encoder and decoder, as published."""
BORDER_COLUMNS = 2
"""Columns at the left and right whose depth is fixed, as published."""
BORDER_WEIGHTS = (0.7, 0.3)
"""Of max_depth and min_depth in the depth there, as published."""
HEAD_GAIN = 0.1
"""On the last layer's initial weights: a depth starts nearly flat, a view nearly frontal."""


class UpsampledConv(nn.Conv2d):
    """A nearest upsample by two and a 5x5 convolution, at two fifths of the multiplications.

    Of five taps in a row some meet copies of one pixel. Their sums are four 3x3 convolutions of the
    map as it was, one for each place in a pixel's four copies.
    """

    meets: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2, bias=False)
        # Tap t of place p is one pixel of three: floor((p + t - 2) / 2) + 1.
        meets = torch.zeros(2, 3, 5)
        for place in range(2):
            for tap in range(5):
                meets[place, (place + tap) // 2, tap] = 1
        self.register_buffer("meets", meets, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, S, S) to (B, D, 2 S, 2 S)."""
        weight = torch.einsum("pyt,qxs,dcts->dpqcyx", self.meets, self.meets, self.weight)
        phases = nn.functional.conv2d(features, weight.flatten(0, 2), padding=1)
        return nn.functional.pixel_shuffle(phases, 2)


class EncoderDecoder(nn.Module):
    """Image to map: the "EDDeconv" of Unsup3d, one level deeper per doubling of the size above 64.

    With `fine` the last convolution runs in float32 even under autocast: depth needs more than
    bfloat16's 8 bits.
    """

    def __init__(self, size: int, width: int, out_channels: int, fine: bool) -> None:
        super().__init__()
        self.fine = fine
        levels = int(math.log2(size)) - 2
        widths = [width * min(2**level, 8) for level in range(levels)]
        self.encoder = nn.Sequential(
            *[
                layer
                for level, channels in enumerate(widths)
                for layer in (
                    nn.Conv2d(
                        3 if level == 0 else widths[level - 1], channels, 4, 2, 1, bias=False
                    ),
                    *([group_norm(channels)] if level < levels - 1 else []),
                    nn.LeakyReLU(0.2, inplace=True),
                )
            ],
            nn.Conv2d(widths[-1], CODE_CHANNELS, 4, bias=False),
            nn.ReLU(inplace=True),
        )
        decoder: list[nn.Module] = [
            nn.ConvTranspose2d(CODE_CHANNELS, widths[-1], 4, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        ]
        for below, channels in zip(widths[:0:-1], widths[-2::-1], strict=True):
            decoder += [
                nn.ConvTranspose2d(below, channels, 4, 2, 1, bias=False),
                group_norm(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                group_norm(channels),
                nn.ReLU(inplace=True),
            ]
        decoder += [
            UpsampledConv(width, width),
            group_norm(width),
            nn.ReLU(inplace=True),
        ]
        self.decoder = nn.Sequential(*decoder)
        self.head = nn.Conv2d(width, out_channels, 5, padding=2, bias=False)
        _keep_variance(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) to raw maps (B, out_channels, S, S), float32 and unbounded."""
        features = self.decoder(self.encoder(images))
        if not self.fine:
            return self.head(features).float()
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())


class VectorEncoder(nn.Module):
    """Image to a few numbers in [-1, 1]: strided convolutions and a tanh."""

    def __init__(self, size: int, width: int, outputs: int) -> None:
        super().__init__()
        levels = int(math.log2(size)) - 2
        widths = [3, *(width * min(2**level, 8) for level in range(levels))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(widths[-1], widths[-1], 4, bias=False), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], outputs, bias=False)
        _keep_variance(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) to (B, outputs), float32 in [-1, 1]."""
        features = self.features(images).flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            return torch.tanh(self.head(features.float()))


class _DownBlock(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(before, after, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        return (self.residual(features) + self.shortcut(features)) * math.sqrt(0.5)


class OffsetEncoder(nn.Module):
    """Image to a code of the GAN's style dimension, which step 2 turns into a latent offset."""

    def __init__(self, size: int, config: NetworkConfig, style_dim: int) -> None:
        super().__init__()
        levels = int(math.log2(size)) - 2
        widths = [_width(size, config) * min(2**level, 8) for level in range(levels)]
        self.features = nn.Sequential(
            nn.Conv2d(3, widths[0], 4, 2, 1),
            *[_DownBlock(a, b) for a, b in pairwise(widths)],
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[-1], 2 * widths[-1], 4),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.head = nn.Linear(2 * widths[-1], style_dim)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) to codes (B, style_dim), float32 and unbounded."""
        features = self.features(images).flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())


class ShapeNetworks(nn.Module):
    """Depth, albedo, view and light of an image in the units of the scene."""

    view_scale: Tensor

    def __init__(self, camera: Camera, config: NetworkConfig) -> None:
        super().__init__()
        width = _width(camera.size, config)
        self.camera = camera
        self.depth_net = EncoderDecoder(camera.size, width, 1, fine=True)
        self.albedo_net = EncoderDecoder(camera.size, width, 3, fine=False)
        self.view_net = VectorEncoder(camera.size, width, 6)
        self.light_net = VectorEncoder(camera.size, width, 4)
        turn = math.radians(config.max_view_degrees)
        scale = [turn] * 3 + [config.max_shift] * 2 + [config.max_shift_z]
        self.register_buffer("view_scale", torch.tensor(scale), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def depth(self, images: Tensor) -> Tensor:
        """Shape depth (B, S, S) in [min_depth, max_depth], flat at the left and right."""
        camera = self.camera
        raw = self.depth_net(images)[:, 0]
        unit = torch.tanh(raw - raw.mean((1, 2), keepdim=True))
        depth = 0.5 * ((1 + unit) * camera.max_depth + (1 - unit) * camera.min_depth)
        far, near = BORDER_WEIGHTS
        border = far * camera.max_depth + near * camera.min_depth
        inner = depth[:, :, BORDER_COLUMNS:-BORDER_COLUMNS]
        return nn.functional.pad(inner, (BORDER_COLUMNS, BORDER_COLUMNS), value=border)

    def albedo(self, images: Tensor) -> Tensor:
        """Shape albedo (B, 3, S, S) in [-1, 1]."""
        return torch.tanh(self.albedo_net(images))

    def view(self, images: Tensor) -> Tensor:
        """View (B, 6): rotations x, y, z in radians and translations x, y, z in scene units."""
        return self.view_net(images) * self.view_scale

    def light(self, images: Tensor) -> Tensor:
        """Light (B, 4) in [-1, 1]: ambient, diffuse, direction x and y."""
        return self.light_net(images)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Depth, albedo, view and light, as above."""
        return self.depth(images), self.albedo(images), self.view(images), self.light(images)


def _width(size: int, config: NetworkConfig) -> int:
    """Channels of the first layers; the paper's unless configured."""
    return config.width or max(4096 // size, 16)


def _keep_variance(network: EncoderDecoder | VectorEncoder) -> None:
    """He initialisation: signals neither fade nor grow with depth, and training starts sooner."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
        elif isinstance(module, nn.ConvTranspose2d):
            taps = math.prod(module.kernel_size) / math.prod(module.stride)
            # Every pixel of the 4x4 from the code sees one tap, later ones taps that overlap.
            overlap = 1 if module.stride[0] == 1 else taps
            nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * overlap)))
    with torch.no_grad():
        network.head.weight.mul_(HEAD_GAIN)


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of four channels, as in Unsup3d."""
    return nn.GroupNorm(max(channels // 4, 1), channels)

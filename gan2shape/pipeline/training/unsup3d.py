"""Rows 4 and 7 of the paper's table: Unsup3d (Wu et al., CVPR 2020).

Depth, albedo, view and light of an image are found by four networks that reconstruct it, twice:
from depth and albedo as they are, and mirrored. A fifth network says how well each pixel can be
reconstructed either way, so that what is not symmetric costs little. Without symmetry (row 7) the
second reconstruction is left out.

Nothing in single images but shading and perspective tells a deep relief that turns little from a
shallow one that turns much, and a training drifts from one to the other. So depths start from an
ellipsoid, as GAN2Shape's do, and all together stay as deep as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan2shape.pipeline.extensions.gradient_limit import with_limited_gradient
from gan2shape.pipeline.method.ellipsoid import ellipsoid_depth, ellipsoid_error
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks, group_norm
from gan2shape.pipeline.perceptual.losses import masked_mean, relative_relief
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.scene.render import warp
from gan2shape.pipeline.scene.shading import shade
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.training.trainer import Batch, Evaluation, Objective, Trainer
from gan2shape.schemas.network_training import Unsup3dConfig

CODE_CHANNELS = 128
"""Of the code between the confidence network's encoder and decoder, as published."""
GRADIENT_LIMIT = 5.0
"""On the depth's gradient, over its image's mean: a few triangles seen edge-on must not decide."""
TINY = 1e-7
"""Keeps logarithms and quotients of expected errors finite."""
FINEST = 1 / 255
"""Least error expected of a pixel in [-1, 1]: half a step of 8-bit images. Without one, what is
reconstructed very well would cost without bounds when it no longer is."""

Features = Callable[[Tensor], Tensor]
"""Images (B, 3, S, S) to maps (B, C, S / 4, S / 4) that are alike where images look alike."""


def vgg_features(lpips: Lpips) -> Features:
    """The paper's: VGG16 after its seventh convolution (relu3_3)."""
    return lambda images: lpips.activations(images, 3)[-1]


def discriminator_features(discriminator: Discriminator) -> Features:
    """A GAN's discriminator after its second block, where VGG16's weights are not at hand."""
    return lambda images: discriminator.features(images, 3)[-1]


class ConfidenceNetwork(nn.Module):
    """Image to the expected error of its reconstructions, per pixel and per feature."""

    def __init__(self, size: int, width: int, outputs: int) -> None:
        super().__init__()
        levels = int(math.log2(size)) - 2
        widths = [width * min(2**level, 8) for level in range(levels)]
        encoder: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([3, *widths])):
            encoder.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
            if level < levels - 1:
                encoder.append(group_norm(after))
            encoder.append(nn.LeakyReLU(0.2, inplace=True))
        encoder += [nn.Conv2d(widths[-1], CODE_CHANNELS, 4, bias=False), nn.ReLU(inplace=True)]
        self.encoder = nn.Sequential(
            *encoder,
            nn.ConvTranspose2d(CODE_CHANNELS, widths[-1], 4, bias=False),
            nn.ReLU(inplace=True),
        )
        # Up to a quarter of the size, where features are compared, and from there to the whole.
        coarse = [*widths[:0:-1]]
        self.decoder = nn.Sequential(*[_up(a, b) for a, b in pairwise(coarse)])
        self.feature_head = nn.Conv2d(coarse[-1], outputs, 3, padding=1, bias=False)
        self.finish = nn.Sequential(_up(coarse[-1], width), _up(width, width))
        self.pixel_head = nn.Conv2d(width, outputs, 5, padding=2, bias=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) to errors (B, outputs, S, S) from `FINEST` on and (B, outputs, S / 4,
        S / 4) above 0, float32.
        """
        features = self.decoder(self.encoder(images))
        coarse, fine = self.feature_head(features), self.pixel_head(self.finish(features))
        return FINEST + functional.softplus(fine.float()), functional.softplus(coarse.float())


class Reconstruction(Objective):
    """Negative log likelihood of the images' reconstructions and, with symmetry, mirrored ones."""

    def __init__(self, config: Unsup3dConfig, width: int, features: Features | None = None) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.weights = (1.0, config.flip_weight) if config.symmetric else (1.0,)
        self.confidence = ConfidenceNetwork(config.camera.size, width, len(self.weights))

    def trained(self, networks: ShapeNetworks) -> list[list[nn.Parameter]]:
        depth = list(networks.depth_net.parameters())
        others = [networks.albedo_net, networks.view_net, networks.light_net, self.confidence]
        return [[parameter for net in others for parameter in net.parameters()], depth]

    def rates(self, shown: int) -> tuple[float, float]:
        return 1.0, 1.0 if shown < self.config.warm_up else self.config.depth_rate

    def forward(self, networks: ShapeNetworks, batch: Batch, shown: int) -> Evaluation:
        config, images, camera = self.config, batch.images, networks.camera
        copies = len(self.weights)
        with autocast(images.device, config.precision):
            depth, albedo, view, light = networks.predict(images)
            fine, coarse = self.confidence(images)
        masks = object_masks(images, config.background_threshold).to(depth)
        ellipsoids = ellipsoid_depth(masks, camera, config.ellipsoid)
        relief = relative_relief(depth, ellipsoids, masks).mean()
        if shown < config.warm_up:
            prior = ellipsoid_error(depth, ellipsoids)
            depth, view = depth.detach(), view.detach()
        else:
            prior = config.relief_weight * (relief - 1).square()
        depth = with_limited_gradient(depth, GRADIENT_LIMIT)
        if config.symmetric:
            depth = torch.cat([depth, depth.flip(-1)])
            albedo = torch.cat([albedo, albedo.flip(-1)])
        texture = shade(albedo, normals_from_depth(depth, camera), light.repeat(copies, 1))
        rendering = warp(texture, depth, view.repeat(copies, 1), camera, config.renderer)
        found = rendering.image.unflatten(0, (copies, -1))  # (copies, B, 3, S, S)
        # Both reconstructions are judged where both show the object. A plain background is
        # reconstructed without error whatever the shape is, and outlines are drawn to it.
        seen = masks * rendering.mask.unflatten(0, (copies, -1)).prod(0)  # (B, S, S)
        error = (found - images).abs().mean(2)  # (copies, B, S, S)
        losses = masked_mean(laplace_loss(error, fine.transpose(0, 1)), seen)  # (copies, B)
        figures = {
            "photometric": masked_mean(error[0], seen).detach().mean(),
            "expected_error": fine.detach().mean(),
            "yaw_std": view[:, 1].detach().std(unbiased=False),
            "relief": relief.detach(),
        }
        if self.features is not None and config.perceptual_weight:
            with autocast(images.device, config.precision):
                with torch.no_grad():
                    wanted = self.features(images).float()
                maps = self.features(rendering.image).float().unflatten(0, (copies, -1))
            square = (maps - wanted).square().mean(2)  # (copies, B, S / 4, S / 4)
            known = functional.adaptive_avg_pool2d(seen, square.shape[-2:])
            perceptual = masked_mean(gauss_loss(square, coarse.transpose(0, 1)), known)
            losses = losses + config.perceptual_weight * perceptual
            figures["perceptual"] = masked_mean(square[0], known).detach().mean()
        weights = losses.new_tensor(self.weights)
        return Evaluation((weights[:, None] * losses).sum(0) + prior, figures)


def trainer(
    config: Unsup3dConfig,
    features: Features | None = None,
    device: torch.device | str = "cpu",
) -> Trainer:
    """A trainer from random networks; `features` are on `device` and frozen, `None` leaves the
    perceptual loss out.
    """

    def make() -> tuple[ShapeNetworks, Objective]:
        camera = Camera.from_config(config.camera)
        networks = ShapeNetworks(camera, config.networks)
        nn.init.zeros_(networks.depth_net.head.weight)  # a plane: noise would have to be unlearnt
        width = networks.depth_net.head.in_channels
        return networks, Reconstruction(config, width, features)

    return Trainer(config, make, device)


def laplace_loss(error: Tensor, expected: Tensor) -> Tensor:
    """Negative log likelihood of absolute errors under Laplacians of deviations `expected`.

    Both have one shape; the constant is left out.
    """
    expected = expected + TINY
    return math.sqrt(2) * error / expected + expected.log()


def gauss_loss(square: Tensor, expected: Tensor) -> Tensor:
    """Negative log likelihood of squared errors under Gaussians of standard deviations `expected`.

    Both have one shape; the constant is left out.
    """
    return square / (2 * expected.square() + TINY) + (expected + TINY).log()


def _up(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
        group_norm(after),
        nn.ReLU(inplace=True),
    )

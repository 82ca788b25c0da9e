"""Pretrained networks small enough for tests: random parameters."""

from __future__ import annotations

import torch

from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks, parameters_of
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.settings import CameraConfig, LatentConfig, NetworkConfig


def tiny_networks(gan_sha256: str, style_dim: int, size: int, seed: int = 0) -> TrainedNetworks:
    """Networks for a GAN; always the same for a seed."""
    camera, options = CameraConfig(size=size), NetworkConfig(width=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = ShapeNetworks(Camera.from_config(camera), options)
        encoder = OffsetEncoder(size, options, style_dim)
    parameters = parameters_of(networks, encoder)
    return TrainedNetworks(parameters, options, camera, style_dim, gan_sha256, LatentConfig())


def lpips_weights() -> dict[str, torch.Tensor]:
    """Random VGG16-LPIPS weights under the names of such files."""
    state: dict[str, torch.Tensor] = {}
    convolutions = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
    network = Lpips()
    for number, (layers, names) in enumerate(zip(network.slices, convolutions, strict=True), 1):
        for layer, name in zip(layers, names, strict=True):  # type: ignore[call-overload]
            state[f"net.slice{number}.{name}.weight"] = layer.weight.detach()
            state[f"net.slice{number}.{name}.bias"] = layer.bias.detach()
        head = network.heads[number - 1]
        state[f"lin{number - 1}.model.1.weight"] = torch.ones(1, len(head), 1, 1)
    return state

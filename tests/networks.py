"""Pretrained networks small enough for tests: random parameters."""

from __future__ import annotations

import torch

from gan2shape.pipeline.camera import Camera
from gan2shape.pipeline.networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.pretrained import Pretrained, parameters_of
from gan2shape.schemas.config import CameraConfig, LatentConfig, NetworkConfig


def tiny_networks(gan_sha256: str, style_dim: int, size: int, seed: int = 0) -> Pretrained:
    """Networks for a GAN; always the same for a seed."""
    camera, options = CameraConfig(size=size), NetworkConfig(width=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = ShapeNetworks(Camera.from_config(camera), options)
        encoder = OffsetEncoder(size, options, style_dim)
    parameters = parameters_of(networks, encoder)
    return Pretrained(parameters, options, camera, style_dim, gan_sha256, LatentConfig())

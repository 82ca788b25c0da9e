"""Shapes, ranges and conventions of the networks' outputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks, UpsampledConv
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.settings import NetworkConfig


@pytest.mark.parametrize("size", [64, 128])
def test_shapes_and_ranges(size: int) -> None:
    torch.manual_seed(0)
    camera = Camera(size)
    networks = ShapeNetworks(camera, NetworkConfig(width=8))
    with torch.no_grad():
        networks.view_net.head.weight.mul_(1e6)
        networks.depth_net.head.weight.mul_(1e6)
        images = torch.rand(2, 3, size, size) * 2 - 1
        depth, albedo = networks.depth(images), networks.albedo(images)
        view, light = networks.view(images), networks.light(images)
    assert depth.shape == (2, size, size)
    assert camera.min_depth - 1e-6 <= depth.min() < depth.max() <= camera.max_depth + 1e-6
    border = 0.7 * camera.max_depth + 0.3 * camera.min_depth
    assert (depth[:, :, :2] == border).all()
    assert (depth[:, :, -2:] == border).all()
    assert albedo.shape == (2, 3, size, size)
    assert albedo.abs().max() <= 1
    assert view.shape == (2, 6)
    assert view[:, :3].abs().max().item() == pytest.approx(math.radians(60), rel=1e-3)
    assert view[:, 3:5].abs().max().item() == pytest.approx(0.1, rel=1e-3)
    assert (view[:, 5] == 0).all()
    assert light.shape == (2, 4)
    assert OffsetEncoder(size, NetworkConfig(width=8), 32)(images).shape == (2, 32)


def test_a_constant_added_to_the_raw_depth_changes_nothing() -> None:
    torch.manual_seed(0)
    networks = ShapeNetworks(Camera(64), NetworkConfig(width=8))
    images = torch.rand(1, 3, 64, 64)
    raw = networks.depth_net(images)
    plain = networks.depth(images)
    networks.depth_net.forward = lambda _: raw + 3.0  # type: ignore[method-assign]
    assert torch.allclose(networks.depth(images), plain, atol=1e-5)


def test_upsampled_convolution_is_that_of_the_upsampled_map() -> None:
    torch.manual_seed(0)
    layer = UpsampledConv(3, 5).double()
    features = torch.randn(2, 3, 6, 4).double().requires_grad_()
    upsampled = functional.interpolate(features, scale_factor=2, mode="nearest")
    plain = functional.conv2d(upsampled, layer.weight, padding=2)
    result = layer(features)
    assert torch.allclose(result, plain, atol=1e-12)
    change = torch.randn_like(plain)
    wanted = torch.autograd.grad(plain, (features, layer.weight), change)
    found = torch.autograd.grad(result, (features, layer.weight), change)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, wanted, strict=True))


def test_bfloat16_keeps_the_depth_fine() -> None:
    """The float32 head leaves no steps; bfloat16 alone has 256 levels in the range of a tanh."""
    torch.manual_seed(0)
    networks = ShapeNetworks(Camera(64), NetworkConfig(width=8))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        depth = networks.depth(images)
    assert depth.dtype == torch.float32
    assert len(depth[:, :, 2:-2].unique()) > 3000


def test_default_width_is_the_papers() -> None:
    networks = ShapeNetworks(Camera(128), NetworkConfig())
    assert networks.depth_net.encoder[0].out_channels == 32

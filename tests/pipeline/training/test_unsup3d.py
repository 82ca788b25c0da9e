"""Unsup3d: its likelihoods, its confidence network, symmetry, and that it learns to reconstruct."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, distributions
from torch.nn import functional

from gan2shape.pipeline.method.ellipsoid import ellipsoid_depth
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.scene.render import warp
from gan2shape.pipeline.scene.shading import shade
from gan2shape.pipeline.stylegan2 import Discriminator
from gan2shape.pipeline.training import unsup3d
from gan2shape.pipeline.training.trainer import Batch, Trainer
from gan2shape.schemas.network_training import Unsup3dConfig, baseline_config

SIZE = 32
CAMERA = Camera(SIZE)


def settings(**changes: Any) -> Unsup3dConfig:
    tree = {
        "method": "unsup3d",
        "camera": {"size": SIZE},
        "networks": {"width": 8},
        "precision": "float32",
        "warm_up": 0,
    }
    config = baseline_config(tree | changes)
    assert isinstance(config, Unsup3dConfig)
    return config


def features(images: Tensor) -> Tensor:
    """A stand-in for a deep network: edges at a quarter of the size."""
    small = functional.avg_pool2d(images, 4)
    return torch.cat([small, small - small.roll(1, -1)], 1)


def some_images(count: int = 4, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=random) * 1.6 - 0.8
    return functional.interpolate(coarse, size=SIZE, mode="bilinear")


def test_likelihoods_are_those_of_the_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    error = torch.rand(50, generator=random) + 0.01
    expected = torch.rand(50, generator=random) + 0.1
    laplacian = distributions.Laplace(torch.zeros(50), expected / math.sqrt(2))
    ours = unsup3d.laplace_loss(error, expected)
    torch.testing.assert_close(
        ours, -laplacian.log_prob(error) - math.log(math.sqrt(2)), rtol=1e-4, atol=1e-4
    )
    gaussian = distributions.Normal(torch.zeros(50), expected)
    ours = unsup3d.gauss_loss(error.square(), expected)
    torch.testing.assert_close(
        ours, -gaussian.log_prob(error) - 0.5 * math.log(2 * math.pi), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [32, 64, 128])
def test_confidence_is_positive_at_both_sizes(size: int) -> None:
    network = unsup3d.ConfidenceNetwork(size, 8, 2)
    fine, coarse = network(torch.zeros(1, 3, size, size))
    assert fine.shape == (1, 2, size, size)
    assert coarse.shape == (1, 2, size // 4, size // 4)
    assert fine.min() > unsup3d.FINEST
    assert coarse.min() > 0
    with torch.no_grad():
        network.pixel_head.weight.mul_(1e6)
        certain, _ = network(torch.randn(1, 3, size, size))
    assert certain.min() == unsup3d.FINEST


def test_the_loss_is_the_papers() -> None:
    """Against a plain reading, each reconstruction by itself."""
    training = unsup3d.trainer(settings(perceptual_weight=0.7, relief_weight=0), features)
    networks, images = training.shape_networks, some_images()
    images[:, :, :4] = -1  # background, which is not judged
    with torch.no_grad():
        # a shape and views that make mirrored reconstructions differ
        torch.manual_seed(0)
        networks.depth_net.head.weight.normal_(std=0.05)
        networks.view_net.head.weight.normal_(std=0.05)
        losses, figures, _ = training.objective(networks, Batch(images), 0)
        depth, albedo = networks.depth(images), networks.albedo(images)
        view, light = networks.view(images), networks.light(images)
        fine, coarse = training.objective.confidence(images)
        found, masks = [], []
        for flip in (False, True):
            d = depth.flip(-1) if flip else depth
            a = albedo.flip(-1) if flip else albedo
            texture = shade(a, normals_from_depth(d, networks.camera), light)
            rendering = warp(texture, d, view, networks.camera)
            found.append(rendering.image)
            masks.append(rendering.mask)
    assert (found[0] - found[1]).abs().max() > 0.01
    seen = masks[0] * masks[1] * object_masks(images, 0.06)
    assert not seen[:, :4].any()
    assert 0.2 < seen.mean() < 1
    expected = torch.zeros(len(images))
    for number, weight in enumerate((1.0, 0.5)):
        sigma = fine[:, number]
        nll = math.sqrt(2) * (found[number] - images).abs().mean(1) / sigma + sigma.log()
        pixels = (nll * seen).sum((1, 2)) / seen.sum((1, 2))
        sigma = coarse[:, number]
        square = (features(found[number]) - features(images)).square().mean(1)
        nll = square / (2 * sigma**2) + sigma.log()
        small = functional.avg_pool2d(seen[:, None], 4)[:, 0]
        expected += weight * (pixels + 0.7 * (nll * small).sum((1, 2)) / small.sum((1, 2)))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)
    assert set(figures) == {"photometric", "expected_error", "yaw_std", "perceptual", "relief"}


def test_without_symmetry_nothing_is_mirrored() -> None:
    training = unsup3d.trainer(settings(symmetric=False))
    fine, coarse = training.objective.confidence(some_images())
    assert fine.shape[1] == coarse.shape[1] == 1
    figures = training.step(Batch(some_images()))
    assert "perceptual" not in figures

    both = unsup3d.trainer(settings())
    assert set(both.networks().parameters) == set(training.networks().parameters)


def test_it_learns_to_reconstruct_with_all_its_networks() -> None:
    training = unsup3d.trainer(settings(learning_rate=1e-3), features)
    before = {name: value.clone() for name, value in training.state()["networks"].items()}
    flat = training.predict(some_images()).depth[:, :, 2:-2]
    assert flat.max() == flat.min()  # it starts from a plane
    figures = [training.step(Batch(some_images())) for _ in range(30)]
    assert figures[-1]["photometric"] < 0.7 * figures[0]["photometric"]
    assert figures[-1]["loss"] < figures[0]["loss"]
    after = training.state()["networks"]
    for net in ("depth_net", "albedo_net", "view_net", "light_net"):
        name = f"{net}.head.weight"
        assert not after[name].equal(before[name]), net
    assert training.predict(some_images()).depth[:, :, 2:-2].std() > 0


def test_depth_learns_the_ellipsoid_while_views_wait() -> None:
    config = settings(warm_up=80, learning_rate=3e-3, mirror=False)
    training = unsup3d.trainer(config, features)
    images = some_images()
    images[:, :, :, :8] = images[:, :, :, -8:] = -1  # an object in the middle
    start = training.networks().parameters
    wanted = ellipsoid_depth(object_masks(images, 0.06).float(), CAMERA, config.ellipsoid)
    far = (training.predict(images).depth - wanted).abs().mean()
    for _ in range(20):
        training.step(Batch(images))
    after = training.networks().parameters
    waiting = {name for name in start if after[name].equal(start[name])}
    assert waiting == {name for name in start if name.startswith("view_net.")}
    assert (training.predict(images).depth - wanted).abs().mean() < 0.3 * far
    training.step(Batch(images))
    later = training.networks().parameters
    assert not [name for name in start if later[name].equal(after[name])]


def test_a_batch_stays_as_deep_as_the_ellipsoids() -> None:
    changes = {"learning_rate": 3e-3, "depth_rate": 1.0, "mirror": False}
    reliefs = []
    for weight in (0.0, 100.0):
        training = unsup3d.trainer(settings(relief_weight=weight, **changes), features)
        figures = [training.step(Batch(some_images())) for _ in range(30)]
        reliefs.append(float(figures[-1]["relief"]))
    free, held = reliefs
    assert abs(held - 1) < 0.1
    assert abs(free - 1) > 0.3


def test_depth_learns_at_its_own_rate_after_the_warm_up() -> None:
    training = unsup3d.trainer(settings(warm_up=4, depth_rate=0.25), features)
    for expected in (1.0, 0.25, 0.25):
        training.step(Batch(some_images()))
        others, depth = training.optimizer.param_groups
        assert len(depth["params"]) == len(list(training.shape_networks.depth_net.parameters()))
        assert depth["lr"] == pytest.approx(expected * others["lr"])


def trained(training: Trainer, numbers: range) -> dict[str, Tensor]:
    for number in numbers:
        training.step(Batch(some_images(seed=number)))
    return training.networks().parameters


def test_a_training_goes_on_as_if_it_had_not_been_interrupted() -> None:
    config = settings(images=24, decay=0.5)
    whole = unsup3d.trainer(config, features)
    expected = trained(whole, range(6))
    first = unsup3d.trainer(config, features)
    trained(first, range(3))
    second = unsup3d.trainer(config, features)
    second.restore(first.state())
    assert second.images == 12
    found = trained(second, range(3, 6))
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    group, _ = second.optimizer.param_groups
    # 4 of the 12 images of the ramp were left before the last batch
    assert group["lr"] == pytest.approx(config.learning_rate * 4 / 12)


def test_features_of_real_networks_have_a_quarter_of_the_size() -> None:
    images = some_images(2)
    channels = dict.fromkeys((4, 8, 16, 32), 8)
    maps = unsup3d.discriminator_features(Discriminator(SIZE, channels))(images)
    assert maps.shape == (2, 8, SIZE // 4, SIZE // 4)
    lpips = Lpips()
    maps = unsup3d.vgg_features(lpips)(images)
    assert maps.shape == (2, 256, SIZE // 4, SIZE // 4)
    length = maps.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(lpips.features(images)[2], maps / (length + 1e-10))

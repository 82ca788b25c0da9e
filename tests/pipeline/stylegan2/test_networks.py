"""The networks against a plain reference, the shipped weights against pictures made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.perceptual.feature_distance import feature_distance
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from tests.pipeline import stylegan2_reference as reference

DATA = Path(__file__).parents[2] / "data"
CHECKPOINT = DATA / "heads64-generator.pt"
SAMPLES = DATA / "heads64-samples.png"
CHANNELS = {4: 6, 8: 5, 16: 4, 32: 3, 64: 3}


@pytest.fixture(scope="module")
def heads() -> Gan:
    return load_gan("heads64")


def disturb(network: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter and kernel a value that matters; kernels become asymmetric."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("kernel"):
                value.mul_(1 + 0.3 * torch.randn(value.shape, generator=draw))
            elif name.endswith("bias") or "noise.weight" in name:
                value.add_(0.3 * torch.randn(value.shape, generator=draw))
    return network.double()


def small_generator(size: int = 64) -> Generator:
    torch.manual_seed(0)
    network = disturb(Generator(size, 7, 2, CHANNELS))
    assert isinstance(network, Generator)
    return network


def small_discriminator(size: int = 64) -> Discriminator:
    torch.manual_seed(1)
    network = disturb(Discriminator(size, CHANNELS))
    assert isinstance(network, Discriminator)
    return network


def normal(*shape: int, seed: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def test_a_checkpoint_made_elsewhere_gives_the_pictures_made_there() -> None:
    """A rosinality `.pt`, kept in half precision, and the pictures of its full-precision twin."""
    heads = load_gan(CHECKPOINT, require_discriminator=False)
    z = np.concatenate([np.random.RandomState(seed).randn(1, 256) for seed in range(32)])
    with torch.no_grad():
        images = heads.generator(heads.generator.mapping(torch.from_numpy(z).float()))
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round()
    grid = levels.view(4, 8, 3, 64, 64).permute(0, 3, 1, 4, 2).reshape(256, 512, 3)
    known = torch.from_numpy(np.array(Image.open(SAMPLES).convert("RGB"))).float()
    gap = (grid - known).abs()
    assert gap.max() <= 2
    assert gap.mean() < 0.1


def test_shipped_discriminator_tells_samples_from_noise(heads: Gan) -> None:
    assert heads.discriminator is not None
    with torch.no_grad():
        images = heads.generator(heads.generator.sample_latents(8, seed=1))
        noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert heads.discriminator(images).mean() > heads.discriminator(noise).mean() + 1


PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-3)]
"""Types, and how close values are. Large maps take another path in float64 than in float32."""


@pytest.mark.parametrize(("dtype", "close"), PRECISIONS)
def test_generator_equals_reference_in_value_and_gradient(dtype: torch.dtype, close: float) -> None:
    network = small_generator().to(dtype)
    w = normal(3, network.num_layers, 7).to(dtype).requires_grad_()
    state = dict(network.state_dict(keep_vars=True))
    ours, plain = network(w), reference.generator(w, state)
    torch.testing.assert_close(ours, plain, rtol=close, atol=close)
    weights = normal(*ours.shape, seed=6).to(dtype)
    leaves = [w, *network.parameters()]
    mine = torch.autograd.grad((ours * weights).sum(), leaves, allow_unused=True)
    theirs = torch.autograd.grad((plain * weights).sum(), leaves, allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)  # the mapping network takes no part
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=10 * close, atol=10 * close)


def test_mapping_equals_reference_and_can_be_taken_apart() -> None:
    network = small_generator()
    z = normal(4, 7)
    torch.testing.assert_close(
        network.mapping(z), reference.mapping(z, dict(network.state_dict())), rtol=1e-9, atol=1e-9
    )
    layers = list(network.mapping)
    assert len(layers) == network.mapping_depth + 1
    tail = torch.nn.Sequential(*layers[1:])
    assert torch.equal(tail(layers[0](z)), network.mapping(z))


@pytest.mark.parametrize(("dtype", "close"), PRECISIONS)
def test_discriminator_equals_reference_in_value_and_gradient(
    dtype: torch.dtype, close: float
) -> None:
    network = small_discriminator().to(dtype)
    images = normal(8, 3, 64, 64).to(dtype).requires_grad_()
    state = dict(network.state_dict(keep_vars=True))
    for ours, plain in zip(
        network.features(images), reference.discriminator_features(images, state), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=close, atol=close)
    ours, plain = network(images), reference.discriminator(images, state)
    torch.testing.assert_close(ours, plain, rtol=close, atol=close)
    leaves = [images, *network.parameters()]
    mine = torch.autograd.grad(ours.square().sum(), leaves)
    theirs = torch.autograd.grad(plain.square().sum(), leaves)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=100 * close, atol=10 * close)


def test_r1_gradient_is_that_of_the_reference() -> None:
    network = small_discriminator(16)
    images = normal(4, 3, 16, 16).requires_grad_()
    state = dict(network.state_dict(keep_vars=True))

    def penalty_gradient(logits: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        parameters = list(network.parameters())
        return torch.autograd.grad(slope.square().sum(), parameters, allow_unused=True)

    mine = penalty_gradient(network(images))
    theirs = penalty_gradient(reference.discriminator(images, state))
    compared = 0
    for a, b in zip(mine, theirs, strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
            compared += 1
    assert compared > 8


def test_path_length_gradient_is_that_of_the_reference() -> None:
    network = small_generator(16)
    w = normal(2, network.num_layers, 7).requires_grad_()
    state = dict(network.state_dict(keep_vars=True))
    noise = normal(2, 3, 16, 16, seed=8)
    weights = [p for name, p in network.named_parameters() if name.endswith("conv.weight")]

    def length_gradient(images: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad((images * noise).sum(), w, create_graph=True)
        return torch.autograd.grad(slope.square().sum(dim=2).sqrt().sum(), weights)

    mine, theirs = (
        length_gradient(network(w)),
        length_gradient(reference.generator(w, state)),
    )
    for a, b in zip(mine, theirs, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_noise_modes() -> None:
    network = small_generator(16)
    w = normal(2, 7)
    state = dict(network.state_dict())
    spread = w[:, None].expand(-1, network.num_layers, -1)
    torch.testing.assert_close(network(w, noise="none"), reference.generator(spread, state, False))
    draw = torch.Generator().manual_seed(1)
    one = network(w[:1].expand(2, -1), noise="random", random=draw)
    assert (one[0] - one[1]).abs().max() > 1e-3
    draw.manual_seed(1)
    assert torch.equal(one, network(w[:1].expand(2, -1), noise="random", random=draw))


def test_an_image_does_not_depend_on_its_batch(heads: Gan) -> None:
    assert heads.discriminator is not None
    w = heads.generator.sample_latents(5, seed=2)
    with torch.no_grad():
        together, alone = heads.generator(w), heads.generator(w[3:4])
        torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-5)
        for a, b in zip(
            heads.discriminator.features(together),
            heads.discriminator.features(alone),
            strict=True,
        ):
            torch.testing.assert_close(a[3:4], b, rtol=1e-3, atol=1e-4)
        broken = w.clone()
        broken[1] = torch.nan
        images = heads.generator(broken)
        assert torch.isfinite(images[[0, 2, 3, 4]]).all()


def test_bfloat16_autocast_stays_close(heads: Gan) -> None:
    assert heads.discriminator is not None
    w = heads.generator.sample_latents(4, seed=3).requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            images = heads.generator(w)
            maps = heads.discriminator.features(images, 4)
        assert images.dtype == torch.float32
        loss = images.square().mean() + sum(x.float().abs().mean() for x in maps)
        (slope,) = torch.autograd.grad(loss, w)
        results.append((images.detach(), slope))
    (exact, slope), (rough, rough_slope) = results
    assert (exact - rough).abs().mean() < 0.01  # about one 8-bit level
    assert torch.cosine_similarity(slope.flatten(), rough_slope.flatten(), dim=0) > 0.99
    assert maps[1].dtype == torch.bfloat16


def test_features_have_the_named_shapes_and_any_size_will_do(heads: Gan) -> None:
    assert heads.discriminator is not None
    maps = heads.discriminator.features(torch.zeros(1, 3, 128, 128), 3)
    assert [tuple(x.shape) for x in maps] == [
        (1, 32, 128, 128),
        (1, 64, 64, 64),
        (1, 128, 32, 32),
    ]
    assert maps[1].is_contiguous(memory_format=torch.channels_last)


def test_wrong_shapes_are_refused(heads: Gan) -> None:
    assert heads.discriminator is not None
    with pytest.raises(ValueError, match="latents must be"):
        heads.generator(torch.zeros(2, 255))
    with pytest.raises(ValueError, match="blocks must be 1 to 5"):
        heads.discriminator.features(torch.zeros(1, 3, 64, 64), 6)
    with pytest.raises(ValueError, match="images must be"):
        heads.discriminator(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="power of two"):
        Generator(48, 8, 2, CHANNELS)


def test_feature_distance_equals_its_formula_and_keeps_the_memory_format() -> None:
    shapes = [(2, 4, 8, 8), (2, 6, 4, 4)]
    ours = [
        normal(*shape, seed=i).contiguous(memory_format=torch.channels_last).requires_grad_()
        for i, shape in enumerate(shapes)
    ]
    theirs = [normal(*shape, seed=9 + i).requires_grad_() for i, shape in enumerate(shapes)]
    weights = normal(2, 8, 8).abs()
    weights[1, 0] = 0
    expected = torch.zeros(2, dtype=torch.float64)
    for a, b in zip(ours, theirs, strict=True):
        pooled = torch.nn.functional.avg_pool2d(weights[:, None], 8 // a.shape[-1])[:, 0]
        gap = (a - b).abs().mean(1)
        expected = expected + (gap * pooled).sum((1, 2)) / pooled.sum((1, 2))
    found = feature_distance(ours, theirs, weights)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    scale = torch.tensor([2.0, 3.0])
    mine = torch.autograd.grad((found * scale).sum(), [*ours, *theirs])
    plain = torch.autograd.grad((expected * scale).sum(), [*ours, *theirs])
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert mine[0].is_contiguous(memory_format=torch.channels_last)


def test_activations_and_their_gradients_stay_in_channels_last(heads: Gan) -> None:
    generator, discriminator = heads.generator, heads.discriminator
    assert discriminator is not None
    seen: list[Tensor] = []

    def watch(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.detach())
        output.register_hook(seen.append)

    blocks = [generator.conv1, *generator.convs, *discriminator.convs[1:4]]
    handles = [block.register_forward_hook(watch) for block in blocks]
    try:
        w = generator.sample_latents(2, seed=0).requires_grad_()
        maps = discriminator.features(generator(w), 4)
        targets = [torch.zeros_like(x) for x in maps]
        feature_distance(maps, targets, torch.ones(2, 64, 64)).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    assert len(seen) == 2 * len(blocks)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)

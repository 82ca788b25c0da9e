"""Inversion on pictures whose latents are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.perceptual.inversion import invert, match_size, measure_space, refine
from gan2shape.pipeline.stylegan2 import Gan
from gan2shape.schemas.settings import InversionConfig


@pytest.fixture(scope="module")
def gan() -> Gan:
    return load_gan("heads64")


@pytest.fixture(scope="module")
def images(gan: Gan) -> Tensor:
    with torch.no_grad():
        return gan.generator(gan.generator.sample_latents(4, seed=77)).clamp(-1, 1).contiguous()


def settings(iterations: int, batch: int = 4) -> InversionConfig:
    return InversionConfig(
        start_samples=16,
        iterations=iterations,
        batch=batch,
        learning_rate=0.3,
        perceptual_weight=1.0,
    )


def test_finds_its_own_pictures_again(gan: Gan, images: Tensor) -> None:
    calls: list[tuple[int, int]] = []
    start = invert(gan, images[:2], settings(1))
    found = invert(
        gan, images[:2], settings(40), on_progress=lambda done, all_: calls.append((done, all_))
    )
    assert found.failures == [None, None]
    assert found.latents.shape == (2, 256)
    assert (found.l1 < 0.04).all()
    assert (found.l1 < 0.3 * start.l1).all()
    assert calls == [(i, 40) for i in range(1, 41)]
    with torch.no_grad():
        again = gan.generator(found.latents)
    torch.testing.assert_close(again, found.images, atol=0.05, rtol=0)
    torch.testing.assert_close(
        (again - images[:2]).abs().mean((1, 2, 3)), found.l1, atol=5e-3, rtol=0
    )


def test_start_is_the_most_similar_sample(gan: Gan) -> None:
    # the very samples that the search begins with must be recognised
    latents = gan.generator.sample_latents(16, seed=1)[[3, 14]]
    with torch.no_grad():
        pictures = gan.generator(latents)
    found = invert(gan, pictures, settings(1), seed=0, precision="float32")
    spread = measure_space(gan).spread
    assert ((found.latents - latents).abs() <= 1.01 * 0.3 * spread).all()


def test_result_does_not_depend_on_the_batch_or_its_failures(gan: Gan, images: Tensor) -> None:
    run = settings(3)
    alone = invert(gan, images[2:3], run, precision="float32")
    broken = images.clone()
    broken[1, 0, 5, 5] = torch.nan
    together = invert(gan, broken, run, precision="float32")
    apart = invert(gan, broken, settings(3, batch=3), precision="float32")
    assert together.failures[0] is None
    assert together.failures[1] is not None
    assert "not finite" in together.failures[1]
    assert torch.isnan(together.latents[1]).all()
    sound = [0, 2, 3]
    assert torch.isfinite(together.latents[sound]).all()
    # Adam's first steps have the size of the learning rate whatever the gradient, so that rounding
    # may turn the sign of a step only where the gradient is nearly zero
    close = (together.latents[2] - alone.latents[0]).abs() < 1e-3
    assert close.float().mean() > 0.99
    close = (together.latents[sound] - apart.latents[sound]).abs() < 1e-3
    assert close.float().mean() > 0.99


def test_same_input_same_result(gan: Gan, images: Tensor) -> None:
    one, two = (invert(gan, images[:2], settings(3)) for _ in range(2))
    assert torch.equal(one.latents, two.latents)


def test_masks_say_what_counts(gan: Gan, images: Tensor) -> None:
    masks = torch.zeros(2, 64, 64)
    masks[:, 16:48, 16:48] = 1
    soiled = images[:2].clone()
    soiled[:, :, :8] = 1.0  # a bright bar outside the mask
    masked = invert(gan, soiled, settings(12), masks=masks)
    ignored = invert(gan, soiled, settings(12))
    inside = (masked.images - soiled).abs().mean(1)[masks.bool()].mean()
    torch.testing.assert_close(masked.l1.mean(), inside, atol=1e-5, rtol=1e-5)
    outside = (ignored.images - soiled).abs().mean(1)[masks.bool()].mean()
    assert inside < outside


def test_other_image_sizes(gan: Gan, images: Tensor) -> None:
    found = invert(gan, match_size(images[:1], 32), settings(2))
    assert found.images.shape == (1, 3, 32, 32)
    assert match_size(images[:1], 128).shape == (1, 3, 128, 128)
    torch.testing.assert_close(match_size(images, 32).mean((2, 3)), images.mean((2, 3)))


def test_nothing_to_do(gan: Gan, images: Tensor) -> None:
    assert invert(gan, images[:0], settings(2)).latents.shape == (0, 256)


def test_wrong_shapes_are_refused(gan: Gan, images: Tensor) -> None:
    with pytest.raises(ValueError, match="masks must be"):
        invert(gan, images, settings(1), masks=torch.ones(1, 64, 64))
    with pytest.raises(ValueError, match="images must be"):
        invert(gan, images[:, :1], settings(1))


def test_refining_begins_where_it_is_told(gan: Gan, images: Tensor) -> None:
    latents = gan.generator.sample_latents(4, seed=77)
    gentle = settings(5).model_copy(update={"learning_rate": 0.01})
    found = refine(gan, images[:2], latents[:2], gentle, precision="float32")
    assert (found.l1 < 0.05).all()
    away = refine(gan, images[:2], latents[2:], gentle, precision="float32")
    assert (away.l1 > 3 * found.l1).all()
    with pytest.raises(ValueError, match="latents must be"):
        refine(gan, images, latents[:1], gentle)

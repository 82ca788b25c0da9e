"""Losses per image, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.perceptual.losses import discriminator_distance, masked_l1, relative_relief


def test_masked_l1_counts_only_masked_pixels() -> None:
    images, targets = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    targets[0, :, 0, 0] = torch.tensor([3.0, 0.0, 0.0])
    targets[0, :, 3, 3] = 100.0
    masks = torch.zeros(2, 4, 4)
    masks[0, 0, 0] = masks[0, 0, 1] = 1
    assert masked_l1(images, targets, masks).tolist() == [0.5, 0.0]


def test_relief_beside_another() -> None:
    random = torch.Generator().manual_seed(0)
    other = torch.rand(3, 8, 8, generator=random)
    masks = (torch.rand(3, 8, 8, generator=random) < 0.7).float()
    scale = torch.tensor([2.0, 0.5, -1.0])[:, None, None]
    depth = torch.where(masks > 0, scale * other + 0.3, 9.0)  # outside nothing counts
    found = relative_relief(depth, other, masks)
    torch.testing.assert_close(found, scale.flatten())
    flat = relative_relief(torch.ones(1, 8, 8), other[:1], torch.ones(1, 8, 8))
    assert abs(float(flat)) < 1e-5


def test_discriminator_distance_is_zero_for_equal_images_and_ignores_masked_gradients() -> None:
    gan = load_gan("heads64")
    assert gan.discriminator is not None
    distance = discriminator_distance(gan.discriminator, 4)
    random = torch.Generator().manual_seed(0)
    images = (torch.rand(2, 3, 64, 64, generator=random) * 2 - 1).requires_grad_()
    masks = torch.ones(2, 64, 64)
    assert distance(images, images.detach(), masks).tolist() == [0.0, 0.0]
    masks[1] = 0
    found = distance(images, torch.zeros_like(images), masks)
    assert found[0] > 0.1
    assert found[1] == 0
    found.sum().backward()
    assert images.grad is not None
    assert images.grad[0].abs().max() > 0
    assert images.grad[1].abs().max() == 0


def test_discriminator_distance_of_an_image_does_not_depend_on_its_batch() -> None:
    gan = load_gan("heads64")
    assert gan.discriminator is not None
    distance = discriminator_distance(gan.discriminator, 4)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    masks = torch.ones(3, 64, 64)
    together = distance(images, images.flip(-1), masks)
    alone = distance(images[1:2], images[1:2].flip(-1), masks[1:2])
    assert together[1].item() == pytest.approx(alone.item(), rel=1e-5)

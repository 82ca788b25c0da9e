"""Differences and structural similarity, against plain slow references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.evaluation.similarity import l1, ssim


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 3, 14, 14, generator=random) * 2 - 1
    noise = torch.randn(3, 3, 14, 14, generator=random) * torch.tensor([0.0, 0.2, 0.8]).view(
        3, 1, 1, 1
    )
    return (truth + noise).clamp(-1, 1), truth


def slow_ssim(a: Tensor, b: Tensor) -> float:
    """By the formula of Wang et al., window by window, on values on [0, 1]."""
    weights = torch.tensor(
        [
            [math.exp(-((x - 5) ** 2 + (y - 5) ** 2) / (2 * 1.5**2)) for x in range(11)]
            for y in range(11)
        ]
    ).double()
    weights /= weights.sum()
    total = []
    for channel in range(3):
        for top in range(a.shape[1] - 10):
            for left in range(a.shape[2] - 10):
                x, y = (
                    v[channel, top : top + 11, left : left + 11].double() / 2 + 0.5 for v in (a, b)
                )
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                c1, c2 = 0.01**2, 0.03**2
                total.append(
                    (2 * mx * my + c1) * (2 * cov + c2) / (mx**2 + my**2 + c1) / (vx + vy + c2)
                )
    return float(torch.stack(total).mean())


def test_ssim_is_the_published_formula(pair):
    found = ssim(*pair)
    assert found[0] == pytest.approx(1, abs=1e-6)
    for image, truth, value in zip(*pair, found, strict=True):
        assert float(value) == pytest.approx(slow_ssim(image, truth), abs=1e-5)
    assert found[0] > found[1] > found[2]


def test_ssim_of_flat_pictures():
    grey, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert ssim(grey, grey).item() == pytest.approx(1)
    expected = (2 * 0.5 + 1e-4) / (0.5**2 + 1 + 1e-4)
    assert ssim(grey, white).item() == pytest.approx(expected, rel=1e-5)


def test_l1_is_on_0_to_1_and_inside_the_mask():
    truth = torch.full((2, 3, 12, 12), -1.0)
    image = truth.clone()
    image[0, :, :6] = 1.0
    assert l1(image, truth).tolist() == [0.5, 0.0]
    masks = torch.zeros(2, 12, 12)
    masks[:, :6] = 1
    assert l1(image, truth, masks).tolist() == [1.0, 0.0]
    assert torch.isnan(l1(image, truth, 0 * masks)).all()


def test_wrong_shapes_are_refused(pair):
    for other in (pair[0][:2], pair[0][..., :9]):
        with pytest.raises(ValueError, match="should both be"):
            ssim(other, pair[1])
    with pytest.raises(ValueError, match="at least 11"):
        l1(pair[0][..., :9], pair[1][..., :9])

"""Linear directions: recovered from data that have one, refused by data that have none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.stylegan2.directions import linear_direction


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mixed(count: int, size: int) -> Tensor:
    """Correlated latents of unequal spread, away from 0."""
    mixing = normal(size, size, seed=1) * torch.logspace(-1, 1, size)
    return normal(count, size) @ mixing + 3


def test_a_unit_along_the_direction_changes_a_linear_attribute_by_one():
    latents, slopes = mixed(600, 12), normal(12, seed=2)
    found = linear_direction(latents, latents @ slopes + 5)
    assert found.vector.shape == (12,)
    assert found.r2 == pytest.approx(1, abs=1e-4)
    moved = (latents + found.vector * 2.5) @ slopes - latents @ slopes
    torch.testing.assert_close(moved, torch.full((600,), 2.5), rtol=1e-2, atol=0)


def test_moved_latents_stay_among_the_latents():
    """The direction is that in which latents of different values differ on the whole."""
    latents, slopes = mixed(2000, 12), normal(12, seed=2)
    values = latents @ slopes
    vector = linear_direction(latents, values).vector
    centred, gap = latents - latents.mean(dim=0), values - values.mean()
    slope_of_latents = (centred * gap[:, None]).sum(dim=0) / gap.square().sum()
    torch.testing.assert_close(vector, slope_of_latents, rtol=1e-2, atol=1e-2)
    precision = torch.linalg.inv(torch.cov(latents.T.double())).float()
    shortest = slopes / slopes.square().sum()  # as far along the slopes, but among no latents
    assert vector @ precision @ vector < 0.5 * (shortest @ precision @ shortest)


def test_r2_is_the_share_that_is_linear():
    latents, slopes = mixed(4000, 12), normal(12, seed=2)
    signal = latents @ slopes
    noise = normal(4000, seed=3) * signal.std()
    assert linear_direction(latents, signal + noise).r2 == pytest.approx(0.5, abs=0.04)
    assert abs(linear_direction(latents, noise).r2) < 0.02
    few = linear_direction(normal(60, 50), normal(60, seed=4))  # nearly as many numbers as samples
    assert few.r2 < 0.2


def test_units_of_attribute_and_latents():
    latents = mixed(600, 12)
    values = latents @ normal(12, seed=2) + normal(600, seed=3)
    plain = linear_direction(latents, values)
    degrees = linear_direction(latents, values * 57.3 - 10)
    torch.testing.assert_close(degrees.vector, plain.vector / 57.3, rtol=1e-4, atol=1e-6)
    assert degrees.r2 == pytest.approx(plain.r2, abs=1e-6)
    scale = torch.logspace(-3, 3, 12)
    scaled = linear_direction(latents * scale, values)
    torch.testing.assert_close(scaled.vector, plain.vector * scale, rtol=1e-3, atol=1e-6)
    assert scaled.r2 == pytest.approx(plain.r2, abs=1e-5)


def test_a_latent_number_that_never_changes_is_left_alone():
    latents = mixed(200, 6)
    latents[:, 2] = 0.5
    found = linear_direction(latents, latents[:, 0])
    assert found.vector[2] == 0
    assert bool(torch.isfinite(found.vector).all())


@pytest.mark.parametrize(
    ("latents", "values", "sentence"),
    [
        (torch.zeros(20), torch.zeros(20), "should be"),
        (torch.zeros(20, 3), torch.zeros(19), "should be"),
        (torch.zeros(9, 3), torch.zeros(9), "at least 10"),
        (normal(20, 3), torch.ones(20), "all the same"),
        (normal(20, 3), torch.full((20,), float("nan")), "not finite"),
    ],
)
def test_what_has_no_direction_is_refused(latents, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        linear_direction(latents, values)

"""Fréchet distance against closed forms; Inception files of the right and the wrong kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from gan2shape.jobs.weights.inception_file import load_inception
from gan2shape.pipeline.stylegan2.training.fid import Statistics, frechet_distance, statistics
from tests.inception import TinyInception, write_script


def normal(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).double()


def covariance(size: int, seed: int) -> Tensor:
    root = normal(size, size, seed)
    return root @ root.T


def gaussian(cov: Tensor, mean: Tensor | None = None) -> Statistics:
    return Statistics(cov.new_zeros(len(cov)) if mean is None else mean, cov)


def test_equal_sets_have_distance_zero():
    features = normal(500, 20) @ covariance(20, 1) + 100
    own = statistics(features)
    scale = float(own.covariance.trace())
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-7 * scale)
    assert frechet_distance(own, statistics(features.flip(0))) == pytest.approx(0, abs=1e-7 * scale)
    few = statistics(features[:5])  # covariance of rank 4
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5 * float(few.covariance.trace()))


def test_a_shift_counts_with_its_square():
    cov, shift = covariance(6, 0), normal(1, 6, 1)[0]
    found = frechet_distance(gaussian(cov), gaussian(cov, shift))
    assert found == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_covariances_whose_root_is_known():
    a, b = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 25.0, 16.0]).double()
    assert frechet_distance(gaussian(a.diag()), gaussian(b.diag())) == pytest.approx(1 + 4 + 16)
    # of rank one: the root of u u^T v v^T has the trace |u . v|
    u, v = normal(2, 7)
    expected = float(u @ u + v @ v - 2 * (u @ v).abs())
    found = frechet_distance(gaussian(torch.outer(u, u)), gaussian(torch.outer(v, v)))
    assert found == pytest.approx(expected, rel=1e-6)
    # of two dimensions: tr(M^(1/2))^2 = tr M + 2 det(M)^(1/2)
    c, d = covariance(2, 3), covariance(2, 4)
    product = c @ d
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.det(product))))
    expected = float(c.trace() + d.trace()) - 2 * root
    assert frechet_distance(gaussian(c), gaussian(d)) == pytest.approx(expected, rel=1e-9)


def test_against_the_matrix_root():
    a, b = covariance(12, 0), covariance(12, 1)
    root = np.real(np.trace(linalg.sqrtm((a @ b).numpy())))
    expected = float(a.trace() + b.trace()) - 2 * root
    assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(gaussian(b), gaussian(a)) == pytest.approx(expected, rel=1e-7)


def test_samples_of_two_gaussians_come_near_the_distance_of_the_gaussians():
    x, y = normal(40_000, 3), 2 * normal(40_000, 3, 1) + torch.tensor([1.0, 0.0, -2.0])
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(3 + 5, rel=0.03)


def test_statistics_are_those_of_numpy():
    features = normal(50, 4).float() + 1000
    found = statistics(features)
    values = features.double().numpy()
    np.testing.assert_allclose(found.mean, values.mean(axis=0))
    np.testing.assert_allclose(found.covariance, np.cov(values, rowvar=False))


def test_the_network_sees_bytes_and_parts_change_nothing(tmp_path):
    inception = load_inception(write_script(tmp_path / "net.pt", TinyInception(2)))
    values = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    images = values / 127.5 - 1
    quarters = values[0, 0].view(2, 8, 2, 8).float().mean(dim=(1, 3)).flatten()
    assert torch.equal(inception.features(images), quarters.repeat(3)[None])
    for value, byte in ((-3.0, 0.0), (0.9999, 255.0), (3.0, 255.0)):
        assert inception.features(torch.full((1, 3, 16, 16), value)).unique().tolist() == [byte]
    sets = torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, parts = inception.statistics([sets]), inception.statistics(sets.split(7))
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.covariance, parts.covariance)
    assert frechet_distance(whole, inception.statistics([sets * 0.5])) > 1

"""Gradients of depth are held within a few times their image's mean."""

from __future__ import annotations

import torch

from gan2shape.pipeline.extensions.gradient_limit import with_limited_gradient


def gradient(limit: float, weights: torch.Tensor) -> torch.Tensor:
    depth = torch.ones_like(weights, requires_grad=True)
    (with_limited_gradient(depth * 1.0, limit) * weights).sum().backward()
    assert depth.grad is not None
    return depth.grad


def test_large_gradients_are_cut_image_by_image() -> None:
    weights = torch.ones(2, 8, 8)
    weights[0, 3, 4] = -300.0
    found = gradient(5.0, weights)
    bound = 5 * weights[0].abs().mean()
    assert found[0, 3, 4] == -bound
    weights[0, 3, 4] = -bound
    assert torch.equal(found, weights)


def test_zero_is_no_limit_and_depth_without_gradient_is_left_alone() -> None:
    weights = torch.ones(1, 8, 8)
    weights[0, 0, 0] = 300.0
    assert torch.equal(gradient(0.0, weights), weights)
    depth = torch.ones(1, 8, 8)
    assert with_limited_gradient(depth, 5.0) is depth

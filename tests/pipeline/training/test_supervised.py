"""The supervised baseline: its losses, what it trains, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.perceptual.losses import depth_errors
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.pipeline.scene.shading import shade
from gan2shape.pipeline.training.supervised import trainer
from gan2shape.pipeline.training.trainer import Batch
from gan2shape.schemas.network_training import baseline_config

SIZE = 32
CAMERA = Camera(SIZE)


def bumps(count: int, seed: int = 0) -> Tensor:
    """Depths (count, S, S) of bumps at various places, NaN around them."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1, 1, SIZE)
    x, y = line[None, None], line[None, :, None]
    middle = 0.6 * torch.rand(count, 2, 1, 1, generator=generator) - 0.3
    square = (x - middle[:, 0]) ** 2 + (y - middle[:, 1]) ** 2
    return torch.where(square < 0.4, 0.95 + 0.15 * square, torch.nan)


def lit(depth: Tensor) -> Tensor:
    """Grey images (B, 3, S, S) of depths under one light."""
    filled = depth.nan_to_num(nan=1.1)
    light = torch.tensor([-0.5, 0.6, 0.7, 0.3]).expand(len(depth), 4)
    grey = torch.zeros(len(depth), 3, SIZE, SIZE)
    image = shade(grey, normals_from_depth(filled, CAMERA), light)
    return torch.where(torch.isfinite(depth)[:, None], image, -1.0)


def test_an_offset_is_no_error_and_what_is_outside_does_not_count() -> None:
    truth = bumps(3)
    depth = truth.nan_to_num(nan=0.91) + 0.02
    far, apart = depth_errors(depth, truth, CAMERA)
    assert far.max() < 1e-6
    assert apart.max() < 0.02  # further off, the same relief has points further apart

    deeper = 0.95 + 2 * (truth.nan_to_num(nan=0.91) - 0.95)
    far, apart = depth_errors(deeper, truth, CAMERA)
    inside = torch.isfinite(truth)
    for index in range(3):
        error = (deeper - truth)[index][inside[index]]
        expected = (error - error.mean()).abs().mean()
        torch.testing.assert_close(far[index], expected, rtol=1e-3, atol=1e-7)
    metrics = depth_metrics(deeper, torch.ones_like(deeper), depth, inside.float(), CAMERA)
    # chords of angles up to a right one are at most a tenth shorter than these
    angles = metrics.mad_degrees.float().deg2rad()
    assert ((apart < 1.01 * angles) & (apart > 0.9 * angles)).all()


def test_columns_that_the_network_cannot_move_do_not_count() -> None:
    truth = torch.full((1, SIZE, SIZE), 1.0)
    depth = truth.clone()
    depth[:, :, :2] = depth[:, :, -2:] = 1.04
    far, apart = depth_errors(depth, truth, CAMERA)
    assert far.item() == 0
    assert apart.item() < 2e-4
    far, apart = depth_errors(depth, torch.full_like(truth, torch.nan), CAMERA)
    assert far.item() == apart.item() == 0


def test_gradients_are_finite_and_only_inside() -> None:
    truth = bumps(2)
    depth = torch.full((2, SIZE, SIZE), 1.0, requires_grad=True)
    far, apart = depth_errors(depth, truth, CAMERA)
    (far + apart).sum().backward()
    gradient = depth.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient[torch.isfinite(truth)].abs().max() > 0
    assert gradient[torch.isnan(truth)].abs().max() == 0


def test_it_learns_depth_and_sees_every_image_from_the_front() -> None:
    config = baseline_config(
        {
            "method": "supervised",
            "camera": {"size": SIZE},
            "networks": {"width": 8},
            "learning_rate": 2e-3,
            "precision": "float32",
        }
    )
    training = trainer(config)
    before = {name: value.clone() for name, value in training.networks().parameters.items()}
    held = Batch(lit(bumps(8, seed=99)), bumps(8, seed=99))
    at_start = training.score(held)
    for number in range(40):
        depths = bumps(8, seed=number)
        figures = training.step(Batch(lit(depths), depths))
    assert training.images == 320
    assert set(figures) == {"loss", "depth", "normals_degrees"}
    scores = training.score(held)
    assert scores.side.mean() < 0.6 * at_start.side.mean()
    assert scores.mad_degrees.mean() < 0.6 * at_start.mad_degrees.mean()

    networks = training.networks()
    assert networks.offset_encoder() is None
    changed = {n for n, value in networks.parameters.items() if not value.equal(before[n])}
    assert changed == {name for name in before if name.startswith("depth_net.")}
    shape = networks.shape_networks()
    with torch.no_grad():
        view, depth = shape.view(held.images), shape.depth(held.images)
        assert view.abs().max() == 0
        rendered, mask = render_depth(depth, view, shape.camera)
    assert mask.min() == 1
    torch.testing.assert_close(rendered, depth, rtol=0, atol=1e-6)


def test_true_depth_is_needed() -> None:
    config = baseline_config(
        {"method": "supervised", "camera": {"size": SIZE}, "networks": {"width": 8}}
    )
    training = trainer(config)
    batch = Batch(torch.zeros(1, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match="true depth"):
        training.step(batch)
    with pytest.raises(ValueError, match="true depth"):
        training.score(batch)

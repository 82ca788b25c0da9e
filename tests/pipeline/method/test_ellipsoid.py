"""The ellipsoid over a mask, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gan2shape.pipeline.method.ellipsoid import ellipsoid_depth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.settings import EllipsoidConfig

CAMERA = Camera(64)
CONFIG = EllipsoidConfig()


def _box(top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    mask = torch.zeros(1, 64, 64)
    mask[:, top : bottom + 1, left : right + 1] = 1
    return mask


def test_near_at_the_centre_far_at_the_rim_and_outside() -> None:
    depth = ellipsoid_depth(_box(10, 50, 22, 42), CAMERA, CONFIG)[0]
    assert depth[30, 32] == pytest.approx(CONFIG.near)
    assert depth[30, 22].item() == pytest.approx(CONFIG.far, abs=1e-5)
    assert depth[10, 32].item() == pytest.approx(CONFIG.far, abs=1e-5)
    assert depth[5, 32].item() == pytest.approx(CONFIG.far)
    assert depth[12, 24].item() == pytest.approx(CONFIG.far)


def test_halfway_out_follows_the_circle() -> None:
    depth = ellipsoid_depth(_box(10, 50, 22, 42), CAMERA, CONFIG)[0]
    rim = CONFIG.radius**2 - (CONFIG.radius - (CONFIG.far - CONFIG.near)) ** 2
    expected = CONFIG.radius - math.sqrt(CONFIG.radius**2 - 0.25 * rim) + CONFIG.near
    assert depth[30, 37].item() == pytest.approx(expected, abs=1e-6)
    assert depth[40, 32].item() == pytest.approx(expected, abs=1e-6)


def test_empty_mask_counts_as_the_whole_frame() -> None:
    whole = ellipsoid_depth(torch.ones(1, 64, 64), CAMERA, CONFIG)
    assert torch.equal(ellipsoid_depth(torch.zeros(1, 64, 64), CAMERA, CONFIG), whole)
    assert whole.isfinite().all()


def test_every_image_has_its_own_ellipse() -> None:
    masks = torch.cat([_box(10, 50, 22, 42), _box(0, 63, 4, 30)])
    depth = ellipsoid_depth(masks, CAMERA, CONFIG)
    assert depth[1, 31, 17] == depth[1].min()
    assert not torch.allclose(depth[0], depth[1])

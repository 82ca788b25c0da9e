from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan2shape.pipeline.evaluation.reference_depths import MeanDepth, constant_depth
from gan2shape.pipeline.scene.camera import Camera, pixel_rays
from gan2shape.pipeline.scene.metrics import ErrorMap, depth_metrics, erode
from gan2shape.pipeline.scene.render import render_depth
from tests.pipeline.shapes import KINDS, depth_map

CAMERA = Camera(32)


def ones(like: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(like)


def score(pred: torch.Tensor, true: torch.Tensor, mask: torch.Tensor | None = None):
    mask = ones(true) if mask is None else mask
    return depth_metrics(pred, ones(pred), true, mask, CAMERA)


def tilted(degrees: float) -> torch.Tensor:
    """Depth (1, S, S) of the plane through (0, 0, 1) turned about the y axis."""
    tilt = math.radians(degrees)
    normal = torch.tensor([math.sin(tilt), 0, math.cos(tilt)], dtype=torch.float64)
    return (normal[2] / (pixel_rays(CAMERA, "cpu", torch.float64) @ normal))[None]


@pytest.mark.parametrize("kind", KINDS)
def test_truth_rendered_at_the_identity_view_scores_zero(kind):
    camera = Camera(64)
    true = depth_map(kind, camera, 2).float()
    pred, mask = render_depth(true, torch.zeros(2, 6), camera)
    result = depth_metrics(pred, mask, true, ones(true), camera)
    assert result.side.max() < 1e-7
    assert result.mad_degrees.max() < 1e-2
    torch.testing.assert_close(result.relief_scale, ones(result.side), rtol=0, atol=1e-5)


def test_a_perfect_prediction_gets_zero_but_not_by_the_published_formula():
    camera = Camera(64)
    true = depth_map("bump", camera, 1)
    result = depth_metrics(true, ones(true), true, ones(true), camera)
    assert result.side.item() == 0
    assert result.mad_degrees.item() < 1e-12
    # A front-facing normal is (2 d / focal)^2 long before the published 1e-7 is added.
    length = (2 / camera.focal) ** 2
    expected = math.degrees(math.acos((length / (length + 1e-7)) ** 2))
    plane = torch.ones(1, 64, 64)
    paper = depth_metrics(plane, ones(plane), plane, ones(plane), camera).mad_paper_degrees
    assert expected == pytest.approx(6.5, abs=0.1)
    assert paper.item() == pytest.approx(expected, abs=1e-3)
    assert 3 < result.mad_paper_degrees.item() < 6.5


@pytest.mark.parametrize("degrees", [1e-6, 5, 30, 60])
def test_mad_of_a_plane_tilted_by_a_known_angle(degrees):
    result = score(tilted(degrees), tilted(0))
    assert result.mad_degrees.item() == pytest.approx(degrees, rel=1e-5)


def test_side_of_a_known_two_level_depth():
    true = torch.ones(1, 32, 32, dtype=torch.float64)
    pred = true.clone()
    pred[:, :, 16:] *= math.e**0.02
    # Valid columns 1..30: 15 at 0 and 15 at 0.02, so the spread is 0.01.
    assert score(pred, true).side.item() == pytest.approx(0.01)
    # A mask that ends at column 20 leaves 15 columns at 0 and 4 at 0.02 (the 20th is eroded).
    mask = ones(true)
    mask[:, :, 21:] = 0
    share = 4 / 19
    expected = 0.02 * math.sqrt(share * (1 - share))
    assert score(pred, true, mask).side.item() == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 2.0), st.integers(0, 100))
def test_scale_of_the_depth_leaves_side_and_mad_alone(scale, seed):
    true = depth_map("bump", CAMERA, 1, seed)
    pred = depth_map("plane", CAMERA, 1, seed + 1)
    plain, scaled = score(pred, true), score(scale * pred, true)
    assert score(scale * true, true).side.item() < 1e-7
    torch.testing.assert_close(plain.side, scaled.side)
    torch.testing.assert_close(plain.mad_degrees, scaled.mad_degrees)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.6])
def test_relief_scale_finds_the_factor_on_the_log_relief(factor):
    true = depth_map("bump", CAMERA, 1)
    log = true.log()
    pred = (log.mean() + factor * (log - log.mean())).exp()
    assert score(pred, true).relief_scale.item() == pytest.approx(1 / factor)


def test_a_flat_prediction_has_no_relief_scale_but_the_other_scores():
    result = score(torch.full((1, 32, 32), 1.0), depth_map("bump", CAMERA, 1))
    assert result.relief_scale.isnan().all()
    assert result.side.item() > 0.01


def test_erosion_takes_one_pixel_and_the_image_border():
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 2:7] = 1
    expected = torch.zeros(1, 8, 8, dtype=torch.bool)
    expected[:, 3:5, 3:6] = True
    assert torch.equal(erode(mask), expected)
    assert erode(torch.ones(1, 4, 4)).sum() == 4


def test_only_pixels_inside_both_masks_count():
    true, pred = depth_map("bump", CAMERA, 1), depth_map("bump", CAMERA, 1)
    left, right = ones(true), ones(true)
    left[..., 20:] = 0
    right[..., :8] = 0
    # Wrong or missing values outside the masks must not matter.
    pred[..., 20:] = float("nan")
    true[..., :8] = 55
    result = depth_metrics(pred, left, true, right, CAMERA)
    assert result.side.item() == 0
    assert result.mad_degrees.item() < 1e-12


def test_an_image_without_valid_pixels_is_nan_and_leaves_the_others_alone():
    true = depth_map("bump", CAMERA, 2)
    mask = ones(true)
    mask[0] = 0
    result = score(true, true, mask)
    for values in (
        result.side,
        result.mad_degrees,
        result.mad_paper_degrees,
        result.relief_scale,
    ):
        assert values[0].isnan()
        assert values[1].isfinite()


def test_wrong_shapes_are_refused():
    depth = torch.ones(2, 32, 32)
    with pytest.raises(ValueError, match="true_mask must be"):
        depth_metrics(depth, depth, depth, depth[:1], CAMERA)


def test_constant_depth_is_a_plane_that_fits_the_camera():
    planes = constant_depth(CAMERA, 3)
    assert planes.shape == (3, 32, 32)
    assert (planes == 1).all()


def test_mean_depth_averages_the_images_that_see_a_pixel():
    depths = torch.tensor([[[1.0, 2.0], [3.0, 9.0]], [[3.0, 7.0], [5.0, 9.0]]])
    masks = torch.tensor([[[1, 1], [1, 0]], [[1, 0], [1, 0]]]).float()
    mean = MeanDepth.empty(2).add(depths, masks).result()
    # Seen twice, once, twice and never: the last gets the mean of all that was seen.
    expected = torch.tensor([[2.0, 2.0], [4.0, (1 + 3 + 2 + 3 + 5) / 5]]).double()
    torch.testing.assert_close(mean, expected)
    streamed = MeanDepth.empty(2).add(depths[:1], masks[:1]).add(depths[1:], masks[1:])
    torch.testing.assert_close(streamed.result(), mean)


def test_mean_depth_ignores_what_lies_outside_the_masks():
    depths = torch.tensor([[[float("nan"), 2.0]] * 2])
    masks = torch.tensor([[[0.0, 1.0]] * 2])
    empty = MeanDepth.empty(2)
    assert empty.add(depths, masks).result().isfinite().all()
    with pytest.raises(ValueError, match="at least one image"):
        empty.add(depths, torch.zeros_like(masks)).result()


def test_an_error_map_means_over_the_images_that_are_valid_at_a_pixel():
    true = torch.cat([tilted(0), tilted(0)])
    pred = torch.cat([tilted(10), tilted(30)])
    masks = ones(true)
    masks[1, :, 16:] = 0  # the second image is valid in columns 1 to 14 alone
    whole = ErrorMap.empty(32).add(pred, ones(pred), true, masks, CAMERA)
    parts = ErrorMap.empty(32)
    for i in range(2):
        one = slice(i, i + 1)
        parts = parts.add(pred[one], ones(pred[one]), true[one], masks[one], CAMERA)
    assert torch.equal(whole.count, parts.count)
    mean = whole.mean()
    assert mean[5, 5].item() == pytest.approx(20, rel=1e-4)
    assert mean[5, 20].item() == pytest.approx(10, rel=1e-4)
    assert mean[0].isnan().all()
    assert whole.mean(least=2)[5, 20].isnan()
    assert parts.mean(least=2)[5, 5].item() == pytest.approx(20, rel=1e-4)

"""How close a depth map is to the truth: SIDE, MAD and the best relief scale.

SIDE and MAD are those of Unsup3D, section 4.1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, check_depth
from gan2shape.pipeline.scene.geometry import normals_from_depth, pad_normals, raw_normals

PAPER_EPSILON = 1e-7
"""What the published code adds to the length of a normal (about 3e-5 at S=64)."""


@dataclass(frozen=True)
class DepthMetrics:
    """Scores per image (N,) float64; NaN where an image has no valid pixel."""

    side: Tensor
    """Scale-invariant depth error, plain (tables print it times 100); 0 is right."""
    mad_degrees: Tensor
    """Mean angle between predicted and true normals in degrees; 0 is right."""
    mad_paper_degrees: Tensor
    """The same by the published formula, which gives about 5.6 to a perfect prediction at S=64."""
    relief_scale: Tensor
    """Factor on the predicted log relief that fits the truth best; 1 is right, below 1 is too deep.

    NaN also where the prediction has no relief.
    """


def depth_metrics(
    pred_depth: Tensor,
    pred_mask: Tensor,
    true_depth: Tensor,
    true_mask: Tensor,
    camera: Camera,
) -> DepthMetrics:
    """Score predicted depths (N, S, S), rendered in the input's view, against true ones (N, S, S).

    Valid pixels lie inside both masks (N, S, S), each eroded by one pixel. Computed in float64.
    """
    check_depth(pred_depth, camera)
    for name, other in (
        ("pred_mask", pred_mask),
        ("true_depth", true_depth),
        ("true_mask", true_mask),
    ):
        if other.shape != pred_depth.shape:
            raise ValueError(f"{name} must be {tuple(pred_depth.shape)}, not {tuple(other.shape)}")
    pred_depth, true_depth = pred_depth.double(), true_depth.double()
    valid = erode(pred_mask) & erode(true_mask)  # (N, S, S)
    pred_log, true_log = pred_depth.log(), true_depth.log()
    difference = pred_log - true_log
    spread = _mean((difference - _mean(difference, valid)[:, None, None]) ** 2, valid)
    exact, paper = _angles(pred_depth, true_depth, camera)
    return DepthMetrics(
        side=spread.sqrt(),
        mad_degrees=_mean(exact, valid),
        mad_paper_degrees=_mean(paper, valid),
        relief_scale=_relief_scale(pred_log, true_log, valid),
    )


@dataclass(frozen=True)
class ErrorMap:
    """Running sums (S, S) float64 of the angle between normals, over the images valid at a pixel.

    It tells where in the frame the error of a method sits; MAD is the same angle per image.
    """

    total: Tensor
    count: Tensor

    @classmethod
    def empty(cls, size: int) -> ErrorMap:
        return cls(torch.zeros(size, size).double(), torch.zeros(size, size).double())

    def add(
        self,
        pred_depth: Tensor,
        pred_mask: Tensor,
        true_depth: Tensor,
        true_mask: Tensor,
        camera: Camera,
    ) -> ErrorMap:
        """The sums with more images added; the arguments are those of `depth_metrics`."""
        valid = erode(pred_mask) & erode(true_mask)  # (N, S, S)
        angles = _exact_angles(pred_depth.double(), true_depth.double(), camera)
        total = self.total + torch.where(valid, angles, 0).sum(0)
        return ErrorMap(total, self.count + valid.sum(0))

    def mean(self, least: float = 1) -> Tensor:
        """Mean angle (S, S) in degrees; NaN where fewer than `least` images are valid."""
        seen = self.count >= max(least, 1)
        return torch.where(seen, self.total / self.count.clamp(min=1), torch.nan)


def erode(mask: Tensor) -> Tensor:
    """Pixels (N, S, S) bool whose 3x3 neighbourhood lies in the mask: its mean is above 0.99.

    Pixels beyond the image count as outside, so the border is never valid: it has no normals
    either.
    """
    return functional.avg_pool2d(mask.double()[:, None], 3, stride=1, padding=1)[:, 0] > 0.99


def _relief_scale(pred_log: Tensor, true_log: Tensor, valid: Tensor) -> Tensor:
    pred = pred_log - _mean(pred_log, valid)[:, None, None]
    true = true_log - _mean(true_log, valid)[:, None, None]
    variance = _mean(pred**2, valid)
    # Rounding leaves a flat map with a variance of about 1e-32.
    flat = variance < 1e-20
    return torch.where(flat, torch.nan, _mean(pred * true, valid) / variance)


def _angles(pred: Tensor, true: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Angles (N, S, S) in degrees between the normals of two depths: exact, and as published."""
    a, b = _published_normals(pred, camera), _published_normals(true, camera)
    paper = (a * b).sum(-1).clamp(-1, 1).acos()
    return _exact_angles(pred, true, camera), paper.rad2deg()


def _exact_angles(pred: Tensor, true: Tensor, camera: Camera) -> Tensor:
    a, b = normals_from_depth(pred, camera), normals_from_depth(true, camera)
    # atan2 is exact near 0, where acos loses half the digits.
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1)).rad2deg()


def _published_normals(depth: Tensor, camera: Camera) -> Tensor:
    """Normals (N, S, S, 3) a little too short, as the published code makes them."""
    x, y, z = raw_normals(depth, camera)
    length = (x * x + y * y + z * z).sqrt() + PAPER_EPSILON
    return pad_normals(x / length, y / length, z / length)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean (N,) of values (N, S, S) over valid pixels; NaN where there are none.

    Values of other pixels are never touched, so they may be infinite or NaN.
    """
    return torch.where(valid, values, 0).sum((1, 2)) / valid.sum((1, 2))

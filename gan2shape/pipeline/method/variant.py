"""Where the method may be varied: functions that the steps call, the paper's by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Generator, Tensor

from gan2shape.pipeline.perceptual.losses import PerceptualLoss
from gan2shape.pipeline.scene.shape import Shape

if TYPE_CHECKING:
    from gan2shape.pipeline.method.estimate import Estimate


def both_sides(shapes: Shape, random: Generator) -> list[Shape]:
    """A symmetric object looks like its mirror image: both are compared with the target."""
    return [shapes, shapes.mirrored()]


def all_distances(
    distance: PerceptualLoss, images: Tensor, targets: Tensor, masks: Tensor, random: Generator
) -> Tensor:
    """Perceptual distances (B,) of all images."""
    return distance(images, targets, masks)


def constant_rate(iteration: int, count: int) -> float:
    """The learning rate stays as it is."""
    return 1.0


def as_it_is(depth: Tensor) -> Tensor:
    """Depth (B, S, S) whose gradient is left alone."""
    return depth


def network_colours(estimate: Estimate) -> Shape:
    """Pseudo samples have the albedo network's colours."""
    return estimate.shapes


@dataclass(frozen=True)
class Variant:
    """What the steps do where an extension may take the paper's place.

    sides: the shapes that are compared with a target where step 1 or 3 is symmetric.
    distances: perceptual distances (B,) of renderings from targets.
    learning_rate: factor on the learning rate in an iteration (from 0) of so many.
    depth: passes on step 3's depth (B, S, S), and may watch its gradient.
    pseudo_shapes: the shapes that pseudo samples are rendered from.
    """

    sides: Callable[[Shape, Generator], list[Shape]] = both_sides
    distances: Callable[[PerceptualLoss, Tensor, Tensor, Tensor, Generator], Tensor] = all_distances
    learning_rate: Callable[[int, int], float] = constant_rate
    depth: Callable[[Tensor], Tensor] = as_it_is
    pseudo_shapes: Callable[[Estimate], Shape] = network_colours


PAPER = Variant()

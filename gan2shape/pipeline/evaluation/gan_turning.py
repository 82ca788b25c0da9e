"""Does a GAN's manifold turn its objects? Step 2 of the method relies on that.

The view network labels random samples, a direction in W is fitted to their yaw, other samples are
moved along it, and the networks look at these again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.scene.camera import PITCH, ROLL, YAW, rotation_matrix
from gan2shape.pipeline.scene.shading import turn_light
from gan2shape.pipeline.stylegan2.directions import Direction, linear_direction
from gan2shape.pipeline.stylegan2.generator import Generator

LABELLED, MEASURED = 4000, 100
"""Samples that the direction is fitted to, and samples that are turned along it."""
LABELLED_SEED, MEASURED_SEED = 1_000_000, 1_000_001
"""Far from those that people draw."""
BATCH = 32
"""Samples that go through the networks at once."""


@dataclass(frozen=True)
class Turning:
    """How well samples turn along a direction."""

    r2: float
    """Share of the yaw's variance that is linear in W, cross-validated."""
    slope: float
    """Of the yaw that the view network sees in turned samples over the yaw asked for; 1 is best."""
    correlation: float
    changes: dict[str, float]
    """What else changes, by name: mean change by the turn over mean difference of two samples."""


@torch.no_grad()
def yaw_direction(
    generator: Generator, networks: ShapeNetworks, count: int = LABELLED
) -> Direction:
    """Direction of yaw in radians, from `count` random samples.

    Raises `ValueError` if all have the same yaw.
    """
    latents = generator.sample_latents(count, LABELLED_SEED)
    return linear_direction(latents, _yaw(generator, networks, latents))


@torch.no_grad()
def light_directions(
    generator: Generator, networks: ShapeNetworks, count: int = LABELLED
) -> list[Direction]:
    """Directions of a light's four raw numbers, in the camera's frame, from random samples.

    In the frame of the shape a light's direction goes with the yaw: moving along it would turn the
    object. Each is fitted alone: directions that leave the other numbers as they are relight heads
    worse, since what networks see of ambient and diffuse light goes together. Raises `ValueError`
    if all samples have the same light.
    """
    latents = generator.sample_latents(count, LABELLED_SEED)
    seen = []
    for part in latents.split(BATCH):
        images = _images(generator, part)
        rotations = rotation_matrix(networks.view(images)[:, :3])
        seen.append(turn_light(networks.light(images), rotations))
    return [linear_direction(latents, values) for values in torch.cat(seen).unbind(-1)]


@torch.no_grad()
def rows(
    generator: Generator, networks: ShapeNetworks, vector: Tensor, latents: Tensor, yaws: Tensor
) -> Iterator[Tensor]:
    """For each of the latents (N, D) its image, then the same turned to each of `yaws` (T,), in
    radians: (1 + T, 3, S, S) in [-1, 1].

    A sample is moved by what its yaw lacks, by the view network: `vector` is per radian.
    """
    for latent, own in zip(latents, _yaw(generator, networks, latents), strict=True):
        turned = latent + (yaws - own)[:, None] * vector  # (T, D)
        parts = torch.cat([latent[None], turned]).split(BATCH)
        yield torch.cat([_images(generator, part) for part in parts])


@torch.no_grad()
def measure_turning(
    generator: Generator,
    networks: ShapeNetworks,
    direction: Direction,
    yaws: Tensor,
    count: int = MEASURED,
) -> Turning:
    """Turn `count` samples, none of them labelled, to each of `yaws` (T,) and look at them.

    T and `count` are at least 2.
    """
    latents = generator.sample_latents(count, MEASURED_SEED)
    seen: list[Tensor] = []
    changes: dict[str, list[float]] = {}
    differences: dict[str, list[float]] = {}
    before: dict[str, Tensor] = {}
    for images in rows(generator, networks, direction.vector, latents, yaws):
        seen.append(networks.view(images)[1:, YAW])
        found = _attributes(networks, images)
        for name, values in found.items():
            changes.setdefault(name, []).append(_mean_gap(values[1:], values[:1]))
            if before:
                gap = _mean_gap(values[:1], before[name])
                differences.setdefault(name, []).append(gap)
        before = {name: values[:1] for name, values in found.items()}
    slope, correlation = _regression(yaws.expand(count, -1), torch.stack(seen))
    return Turning(
        direction.r2, slope, correlation, {n: _ratio(changes[n], differences[n]) for n in changes}
    )


def _yaw(generator: Generator, networks: ShapeNetworks, latents: Tensor) -> Tensor:
    """Yaw (N,) in radians of the images of latents (N, D), by the view network."""
    parts = latents.split(BATCH)
    return torch.cat([networks.view(_images(generator, part))[:, YAW] for part in parts])


def _images(generator: Generator, latents: Tensor) -> Tensor:
    return generator(latents).clamp(-1, 1)


def _attributes(networks: ShapeNetworks, images: Tensor) -> dict[str, Tensor]:
    """What a turn should leave as it is: (B, ...) each."""
    view = networks.view(images)
    return {
        "pitch": view[:, PITCH],
        "roll": view[:, ROLL],
        "shift": view[:, 3:],
        "light": networks.light(images),
        "depth": networks.depth(images),
        "albedo": networks.albedo(images),
    }


def _mean_gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def _ratio(changes: list[float], differences: list[float]) -> float:
    """0 where nothing changes at all, also where samples do not differ."""
    change, difference = sum(changes) / len(changes), sum(differences) / len(differences)
    return change / difference if change else 0.0


def _regression(asked: Tensor, seen: Tensor) -> tuple[float, float]:
    """Slope and correlation of `seen` over `asked`; the correlation of a constant is 0."""
    x, y = asked.double() - asked.double().mean(), seen.double() - seen.double().mean()
    spread = float((x.square().sum() * y.square().sum()).sqrt())
    product = float((x * y).sum())
    return product / float(x.square().sum()), product / spread if spread else 0.0

"""Inversion: finding the latent w of images that come without one.

Whole batches are optimised at once, each image on its own account: losses are summed, never
averaged over the batch, and nothing random depends on the batch. The search starts at the random
sample of the generator that looks most like the image, which keeps faces face-like and costs less
than ten iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.perceptual.feature_distance import feature_distance, weighted_l1
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.stylegan2.generator import Generator
from gan2shape.schemas.settings import InversionConfig

FEATURE_BLOCKS = 4
"""First blocks of the discriminator whose features are compared, as in step 2."""
SPACE_SAMPLES = 10_000
"""Random latents that tell the mean and the spread of W: both are then known to one percent."""
NORM_WEIGHT = 0.005
"""On the mean square of w's distance from the mean latent, in standard deviations."""
BACKGROUND_WEIGHT = 0.25
"""Of pixels outside the mask: the object's outline counts, the background's content hardly does."""
WARM_UP, RAMP_DOWN = 0.05, 0.3
"""Shares of the iterations in which the learning rate rises from zero, and falls back to it."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Inversion:
    """Latents found for a set of images."""

    latents: Tensor
    """(N, D) float32; NaN where the image failed."""
    images: Tensor
    """(N, 3, S, S) float32: what the generator makes of them."""
    l1: Tensor
    """(N,) mean absolute difference on the range [-1, 1], inside the mask."""
    failures: list[str | None]


@dataclass(frozen=True)
class LatentSpace:
    """Where the generator's latents lie."""

    mean: Tensor
    """(D,)"""
    spread: Tensor
    """Root mean square deviation of a component, a scalar."""


def measure_space(gan: Gan, count: int = SPACE_SAMPLES) -> LatentSpace:
    """Mean and spread of W, from the same `count` samples every time."""
    samples = gan.generator.sample_latents(count, seed=0)
    mean = samples.mean(dim=0)
    return LatentSpace(mean, (samples - mean).square().mean().sqrt())


def invert(
    gan: Gan,
    images: Tensor,
    config: InversionConfig,
    *,
    masks: Tensor | None = None,
    lpips: Lpips | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    precision: str = "auto",
) -> Inversion:
    """Find w with G(w) close to each image, from the random sample that looks most like it.

    Minimises L1 + `perceptual_weight` * (L1 of the discriminator's first features + LPIPS if given)
    plus a small penalty on the distance from the mean latent, by Adam with a cosine ramp-down. The
    learning rate is in units of the spread of W.

    Args:
        images: (N, 3, S, S) float32 in [-1, 1]; the generator's pictures are brought to size S.
        masks: (N, S, S) in {0, 1}: the object; the rest counts by `BACKGROUND_WEIGHT`.
        seed: chooses the samples to start from.
        on_progress: called with (iterations done, iterations in all).
        precision: "auto" (bfloat16 where the hardware multiplies it), "float32" or "bfloat16".
    Returns:
        Latents, pictures and errors; an image that fails has a reason and does not touch the
        others.
    Raises:
        ValueError: shapes do not fit each other.
    """
    _check(images, masks)
    space = measure_space(gan)
    samples = gan.generator.sample_latents(config.start_samples, seed=seed + 1)
    samples = torch.cat((space.mean[None], samples))
    return _invert(
        gan,
        images,
        config,
        space,
        lambda target, part: _closest(target, samples),
        masks,
        lpips,
        on_progress,
        precision,
    )


def refine(
    gan: Gan,
    images: Tensor,
    latents: Tensor,
    config: InversionConfig,
    *,
    masks: Tensor | None = None,
    lpips: Lpips | None = None,
    on_progress: OnProgress | None = None,
    precision: str = "auto",
    space: LatentSpace | None = None,
) -> Inversion:
    """`invert`, but from `latents` (N, D) that are close already.

    `space` is what `measure_space` gives for the GAN, where it is known.
    """
    _check(images, masks)
    if latents.shape != (len(images), gan.generator.style_dim):
        raise ValueError(
            f"latents must be {(len(images), gan.generator.style_dim)}, not {tuple(latents.shape)}"
        )
    return _invert(
        gan,
        images,
        config,
        space or measure_space(gan),
        lambda target, part: latents[part],
        masks,
        lpips,
        on_progress,
        precision,
    )


def _invert(
    gan: Gan,
    images: Tensor,
    config: InversionConfig,
    space: LatentSpace,
    start: Callable[[_Target, slice], Tensor],
    masks: Tensor | None,
    lpips: Lpips | None,
    on_progress: OnProgress | None,
    precision: str,
) -> Inversion:
    """Batch by batch, from what `start` gives for each."""
    chunks = list(range(0, len(images), config.batch))
    total = config.iterations * len(chunks)
    results = []
    for number, begin in enumerate(chunks):
        part = slice(begin, begin + config.batch)
        target = _Target(gan, images[part], None if masks is None else masks[part], lpips)

        def tick(iteration: int, before: int = number * config.iterations) -> None:
            if on_progress is not None:
                on_progress(before + iteration, total)

        with autocast(images.device, precision):
            results.append(_optimise(target, space, start(target, part), config, tick))
    if not results:
        empty = images.new_zeros(0)
        return Inversion(images.new_zeros(0, gan.generator.style_dim), images.clone(), empty, [])
    latents, made, l1 = (torch.cat(parts) for parts in zip(*results, strict=True))
    failures = _failures(images, latents, l1)
    bad = torch.tensor([reason is not None for reason in failures], device=latents.device)
    return Inversion(latents.masked_fill(bad[:, None], math.nan), made, l1, failures)


def match_size(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, T, T) at `size`: area average downwards, bilinear upwards."""
    side = images.shape[-1]
    if side == size:
        return images
    if side % size == 0:
        return functional.avg_pool2d(images, side // size)
    mode = "area" if side > size else "bilinear"
    return functional.interpolate(images, (size, size), mode=mode)


def pictures(generator: Generator, latents: Tensor, size: int) -> Tensor:
    """The generator's images (N, 3, size, size) float32 of latents (N, D)."""
    return match_size(generator(latents).float(), size)


class _Target:
    """A batch of images to come close to, with their features computed once."""

    def __init__(self, gan: Gan, images: Tensor, masks: Tensor | None, lpips: Lpips | None) -> None:
        self.gan = gan
        self.images = images
        self.lpips = lpips
        weights = torch.ones_like(images[:, 0]) if masks is None else masks.to(images.dtype)
        self.inside = weights[:, None]  # (B, 1, S, S)
        self.weights = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * self.inside
        with torch.no_grad(), autocast(images.device, "float32"):
            self.features = self._features(images)
            self.perceived = None if lpips is None else lpips.features(images)

    def _features(self, images: Tensor) -> list[Tensor]:
        network = self.gan.discriminator
        if network is None:
            return []
        return network.features(images, min(FEATURE_BLOCKS, network.blocks))

    def picture(self, latents: Tensor) -> Tensor:
        return pictures(self.gan.generator, latents, self.images.shape[-1])

    def losses(self, made: Tensor, perceptual_weight: float) -> Tensor:
        """Per image: (B,)."""
        loss = weighted_l1(made, self.images, self.weights)
        if perceptual_weight:
            loss = loss + perceptual_weight * feature_distance(
                self._features(made), self.features, self.weights[:, 0]
            )
            if self.lpips is not None and self.perceived is not None:
                distance = self.lpips.distance(
                    self.lpips.features(made), self.perceived, self.weights[:, 0]
                )
                loss = loss + perceptual_weight * distance
        return loss

    def error(self, made: Tensor) -> Tensor:
        return weighted_l1(made, self.images, self.inside)


def _optimise(
    target: _Target,
    space: LatentSpace,
    latents: Tensor,
    config: InversionConfig,
    tick: Callable[[int], None],
) -> tuple[Tensor, Tensor, Tensor]:
    offsets = ((latents - space.mean) / space.spread).requires_grad_()
    optimizer = torch.optim.Adam([offsets], lr=config.learning_rate)
    for iteration in range(config.iterations):
        rate = config.learning_rate * _schedule(iteration, config.iterations)
        optimizer.param_groups[0]["lr"] = rate
        made = target.picture(space.mean + space.spread * offsets)
        loss = target.losses(made, config.perceptual_weight)
        loss = loss + NORM_WEIGHT * offsets.square().mean(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        tick(iteration + 1)
    with torch.no_grad():
        latents = space.mean + space.spread * offsets
        made = target.picture(latents)
        return latents.detach(), made.contiguous(), target.error(made)


@torch.no_grad()
def _closest(target: _Target, starts: Tensor, batch: int = 32) -> Tensor:
    """For every image the start whose picture is nearest in coarse pixels and features: (B, D)."""
    count = len(target.images)
    wanted = _coarse(target.images, target.features)
    best = target.images.new_full((count,), math.inf)
    choice = torch.zeros(count, dtype=torch.long, device=starts.device)
    for begin in range(0, len(starts), batch):
        made = target.picture(starts[begin : begin + batch])
        mine = _coarse(made, target._features(made))
        gaps = [torch.cdist(a, b, p=1) / a.shape[1] for a, b in zip(wanted, mine, strict=True)]
        nearest, index = torch.stack(gaps).sum(dim=0).min(dim=1)
        better = nearest < best
        best = torch.where(better, nearest, best)
        choice = torch.where(better, index + begin, choice)
    return starts[choice]


def _coarse(images: Tensor, features: list[Tensor], side: int = 8) -> list[Tensor]:
    maps = [images, *features[1:]]
    return [
        functional.adaptive_avg_pool2d(x.float(), min(side, x.shape[-1])).flatten(1) for x in maps
    ]


def _schedule(iteration: int, iterations: int) -> float:
    """Share of the learning rate: short warm-up, level, cosine ramp-down."""
    done = iteration / iterations
    rise = min(1.0, (iteration + 1) / (WARM_UP * iterations + 1e-9))
    fall = min(1.0, (1.0 - done) / RAMP_DOWN)
    return rise * (0.5 - 0.5 * math.cos(math.pi * fall))


def _failures(images: Tensor, latents: Tensor, l1: Tensor) -> list[str | None]:
    given = torch.isfinite(images).flatten(1).all(dim=1).tolist()
    found = (torch.isfinite(latents).all(dim=1) & torch.isfinite(l1)).tolist()
    reasons: list[str | None] = []
    for sound, finite in zip(given, found, strict=True):
        if not sound:
            reasons.append("The inversion failed: the image has values that are not finite.")
        elif not finite:
            reasons.append("The inversion failed: it diverged to values that are not finite.")
        else:
            reasons.append(None)
    return reasons


def _check(images: Tensor, masks: Tensor | None) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (N, 3, S, S), not {tuple(images.shape)}")
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"masks must be {(len(images), *images.shape[2:])}, not {tuple(masks.shape)}"
        )

"""The loop over cycles for one group of images: GAN2Shape from inputs to shapes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline import steps
from gan2shape.pipeline.group import Group, Targets, group_state, new_group, restore_group
from gan2shape.pipeline.losses import PerceptualLoss, masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.checkpoint import Gan
from gan2shape.schemas.config import RunConfig, When

__all__ = ["Shapes", "Targets", "iterations_total", "reconstruct"]

OnProgress = Callable[[str, int, int], None]
OnCheckpoint = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Shapes:
    """What was found for N images; NaN where an image failed.

    depth: (N, S, S) canonical depth in scene units.
    albedo: (N, 3, S, S) canonical albedo in [-1, 1].
    normal: (N, S, S, 3) unit normals of the canonical depth.
    mask: (N, S, S) 1 where the shape covers the object in the input's view.
    view: (N, 6) rotations in radians, translations in scene units.
    light: (N, 4) ambient, diffuse, direction x and y, in [-1, 1].
    latent: (N, D) the latents that came in.
    reconstruction: (N, 3, S, S) the input as rendered from the above.
    failures: N reasons, None where all went well.
    losses: name to (N,) values of the final reconstruction.
    seconds: name of a step to wall time for the whole group.
    """

    depth: Tensor
    albedo: Tensor
    normal: Tensor
    mask: Tensor
    view: Tensor
    light: Tensor
    latent: Tensor
    reconstruction: Tensor
    failures: list[str | None]
    losses: dict[str, Tensor]
    seconds: dict[str, float]


def iterations_total(config: RunConfig) -> int:
    """Iterations of all steps together, for progress bars."""
    cycles = config.optimization.cycles
    return config.ellipsoid.iterations + sum(c.step1 + c.step2 + c.views + c.step3 for c in cycles)


def reconstruct(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    *,
    lpips: PerceptualLoss | None = None,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> Shapes:
    """Find the shapes of a group of images that share their networks.

    Args:
        targets: the images, their masks and latents.
        gan: frozen generator and discriminator of the images' category.
        config: the run's settings.
        lpips: perceptual loss for steps 1 and 3 in place of the discriminator's features.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called with (step's name, iterations done, iterations in all).
        on_checkpoint: called after every step with a state that `torch.save` takes.
    Raises:
        UserError: the images, latents, settings and GAN do not fit each other.
    """
    group = new_group(targets, gan, config, lpips)
    clock: dict[str, float] = {}
    done_steps = done_iterations = 0
    if state is not None:
        restore_group(group, state["group"])
        clock = dict(state["seconds"])
        done_steps, done_iterations = state["steps"], state["iterations"]

    total = iterations_total(config)
    step_name = ""

    def tick() -> None:
        nonlocal done_iterations
        done_iterations += 1
        if on_progress is not None:
            on_progress(step_name, done_iterations, total)

    try:
        for number, (name, key, run) in enumerate(_schedule(config)):
            if number < done_steps:
                continue
            step_name = name
            if not len(group.active()):
                break
            with _timed(clock, key):
                run(group, tick)
            if on_checkpoint is not None:
                on_checkpoint(
                    {
                        "group": group_state(group),
                        "seconds": dict(clock),
                        "steps": number + 1,
                        "iterations": done_iterations,
                    }
                )
    except steps.AllFailedError:
        pass
    return _finish(group, clock)


Step = tuple[str, str, Callable[[Group, steps.OnIteration], None]]


def _schedule(config: RunConfig) -> list[Step]:
    """The run's steps in order: a name for people, the key of their timing, what to do."""
    options = config.optimization
    plan: list[Step] = [("ellipsoid", "prior", steps.fit_ellipsoid)]
    for number, cycle in enumerate(options.cycles):
        label = f"cycle {number + 1}/{len(options.cycles)}"
        flip1 = _applies(options.symmetry_step1, number)
        flip3 = _applies(options.symmetry_step3, number)
        albedo = partial(steps.fit_albedo, iterations=cycle.step1, symmetric=flip1)
        shape = partial(steps.fit_shape, iterations=cycle.step3, symmetric=flip3)
        views = partial(steps.fit_views, iterations=cycle.views)
        plan += [
            (f"{label}, albedo", "step1", _run(albedo)),
            (f"{label}, projection", "step2", _run(partial(_project, iterations=cycle.step2))),
            *([(f"{label}, views", "views", _run(views))] if cycle.views else []),
            (f"{label}, shape", "step3", _run(shape)),
        ]
    return plan


def _run(step: Callable[..., None]) -> Callable[[Group, steps.OnIteration], None]:
    return lambda group, tick: step(group, on_iteration=tick)


def _project(group: Group, iterations: int, on_iteration: steps.OnIteration) -> None:
    steps.fit_encoder(group, iterations, on_iteration)
    steps.collect_samples(group)


def _applies(when: When, cycle: int) -> bool:
    return {
        "never": False,
        "first_cycle": cycle == 0,
        "later_cycles": cycle > 0,
        "always": True,
    }[when]


@torch.no_grad()
def _finish(group: Group, clock: dict[str, float]) -> Shapes:
    """Read the shapes off the networks and render every input once more."""
    targets, estimate = group.targets, steps.Estimate(group)
    shapes, view, light = estimate.shapes, estimate.view, estimate.light
    rendering = steps.render(group, shapes, view, light)
    masks = group.loss_masks(torch.arange(len(view), device=group.device)) * rendering.mask
    with autocast(group.device, group.config.precision):
        perceptual = group.perceptual(rendering.image, targets.images, masks).float()
    found = Shapes(
        depth=shapes.depth,
        albedo=shapes.albedo,
        normal=shapes.normals,
        mask=rendering.mask * targets.masks,
        view=view,
        light=light,
        latent=targets.latents.clone(),
        reconstruction=rendering.image.clamp(-1, 1),
        failures=list(group.failures),
        losses={
            "photometric": masked_l1(rendering.image, targets.images, masks),
            "perceptual": perceptual,
        },
        seconds=clock,
    )
    for index, reason in enumerate(found.failures):
        if reason is not None:
            for value in (*vars(found).values(), *found.losses.values()):
                if isinstance(value, Tensor):
                    value[index] = float("nan")
    return found


@contextmanager
def _timed(clock: dict[str, float], key: str) -> Any:
    start = time.perf_counter()
    try:
        yield
    finally:
        clock[key] = clock.get(key, 0.0) + time.perf_counter() - start

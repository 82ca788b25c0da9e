"""The steps of a reconstruction in order, done one after another and resumed between any two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.single_image import fit_single_images, single_image_iterations
from gan2shape.pipeline.extensions.turn_calibration import calibrate_turns
from gan2shape.pipeline.method import steps
from gan2shape.pipeline.method.group import Group, group_state, restore_group
from gan2shape.pipeline.method.optimizer import AllFailedError
from gan2shape.schemas.base import When
from gan2shape.schemas.settings import Cycle, RunConfig

OnProgress = Callable[[str, int, int], None]
"""Called with (step's name, iterations done, iterations in all)."""


@dataclass(frozen=True)
class Step:
    """One step: its name for people, the key that its time is booked under, what it does."""

    name: str
    key: str
    run: Callable[[Group, steps.OnIteration], None]
    ends_cycle: bool = False


@dataclass(frozen=True)
class StepReport:
    """How a step went: mean losses over its first and last tenth, and its wall time."""

    name: str
    iterations: int
    first_loss: float
    last_loss: float
    seconds: float
    ends_cycle: bool


def iterations_total(
    config: RunConfig, images: int, pretrained: bool = False, teachers: int = 0
) -> int:
    """Iterations of all steps together on a group of `images`, for progress bars."""
    cycles = sum(
        c.step1
        + c.step2
        + c.view_iterations
        + c.step3
        + single_image_iterations(c.single_image_passes, images, config, teachers)
        for c in config.optimization.cycles
    )
    return cycles + (0 if pretrained else config.ellipsoid.iterations)


def make_schedule(config: RunConfig, pretrained: bool = False) -> list[Step]:
    """All steps of a run in order; pretrained networks have no need of the ellipsoid."""
    cycles = config.optimization.cycles
    start = [] if pretrained else [Step("ellipsoid", "prior", steps.fit_ellipsoid)]
    return start + [
        step for number, _ in enumerate(cycles) for step in cycle_steps(config, number, len(cycles))
    ]


def cycle_steps(config: RunConfig, number: int, count: int) -> list[Step]:
    """The steps of cycle `number` (0-based) of `count`."""
    options = config.optimization
    cycle: Cycle = options.cycles[min(number, len(options.cycles) - 1)]
    label = f"cycle {number + 1}/{count}"
    flip1, flip3 = (
        _applies(when, number) for when in (options.symmetry_step1, options.symmetry_step3)
    )
    found = []
    if cycle.projects:
        albedo = partial(_albedo, iterations=cycle.step1, symmetric=flip1)
        project = partial(_project, iterations=cycle.step2, objects=cycle.background_weight < 1)
        views = partial(_views, iterations=cycle.view_iterations)
        shape = partial(
            _shape, iterations=cycle.step3, symmetric=flip3, background=cycle.background_weight
        )
        found += [
            Step(f"{label}, albedo", "step1", albedo),
            Step(f"{label}, projection", "step2", project),
            *([Step(f"{label}, views", "views", views)] if cycle.view_iterations else []),
            Step(f"{label}, shape", "step3", shape),
        ]
    if cycle.single_image_passes:
        inputs = partial(_inputs, looks=cycle.single_image_passes, relief=cycle.relief_factor)
        found.append(Step(f"{label}, inputs alone", "inputs", inputs))
    return [*found[:-1], *(replace(step, ends_cycle=True) for step in found[-1:])]


def run_schedule(
    group: Group,
    schedule: list[Step],
    total: int,
    *,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_checkpoint: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, float]:
    """Do the steps on the group in place; returns wall seconds by the steps' keys.

    Args:
        total: iterations in all, for `on_progress`.
        state: what `on_checkpoint` got last, to go on from there.
        on_step: called after every step.
        on_checkpoint: called after that with a state that `torch.save` takes.
    Ends early when no image is left to go on with.
    """
    clock: dict[str, float] = {}
    done_steps = done_iterations = 0
    if state is not None:
        restore_group(group, state["group"])
        clock = dict(state["seconds"])
        done_steps, done_iterations = state["steps"], state["iterations"]
    for number, step in enumerate(schedule[done_steps:], done_steps):
        if group.process_group.worst(int(not group.alive), group.device):
            break
        losses: list[Tensor] = []

        def tick(loss: Tensor, losses: list[Tensor] = losses, name: str = step.name) -> None:
            nonlocal done_iterations
            done_iterations += 1
            losses.append(loss)
            if on_progress is not None:
                on_progress(name, done_iterations, total)

        start = time.perf_counter()
        try:
            step.run(group, tick)
        except AllFailedError:
            break
        finally:
            seconds = time.perf_counter() - start
            clock[step.key] = clock.get(step.key, 0.0) + seconds
        if on_step is not None:
            first, last = _ends(losses)
            on_step(StepReport(step.name, len(losses), first, last, seconds, step.ends_cycle))
        if on_checkpoint is not None:
            on_checkpoint(
                {
                    "group": group_state(group),
                    "seconds": dict(clock),
                    "steps": number + 1,
                    "iterations": done_iterations,
                }
            )
    return clock


def _ends(losses: list[Tensor]) -> tuple[float, float]:
    if not losses:
        return float("nan"), float("nan")
    values = torch.stack(losses)
    tenth = max(len(values) // 10, 1)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


def _albedo(
    group: Group, on_iteration: steps.OnIteration, *, iterations: int, symmetric: bool
) -> None:
    steps.fit_albedo(group, iterations, symmetric, on_iteration)


def _project(
    group: Group, on_iteration: steps.OnIteration, *, iterations: int, objects: bool
) -> None:
    steps.fit_encoder(group, iterations, on_iteration)
    steps.collect_samples(group, objects)
    if group.config.optimization.turn_calibration_iterations:
        calibrate_turns(group, group.config.optimization.turn_calibration_iterations)


def _views(group: Group, on_iteration: steps.OnIteration, *, iterations: int) -> None:
    steps.fit_views(group, iterations, on_iteration)


def _shape(
    group: Group,
    on_iteration: steps.OnIteration,
    *,
    iterations: int,
    symmetric: bool,
    background: float,
) -> None:
    steps.fit_shape(group, iterations, symmetric, background, on_iteration)
    group.samples = None  # the next cycle makes its own


def _inputs(group: Group, on_iteration: steps.OnIteration, *, looks: int, relief: float) -> None:
    fit_single_images(group, looks, relief, on_iteration)


def _applies(when: When, cycle: int) -> bool:
    return {
        "never": False,
        "first_cycle": cycle == 0,
        "later_cycles": cycle > 0,
        "always": True,
    }[when]

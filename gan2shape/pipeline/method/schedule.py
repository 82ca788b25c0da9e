"""The steps in order, done one after another and resumed between any two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.method.group import Group, group_state, restore_group
from gan2shape.pipeline.method.optimizer import AllFailedError
from gan2shape.pipeline.method.steps import OnIteration
from gan2shape.schemas.base import When

OnProgress = Callable[[str, int, int], None]
"""Called with (step's name, iterations done, iterations in all)."""


@dataclass(frozen=True)
class Step:
    """One step: its name for people, the key that its time is booked under, what it does."""

    name: str
    key: str
    run: Callable[[Group, OnIteration], None]
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
    """Do the steps on the group in place. Ends early when no image is left to go on with.

    Args:
        total: iterations in all, for `on_progress`.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called after every iteration.
        on_step: called after every step.
        on_checkpoint: called after that with a state that `torch.save` takes.
    Returns:
        Wall seconds by the steps' keys.
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


def symmetric_in(when: When, cycle: int) -> bool:
    """Whether a step is symmetric in cycle number `cycle`, from 0."""
    return {
        "never": False,
        "first_cycle": cycle == 0,
        "later_cycles": cycle > 0,
        "always": True,
    }[when]

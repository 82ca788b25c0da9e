"""Checkpoints after every step of a schedule, the same ones in all processes of a training."""

from __future__ import annotations

from typing import Any

import torch

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup

CPU = torch.device("cpu")


class StepStates:
    """The states of one process, in `checkpoints`. All processes call the same methods."""

    def __init__(
        self, checkpoints: Checkpoints, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self.checkpoints = checkpoints
        self.process_group = process_group

    def last(self) -> dict[str, Any] | None:
        """The latest state that every process has, or `None`."""
        steps = self._saved()
        least = -self.process_group.worst(-max(steps, default=0), CPU)
        state = self.checkpoints.load(f"state-{least}") if least in steps else None
        everywhere = not self.process_group.worst(int(state is None), CPU)
        return state if everywhere else None

    def save(self, state: dict[str, Any]) -> None:
        """Save a state under its number of steps, `state["steps"]`.

        Older ones are dropped once all processes have saved it.
        """
        older = self._saved()
        self.checkpoints.save(f"state-{state['steps']}", state)
        self.process_group.meet()
        for steps in older:
            if steps != state["steps"]:
                self.checkpoints.drop(f"state-{steps}")

    def _saved(self) -> list[int]:
        files = self.checkpoints.folder.glob("state-*.ckpt")
        return [int(file.stem.removeprefix("state-")) for file in files]

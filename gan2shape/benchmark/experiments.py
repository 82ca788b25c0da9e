"""What a benchmark does beside the table: parts that come after its rows, and their sections.

To add one, write a module that makes an `Experiment`, and name it in `EXPERIMENTS`.
"""

from __future__ import annotations

from gan2shape.benchmark.manipulation.parts import RELIGHTING, ROTATION, experiment
from gan2shape.benchmark.sections import Experiment

EXPERIMENTS: tuple[Experiment, ...] = (experiment(ROTATION), experiment(RELIGHTING))
"""In the order that they are made and shown in."""

"""Two processes; one dies, the other waits for it.

Run as `python -m tests.jobs.process_group_standin`.
"""

from __future__ import annotations

import os
import time
from typing import Any

from gan2shape.jobs.training import processes


def work(job: Any, process_group: Any, *others: Any) -> None:
    """As where a GPU waits for another one's message."""
    if process_group.rank:
        os._exit(3)
    time.sleep(600)


if __name__ == "__main__":
    processes.GRACE = 0.1
    processes.in_processes(work, None, processes.Compute(("cpu", "cpu")), print, print)

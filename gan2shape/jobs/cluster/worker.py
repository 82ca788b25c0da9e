"""Dask preload of local worker processes (see `cluster`)."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the client, which ends the workers itself, without a traceback from each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

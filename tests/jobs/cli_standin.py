"""The real command with the stand-in for the pipeline: `python -m tests.jobs.cli_standin ...`."""

from __future__ import annotations

from gan2shape import cli
from gan2shape.jobs.run import engine
from tests.jobs import standin

if __name__ == "__main__":
    engine.default_engine = standin.make_engine  # before anything imports it by name
    cli.main()

"""A run of five images in three shards, of which nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan2shape.jobs.run import store
from tests.jobs.content import new_run


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    return new_run(tmp_path)

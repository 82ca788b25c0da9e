"""What all tests share: a cache folder of their own, and an inversion that starts quickly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gan2shape.pipeline.perceptual import inversion

FEW = 16
"""Random samples that inversions choose their starts from, in place of hundreds."""


@pytest.fixture(scope="session", autouse=True)
def _quick_and_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(inversion, "START_SAMPLES", FEW)
        yield

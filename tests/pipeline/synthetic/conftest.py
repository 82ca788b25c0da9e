from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gan2shape.pipeline.synthetic.model import HeadModel, head_model_of, load_anny
from gan2shape.pipeline.synthetic.render import Surface, template_surface


@pytest.fixture(scope="session")
def anny_head() -> tuple[Any, Any, Path]:
    pytest.importorskip("anny", reason="needs the extra [synth]")
    return load_anny()


@pytest.fixture(scope="session")
def model(anny_head: tuple[Any, Any, Path]) -> HeadModel:
    return head_model_of(*anny_head)


@pytest.fixture(scope="session")
def surface(model: HeadModel) -> Surface:
    return template_surface(model)

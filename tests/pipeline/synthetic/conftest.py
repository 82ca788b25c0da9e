from __future__ import annotations

import pytest

from gan2shape.jobs.weights.head_model import load_anny
from gan2shape.pipeline.synthetic.model import AnnyHead, HeadModel, head_model_of
from gan2shape.pipeline.synthetic.render import Surface, template_surface


@pytest.fixture(scope="session")
def anny_head() -> AnnyHead:
    pytest.importorskip("anny", reason="needs the extra [synth]")
    return load_anny()


@pytest.fixture(scope="session")
def model(anny_head: AnnyHead) -> HeadModel:
    return head_model_of(anny_head)


@pytest.fixture(scope="session")
def surface(model: HeadModel) -> Surface:
    return template_surface(model)

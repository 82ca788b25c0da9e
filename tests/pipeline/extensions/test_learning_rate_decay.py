"""The learning rate falls in a line over the end of a step."""

from __future__ import annotations

import pytest

from gan2shape.pipeline.extensions.learning_rate_decay import falling_rate


def test_it_falls_over_the_given_share() -> None:
    rates = [falling_rate(iteration, 10, 0.4) for iteration in range(10)]
    assert rates == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25])
    assert [falling_rate(iteration, 4, 1.0) for iteration in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [falling_rate(iteration, 4, 0.0) for iteration in range(4)] == [1.0] * 4

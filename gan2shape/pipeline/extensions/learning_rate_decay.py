"""Learning rates that fall at the end of every step (setting `decay`).

The paper keeps them. Short steps need it: it takes out the noise that they would leave behind.
"""

from __future__ import annotations


def falling_rate(iteration: int, count: int, decay: float) -> float:
    """Factor on the learning rate in iteration 0 to `count` - 1.

    It is 1 at first, and falls to zero in a line over the last `decay` (0 to 1) of the iterations.
    """
    ramp = decay * count
    return min(1.0, (count - iteration) / ramp) if ramp else 1.0

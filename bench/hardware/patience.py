"""Time limits for what a driver may take. Used by `hearing`, `asking_holder` and `children`.

Seconds in which this whole machine stood still do not count: they say nothing of the driver.
"""

import time

_SLICE_S = 0.1
_MOST_S = 2 * _SLICE_S
"""What a wait of a slice counts at most."""


class Patience:
    """So many seconds, waited for in slices."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._looked = time.monotonic()

    def slice(self) -> float:
        """Return for how long to wait before the next look; 0 when the time is over."""
        now = time.monotonic()
        self._left -= min(now - self._looked, _MOST_S)
        self._looked = now
        return max(0.0, min(_SLICE_S, self._left))

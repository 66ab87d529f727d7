"""The time that a stage still takes, by its speed of late, and only when that says anything."""

import time
from collections import deque
from collections.abc import Callable

RECENT = 120.0
"""Seconds over which the speed is taken: what was faster or slower long ago does not count."""
AT_LEAST = 10.0
"""Seconds that a stage has to be watched before its speed says anything."""


class RemainingTime:
    """The time left of one stage.

    Args:
        clock: returns seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()

    def update(self, done: float, total: float | None) -> float | None:
        """Take in how much is done; return the seconds left, or None while they cannot be told.

        What was done before the first call (by an earlier run that was stopped) says nothing about the speed.
        """
        now = self._clock()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RECENT:
            self._seen.popleft()
        began, first = self._seen[0]
        if total is None or done >= total or now - began < AT_LEAST or done <= first:
            return None
        return (now - began) * (total - done) / (done - first)

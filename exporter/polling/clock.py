"""What time it is: the host's clock as long as the API agrees, else the API's own time.

Windows, watermark and freezing follow the clock, so a host that is wrong by an hour, or for a moment by a year, would
otherwise ask for the wrong usage or give up what is still open.
"""

import threading
from collections.abc import Callable

TOLERANCE = 5.0
"""Seconds by which the host's clock may differ: the ``Date`` header has whole seconds, and was sent a while ago."""


class ApiClock:
    """Unix time by ``clock``, checked against the ``Date`` headers that are heard; ``timer`` never steps."""

    def __init__(self, clock: Callable[[], float], timer: Callable[[], float]) -> None:
        self._clock = clock
        self._timer = timer
        self._offset: float | None = None

    def heard(self, skew: float | None) -> None:
        """Take note that the host's clock is ``skew`` seconds ahead of the API now."""
        if skew is not None:
            self._offset = self._clock() - skew - self._timer()

    def now(self) -> float:
        """Return the Unix time."""
        host = self._clock()
        if self._offset is None:
            return host
        api = self._timer() + self._offset
        return host if abs(host - api) <= TOLERANCE else api


def never_backwards(clock: Callable[[], float]) -> Callable[[], float]:
    """Return ``clock`` without its steps back: what is served must not follow a clock into the past."""
    lock = threading.Lock()
    latest = 0.0

    def tell() -> float:
        nonlocal latest
        with lock:
            latest = max(latest, clock())
            return latest

    return tell

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
        self._made = timer()
        self._offset: float | None = None
        self._rumour: float | None = None
        self._latest = 0.0
        self._lock = threading.Lock()

    @property
    def known(self) -> bool:
        """Tell whether the API was heard."""
        return self._offset is not None

    def heard(self, skew: float | None) -> None:
        """Take note that the host's clock is ``skew`` seconds ahead of the API now.

        What agrees with neither the host nor what was known is believed when it is heard twice in a row: any box on
        the way can have a wrong clock, too.
        """
        if skew is None:
            return
        heard = self._clock() - skew - self._timer()
        believed = (self._clock() - self._timer(), self._offset, self._rumour)
        agrees = any(offset is not None and abs(heard - offset) <= TOLERANCE for offset in believed)
        self._offset, self._rumour = (heard, None) if agrees else (self._offset, heard)

    def now(self) -> float:
        """Return the Unix time."""
        host = self._clock()
        if self._offset is None:
            return host
        api = self._timer() + self._offset
        return host if abs(host - api) <= TOLERANCE else api

    def made(self) -> float:
        """Return the Unix time at which this clock was made, as far as it is known now."""
        return self.now() - (self._timer() - self._made)

    def served(self) -> float:
        """Return the Unix time without its steps back, once the API was heard: what is served must not go back."""
        with self._lock:
            now = self.now()
            if self.known:
                self._latest = now = max(self._latest, now)
            return now

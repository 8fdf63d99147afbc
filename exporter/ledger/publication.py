"""The door between polling and serving: one immutable snapshot, swapped whole."""

import threading
from collections.abc import Callable

from exporter.model import Snapshot

Shown = tuple[Snapshot, float]
"""A snapshot, and the moment (Unix seconds) as of which it is shown."""


class Publication:
    """The current snapshot, when it was first served, and what was served last.

    ``clock`` is Unix time, ``timer`` never steps.
    """

    def __init__(self, clock: Callable[[], float], timer: Callable[[], float]) -> None:
        self._clock = clock
        self._timer = timer
        self._lock = threading.Lock()
        self._current = Snapshot()
        self._served_at: float | None = None
        self._last: Shown | None = None
        self._closed = False

    @property
    def served_at(self) -> float | None:
        """When the current snapshot was first served, by the timer, or None while nobody asked for it."""
        return self._served_at

    def look(self) -> Shown:
        """Return what would be served now."""
        with self._lock:
            return self._current, self._clock()

    def serve(self) -> Shown:
        """Return what to show now, and note that it is served; once closed, that is what was served last."""
        with self._lock:
            if self._closed and self._last:
                return self._last
            if self._served_at is None:
                self._served_at = self._timer()
            self._last = self._current, self._clock()
            return self._last

    def put(self, snapshot: Snapshot) -> None:
        """Serve ``snapshot`` from now on."""
        with self._lock:
            self._current, self._served_at = snapshot, None

    def close(self) -> Shown | None:
        """Return what was served last, if anything was; nothing newer will be."""
        with self._lock:
            self._closed = True
            return self._last

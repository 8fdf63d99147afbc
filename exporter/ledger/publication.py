"""The door between polling and serving: one immutable snapshot, swapped whole."""

from exporter.model import Snapshot


class Publication:
    """The current snapshot, and when it was first served.

    One worker puts, any number of scrapes mark and then take, without a lock: in whatever order they meet, a mark
    is lost or comes late, which only makes a hold longer.
    """

    def __init__(self) -> None:
        self._current = Snapshot()
        self._served_at: float | None = None

    @property
    def current(self) -> Snapshot:
        """The snapshot to serve."""
        return self._current

    @property
    def served_at(self) -> float | None:
        """When the current snapshot was first served (Unix seconds), or None while nobody asked for it."""
        return self._served_at

    def mark_served(self, now: float) -> None:
        """Note that the current snapshot is served at ``now``."""
        if self._served_at is None:
            self._served_at = now

    def put(self, snapshot: Snapshot) -> None:
        """Serve ``snapshot`` from now on."""
        self._current = snapshot
        self._served_at = None

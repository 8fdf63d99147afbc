"""Faults that the simulated API can be told to have."""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from threading import Lock
from typing import Literal

FaultKind = (
    int | Literal["html", "truncated", "not_json", "missing_next_page", "repeated_cursor", "redirect", "slow", "stale"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, and when.

    ``kind`` is an HTTP status, or one of
        html                an HTML page with status 200
        truncated           half of the body under the whole one's Content-Length
        not_json            a body of plain words
        missing_next_page   more is promised, but not where
        repeated_cursor     the next page is this page again, for ever
        redirect            302 to another host
        slow                the answer takes ``seconds``
        stale               the answer of ``seconds`` ago

    ``after_pages`` spares so many pages of each paged read; of a list only the first is told from the others.
    ``grouped_by`` spares what is not grouped by this dimension.
    """

    kind: FaultKind
    endpoint: str | None = None
    times: int | None = None
    since: float | None = None
    until: float | None = None
    after_pages: int = 0
    grouped_by: str | None = None
    retry_after: str | None = None
    probability: float = 1.0
    seconds: float = 0.0

    def concerns(self, endpoint: str, now: float, page: int, grouping: Collection[str] = ()) -> bool:
        """Whether a request is one that the fault may hit."""
        return (
            self.endpoint in {None, endpoint}
            and (self.since is None or now >= self.since)
            and (self.until is None or now < self.until)
            and page >= self.after_pages
            and (self.grouped_by is None or self.grouped_by in grouping)
        )


class Faults:
    """The faults in force; the first that hits a request decides on it."""

    def __init__(self, *, seed: int = 0) -> None:
        self._lock = Lock()
        self._random = Random(seed)
        self._armed: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Let a fault happen from now on."""
        with self._lock:
            self._armed.append((fault, fault.times))

    def clear(self) -> None:
        """Let everything work again."""
        with self._lock:
            self._armed.clear()

    def due(self, endpoint: str, now: float, page: int, grouping: Collection[str]) -> Fault | None:
        """Return the fault that hits this request, and use it up by one time.

        ``page`` is how many pages of the same read came before, ``grouping`` the dimensions that it asks for.
        """
        with self._lock:
            for index, (fault, left) in enumerate(self._armed):
                if left != 0 and fault.concerns(endpoint, now, page, grouping) and self._strikes(fault):
                    self._armed[index] = (fault, None if left is None else left - 1)
                    return fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._random.random() < fault.probability

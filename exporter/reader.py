"""The Admin API for commands that read whole ranges once: patient with it, polite to it, and telling what goes on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from exporter.api.client import Listener, Timing, Transport
from exporter.api.credentials import Credentials
from exporter.errors import AuthError, BadRequestError, PermissionDeniedError, StartError, TransientError
from exporter.model import Bucket, Names, Number, RequestOutcome, Window
from exporter.parts import new_api
from exporter.polling.windows import split
from exporter.settings import Settings
from exporter.settings.values import is_loopback

PACE = 1.0
"""Seconds from one request to the next at least: bursts are welcome, but sixty a minute are what sibling APIs allow."""

PATIENCE = 600.0
"""Seconds to wait in all for one answer; an API that is down for longer is for another day."""

HELLO = 5.0
"""Seconds to wait in all for an API that has never answered: its address may be wrong."""

LONGEST_WAIT = 60.0
"""Seconds to wait at once, where the API has no wish."""

T = TypeVar("T")
Say = Callable[[str], None]


class Reader:
    """Reads of one organisation, one request at a time; ``say`` is told, in a line, what it waits for."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        *,
        say: Say,
        timing: Timing | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._say = say
        self._url = settings.api.base_url
        self._is_there = False
        self._timing = timing or Timing()
        self._pace = 0.0 if is_loopback(settings.api.base_url) else PACE
        listener = Listener(request=self._rest)
        self.api = new_api(settings, credentials, self._timing, listener, self._drifted, transport)
        self._drift: set[str] = set()

    def get(self, read: Callable[[], T]) -> T:
        """Return what ``read`` brings, waiting where the API wishes it; else raise StartError with the remedy."""
        waited, pause = 0.0, PACE
        while True:
            try:
                return read()
            except TransientError as error:
                if not self._is_there and waited >= HELLO:
                    raise StartError(
                        f"{self._url} does not answer: {error}; correct --api.base-url, or the network"
                    ) from None
                # What the client says is the API's wish, or its own for a quick retry: this one is not in a hurry.
                wait = max(error.retry_after or 0.0, pause)
                if waited + wait > PATIENCE:
                    raise StartError(f"{error}; tried for {waited:.0f} s, try again later") from None
                self._say(f"{error}; waiting {wait:.0f} s")
                self._timing.sleep(wait)
                waited, pause = waited + wait, min(2 * pause, LONGEST_WAIT)
            except AuthError as error:
                raise StartError(f"{error}; is this an Admin API key, and has it not expired?") from None
            except PermissionDeniedError as error:
                raise StartError(f"{error}; give the key the right to read it, or use a key that has it") from None

    def readable(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what ``read`` brings, or None, and say so, if the key may not read ``what`` or the API has none of it.

        Otherwise raises what ``get`` raises.
        """

        def attempt() -> T | None:
            try:
                return read()
            except PermissionDeniedError as error:
                self._say(f"{error}; going on without {what}: give the key the right to read it")
            except BadRequestError as error:
                self._say(f"{error}; going on without {what}")
            return None

        return self.get(attempt)

    def names(self) -> Names:
        """Return what ids are called; what the key may not read is said, and left out."""
        organization = self.readable("the organisation's name", self.api.organization)
        workspaces, default_id = self.readable("workspaces", self.api.workspaces) or ((), None)
        api_keys = self.readable("API keys", lambda: self.api.api_keys(workspaces, default_id)) or ()
        return Names(organization, workspaces, api_keys)

    def buckets(
        self, report: Callable[[Window], list[Bucket[Number]]], window: Window
    ) -> Iterator[tuple[Window, list[Bucket[Number]]]]:
        """Yield the parts of a window that fit a page, in order, with their buckets."""
        for part in split(window.width, window.start, window.end):
            yield part, self.get(partial(report, part))

    def _rest(self, outcome: RequestOutcome) -> None:
        self._is_there |= outcome.code != "none"
        if (rest := self._pace - outcome.seconds) > 0:
            self._timing.sleep(rest)

    def _drifted(self, field: str, _rows: int) -> None:
        if field not in self._drift:
            self._drift.add(field)
            self._say(f"the API's figure {field!r} is new or missing; a newer version may know it")

"""A bound on a whole exchange: the library's own timeouts begin anew with each byte that drips in."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any


class Watchdog:
    """Cuts the connection of a request that takes too long; for one request at a time.

    ``trace`` is the request extension of that name, by which the library tells of the connections it makes.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._barked = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the newest connection."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = info["return_value"]
            if self._barked:
                self._bark()

    @contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block has not ended after ``seconds``; raise ``TimeoutError`` then."""
        self._barked = False
        timer = Timer(seconds, self._bark)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if self._barked:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
        if self._barked:
            raise TimeoutError

    def _bark(self) -> None:
        self._barked = True
        connection = self._stream.get_extra_info("socket") if self._stream else None
        if isinstance(connection, socket.socket):
            with suppress(OSError):
                # Not its own shutdown: a TLS socket would first say goodbye to a peer that does not listen.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

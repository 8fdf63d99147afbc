"""The HTTP server on one address: its socket, and the thread with the loop in which everything is answered."""

import asyncio
import dataclasses
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from exporter.errors import StartError
from exporter.web.connections import Connections
from exporter.web.handler import Door
from exporter.web.limits import LIMITS, Limits, raise_descriptor_limit
from exporter.web.pages import Page

BACKLOG = 1024
"""Connections that the kernel holds until we accept them."""
STOP_SECONDS = 5


class _OpenDoor:
    """Everybody may ask, over plain HTTP."""

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = {}

    def look(self) -> "_OpenDoor":
        return self

    def admits(self, _authorization: str | None) -> bool:
        return True

    def admits_peer(self, _certificate: Mapping[str, Any] | None) -> bool:
        return True


class Server:
    """Has ``host:port`` from construction on, and answers once it is started; ``port`` 0 takes a free one."""

    def __init__(self, host: str, port: int, door: Door | None = None, limits: Limits = LIMITS) -> None:
        self._door, self._limits = door or _OpenDoor(), limits
        self._listener = _listen(host, port)
        self._loop: asyncio.AbstractEventLoop
        self._begun, self._stopping = threading.Event(), asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host, port = self._listener.getsockname()[:2]
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        scheme = "http" if self._door.look().tls is None else "https"
        return f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"

    def start(self, site: Mapping[str, Page]) -> None:
        """Answer requests for the paths in ``site``."""
        most = raise_descriptor_limit(self._limits.connections)
        limits = dataclasses.replace(self._limits, connections=most)
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve(site, limits)], name="web", daemon=True)
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """Stop listening; requests under way are dropped."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_SECONDS)
        self._listener.close()

    async def _serve(self, site: Mapping[str, Page], limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        connections = Connections(self._listener, site, self._door, limits)
        connections.accept()
        self._begun.set()
        await self._stopping.wait()
        connections.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {host or '*'}:{port}: {error.strerror or error}; "
            "choose another address with --web.listen-address"
        ) from None
    return listener

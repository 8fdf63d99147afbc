"""Connections: accepted, encrypted if need be, limited in number, and read by tornado's HTTP/1."""

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import cast

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, SSLIOStream

from exporter.web.handler import Door, Handler, Site
from exporter.web.limits import Limits
from exporter.web.pages import Page
from exporter.web.sending import Sender

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Connections that are accepted before those that are open get their turn."""
PAUSE = 1.0
"""Seconds without accepting when the system is out of descriptors or memory."""


class Connections(HTTPServerConnectionDelegate):
    """All that are open, on one listener; it lives in the loop's thread."""

    def __init__(self, listener: socket.socket, pages: Mapping[str, Page], door: Door, limits: Limits) -> None:
        self._listener, self._limits = listener, limits
        self._site = Site(pages, door, limits, Sender(limits))
        self._parameters = HTTP1ConnectionParameters(
            # What is somewhat too long gets an answer that says so, see the handler; beyond that it is cut off.
            max_header_size=2 * limits.head,
            header_timeout=limits.header_seconds,
            max_body_size=limits.body,
            body_timeout=limits.body_seconds,
        )
        self._loop = asyncio.get_running_loop()
        self._open: dict[object, IOStream] = {}
        self._waiting: dict[object, IOStream] = {}
        """Those whose next request has not come; both begin with who waits, or is answered, longest."""

    def accept(self) -> None:
        """Begin to accept, or go on."""
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Close all of them."""
        self._loop.remove_reader(self._listener)
        for stream in list(self._open.values()):
            stream.close()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Handler:
        """Wait for the next request of a connection."""
        connection = cast("HTTP1Connection", request_conn)
        self._put(server_conn, connection.stream)
        return Handler(connection, self._site, begun=lambda: self._begun(server_conn))

    def on_close(self, server_conn: object) -> None:
        """Forget a connection that is closed."""
        self._open.pop(server_conn, None)
        self._waiting.pop(server_conn, None)

    def _begun(self, server_conn: object) -> None:
        self._waiting.pop(server_conn, None)
        if server_conn in self._open:
            self._open[server_conn] = self._open.pop(server_conn)

    def _put(self, server_conn: object, stream: IOStream) -> None:
        if not stream.closed():
            self._open[server_conn] = self._waiting[server_conn] = stream

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                logger.debug("no connection can be accepted", extra={"fields": {"error": str(error)}})
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE, self.accept)
                return
            self._admit(connection, str(address[0]))

    def _admit(self, connection: socket.socket, client: str) -> None:
        self._make_room()
        try:
            stream = self._stream(connection)
        except (OSError, ValueError) as error:
            logger.debug("a connection failed", extra={"fields": {"client": client, "error": str(error)}})
            connection.close()
            return
        server_conn = HTTP1ServerConnection(stream, self._parameters, client)
        self._put(server_conn, stream)
        server_conn.start_serving(self)

    def _make_room(self) -> None:
        """Send away who waits longest without asking, or else is answered longest: an honest client does neither."""
        while len(self._open) >= self._limits.connections:
            longest = next(iter(self._waiting or self._open))
            stream = self._open[longest]
            self.on_close(longest)
            stream.close()

    def _stream(self, connection: socket.socket) -> IOStream:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.send_buffer)
        context = self._site.door.look().tls
        if context is None:
            return IOStream(connection)
        return SSLIOStream(context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False))

"""A threaded HTTP server on one address."""

import logging
import socket
import sys
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from exporter.errors import StartError
from exporter.web.pages import App

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT = 30


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        logger.debug(format, *args, extra={"fields": {"client": self.client_address[0]}})


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the library's reverse look-up of the host name, which can hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's
        """Note a client that went away; the library prints a traceback to standard error."""
        gone = isinstance(sys.exception(), ConnectionError | TimeoutError)
        level, text = (logging.DEBUG, "a client went away") if gone else (logging.ERROR, "a request failed")
        logger.log(level, text, exc_info=not gone, extra={"fields": {"client": str(client_address[0])}})


class Server:
    """Has ``host:port`` from construction on, and answers once it is started; ``port`` 0 takes a free one."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("_FamilyServer", (_Server,), {"address_family": family})
        try:
            self._server: _Server = kind((host, port), _Handler)
        except OSError as error:
            raise StartError(
                f"cannot listen on {host or '*'}:{port}: {error.strerror or error}; "
                "choose another address with --web.listen-address"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host, port = self._server.server_address[:2]
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(str(host), str(host))  # noqa: S104 - compared, not bound
        return f"http://{f'[{name}]' if ':' in name and '[' not in name else name}:{port}"

    def start(self, app: App) -> None:
        """Let ``app`` answer requests, in threads of its own."""
        self._server.set_app(app)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; requests under way are dropped."""
        self._server.shutdown()
        self._server.server_close()

"""A WSGI application on a socket, quiet and in the background."""

import socketserver
import sys
from collections.abc import Callable, Iterable
from threading import Thread
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

Application = Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        pass


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        # HTTPServer would ask a name server for this host's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Server:
    """An application that is being served until ``close``."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        self._server = _ThreadingServer((host, port), _Handler)
        self._server.set_app(application)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), name="admin-api", daemon=True)
        self._thread.start()
        self.url = f"http://{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(application: Application, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Serve an application from now on; port 0 takes a free one."""
    return Server(application, host, port)

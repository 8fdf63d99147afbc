"""The Admin API of a ``BenchOrganization`` on a socket, in a process of its own; prints its address.

``GET /bench`` tells how often each endpoint was asked and when usage was asked for last; ``POST /bench`` lets the
organisation use nothing any more.
"""

import argparse
import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from exporter.demo.organization import MINUTE
from exporter.polling.windows import floor
from tests.benchmarks.organization import PRICED, UNPRICED, BenchOrganization, RefusedError, yesterday


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, organization: BenchOrganization) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.organization = organization
        self.requests: Counter[str] = Counter()
        self.sent = 0
        self.last = 0.0


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        server = self.server
        if path == "/bench":
            told = {"requests": server.requests, "sent": server.sent, "last": server.last}
            self._send(200, [json.dumps(told).encode()])
            return
        server.requests[path.rpartition("/")[2]] += 1
        if "usage_report" in path:
            server.last = time.time()
        try:
            body = server.organization.answer(path, query, time.time())
        except RefusedError as refused:
            error = {"type": "invalid_request_error", "message": str(refused)}
            self._send(400, [json.dumps({"type": "error", "error": error}).encode()])
        else:
            server.sent += sum(map(len, body))
            self._send(200, body)

    def do_POST(self) -> None:
        self.server.organization.stop = floor(time.time(), MINUTE)
        self._send(200, [b"{}"])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        pass

    def _send(self, status: int, body: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(sum(map(len, body))))
        self.send_header("anthropic-organization-id", self.server.organization.id)
        self.end_headers()
        for part in body:
            self.wfile.write(part)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--label-sets", type=int, required=True)
    parser.add_argument("--active", type=int, required=True, help="label sets used in each minute")
    parser.add_argument("--minutes", type=int, default=40, help="minutes of usage before the start")
    parser.add_argument("--priced", action="store_true")
    asked = parser.parse_args()
    now = time.time()
    organization = BenchOrganization(
        asked.label_sets,
        asked.active,
        begin=floor(now, MINUTE) - asked.minutes * MINUTE,
        rush=yesterday(now),
        models=PRICED if asked.priced else UNPRICED,
    )
    server = Server(organization)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""The pages and the server."""

import socket
from collections.abc import Iterable

import httpx
import pytest

from exporter.errors import StartError
from exporter.web.pages import App, health, landing, ready, router, text
from exporter.web.server import Server


def client(app: App) -> httpx.Client:
    return httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://here")


def stream(_environ: dict[str, object], start_response: object) -> Iterable[bytes]:
    assert callable(start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"abc", b"def"]


def test_head_has_the_headers_of_get_and_no_body() -> None:
    app = router({"/fixed": text("200 OK", "grüße"), "/stream": stream})
    with client(app) as http:
        for path, size in (("/fixed", "7"), ("/stream", "6")):
            answer = http.head(path)
            assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, size, b"")


def test_only_get_and_head_of_known_paths_are_answered() -> None:
    with client(router({"/": landing("1.0", "/metrics"), "/-/ready": ready()})) as http:
        assert http.get("/nothing").status_code == 404
        refused = http.post("/-/ready")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert http.get("/-/ready").text == "Ready.\n"


def test_the_landing_page_links_to_the_metrics_and_escapes() -> None:
    with client(router({"/": landing("<1>", "/stats")})) as http:
        page = http.get("/").text
    assert '<a href="/stats">' in page
    assert "&lt;1&gt;" in page


def test_healthy_is_as_alive_as_the_schedule() -> None:
    alive = [True]
    with client(router({"/-/healthy": health(lambda: alive[0])})) as http:
        assert http.get("/-/healthy").status_code == 200
        alive[0] = False
        assert http.get("/-/healthy").status_code == 503


def test_the_server_says_where_it_is_and_stops() -> None:
    server = Server("127.0.0.1", 0)
    server.start(router({"/": text("200 OK", "here")}))
    assert httpx.get(server.url, trust_env=False).text == "here"
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)


def test_a_taken_port_and_a_bad_host_are_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}.*--web\.listen-address"):
            Server("127.0.0.1", port)
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0"):
        Server("192.0.2.1", 0)

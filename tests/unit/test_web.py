"""The pages and the server, through real sockets."""

import gzip
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trustme

from exporter import log
from exporter.errors import StartError
from exporter.web.limits import LIMITS, Limits
from exporter.web.pages import Answer, Page, Request, health, metrics, ready, text
from exporter.web.server import Server

BIG = b"".join(b"a_%d_total %d\n" % (i, i * i) for i in range(400_000))
"""More than all buffers between us and a client that does not read."""


class Made(NamedTuple):
    """A rendering."""

    content_type: str
    gzip: Sequence[bytes]
    size: int


def rendering(body: bytes, chunk: int = 200_000) -> Made:
    packed = gzip.compress(body, 1)
    return Made("text/plain; version=0.0.4", [packed[i : i + chunk] for i in range(0, len(packed), chunk)], len(body))


def done(made: Made) -> Future[Made]:
    future: Future[Made] = Future()
    future.set_result(made)
    return future


def stats(body: bytes) -> Page:
    made = rendering(body)
    return metrics(lambda _accept, _names: done(made), lambda _accept: made.content_type)


class Rules(NamedTuple):
    """A door, and the policy in force."""

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = {}
    admitted: bool | Future[bool] = True
    peers: bool = True

    def look(self) -> "Rules":
        return self

    def admits(self, authorization: str | None) -> bool | Future[bool]:
        return self.admitted if authorization is None else authorization == "Basic right"

    def admits_peer(self, _certificate: Mapping[str, Any] | None) -> bool:
        return self.peers


@contextmanager
def serving(site: Mapping[str, Page], door: Rules | None = None, limits: Limits = LIMITS) -> Iterator[str]:
    server = Server("127.0.0.1", 0, door, limits)
    server.start(site)
    try:
        yield server.url
    finally:
        server.stop()


def connect(url: str, window: int | None = None) -> socket.socket:
    """Connect; ``window`` is how many bytes fit in on this side before they are read."""
    connection = socket.socket()
    if window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    return connection


def read(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    parts: list[bytes] = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def ask(url: str, request: bytes) -> bytes:
    with connect(url) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        return read(connection)


def status(answer: bytes) -> int | None:
    """Return the status, or None if the connection was closed without one."""
    return int(answer[9:12]) if answer else None


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


def test_head_has_the_headers_of_get_and_no_body(caplog: pytest.LogCaptureFixture) -> None:
    with serving({"/fixed": text("grüße"), "/metrics": stats(b"a 1\n")}) as url:
        for path in ("/fixed", "/metrics"):
            got = get(url + path)
            head = httpx.head(url + path, trust_env=False)
            given = {name: value for name, value in got.headers.items() if name not in ("date", "content-length")}
            assert given.items() <= head.headers.items()
            assert (head.status_code, head.content) == (200, b"")
        assert httpx.head(f"{url}/fixed", trust_env=False).headers["content-length"] == "7"
    assert "Traceback" not in caplog.text


def test_head_of_the_metrics_renders_nothing() -> None:
    def scrape(_accept: str, _names: frozenset[str]) -> Future[Made]:
        raise AssertionError

    with serving({"/metrics": metrics(scrape, lambda accept: f"for {accept}")}) as url:
        head = httpx.head(f"{url}/metrics", headers={"Accept": "a/b"}, trust_env=False)
    assert (head.status_code, head.headers["content-type"]) == (200, "for a/b")
    assert "content-length" not in head.headers


def test_only_get_and_head_of_known_paths_are_answered() -> None:
    with serving({"/-/ready": ready()}) as url:
        assert get(f"{url}/nothing").status_code == 404
        refused = httpx.post(f"{url}/-/ready", content=b"x" * 100, trust_env=False)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert get(f"{url}/-/ready").text == "Ready.\n"


def test_a_page_is_told_the_accept_header_the_names_and_the_method() -> None:
    asked: list[Request] = []

    def page(request: Request) -> Answer:
        asked.append(request)
        return Answer("text/plain", b"")

    with serving({"/m": page}) as url:
        assert get(f"{url}/m?name[]=a&name[]=b%C3%BC&other=c", Accept="x/y").status_code == 200
    assert asked == [Request("x/y", frozenset({"a", "bü"}), "GET")]


def test_healthy_is_as_alive_as_the_schedule() -> None:
    alive = [True]
    with serving({"/-/healthy": health(lambda: alive[0])}) as url:
        assert get(f"{url}/-/healthy").status_code == 200
        alive[0] = False
        assert get(f"{url}/-/healthy").status_code == 503


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.00, *", False),
        ("*;q=0", False),
    ],
)
def test_a_rendering_goes_out_as_the_client_accepts_it(accepted: str, packed: bool) -> None:  # noqa: FBT001
    with serving({"/metrics": stats(BIG)}) as url:
        answer = get(f"{url}/metrics", **{"Accept-Encoding": accepted})
    assert answer.content == BIG
    assert (answer.headers.get("content-encoding"), answer.headers["vary"]) == (
        "gzip" if packed else None,
        "Accept-Encoding",
    )
    size = sum(map(len, rendering(BIG).gzip)) if packed else len(BIG)
    assert int(answer.headers["content-length"]) == size


def test_a_connection_is_kept_and_old_clients_are_answered() -> None:
    plain = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    with serving({"/": text("here")}) as url:
        with connect(url) as connection:
            for _ in range(3):
                connection.sendall(plain)
                answer = b""
                while not answer.endswith(b"here"):
                    answer += connection.recv(1000)
                assert status(answer) == 200
        assert ask(url, b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nhere")
        assert ask(url, b"GET http://there/?x=1 HTTP/1.1\r\nHost: there\r\nConnection: close\r\n\r\n").endswith(b"here")


HOST = b" HTTP/1.1\r\nHost: here\r\n"


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (b"garbage\r\n\r\n", {400}),
        (b"GET / HTTP/2.0\r\n\r\n", {400}),
        (b"GET /\0" + HOST + b"\r\n", {400}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
        (b"GET /" + HOST + b"Content-Length: -1\r\n\r\n", {400}),
        (b"GET /" + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", {413}),
        (b"GET /" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", {400}),
        (b"GET /" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", {400}),
        (b"GET /" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n", {400}),
        (b"GET /" + HOST + b"Content-Length: 5000\r\n\r\n", {413}),
        (b"GET /" + b"a" * 9000 + HOST + b"\r\n", {414}),
        (b"GET /" + HOST + b"A: " + b"a" * 17000 + b"\r\n\r\n", {431}),
        (b"GET /" + HOST + b"A: 1\r\n" * 10_000 + b"\r\n", {None}),
        (b"GET /" + HOST + b"A: " + b"a" * 200_000, {None}),
        (b"DELETE /" + HOST + b"Connection: close\r\n\r\n", {405}),
    ],
)
def test_what_is_malformed_or_too_long_is_refused_and_not_logged(
    request_: bytes, statuses: set[int | None], capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    level = root.level
    log.configure("info", "logfmt")
    try:
        with serving({"/": text("here")}) as url:
            assert status(ask(url, request_)) in statuses
            assert get(url).text == "here"
    finally:
        root.setLevel(level)
        root.removeHandler(next(handler for handler in root.handlers if handler.get_name() == "anthropic-exporter"))
    assert capsys.readouterr().err == ""


def test_a_body_that_is_too_small_to_matter_is_ignored() -> None:
    with serving({"/": text("here")}) as url:
        request = b"GET /" + HOST + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc"
        assert ask(url, request).endswith(b"here")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", b"GET /" + HOST + b"Content-Length: 9\r\n\r\nabc"])
def test_who_is_slow_to_ask_is_cut(sent: bytes) -> None:
    limits = Limits(header_seconds=0.3, body_seconds=0.3)
    with serving({"/": text("here")}, limits=limits) as url, connect(url) as connection:
        connection.sendall(sent)
        begun = time.monotonic()
        with dripping(connection) if sent else nullcontext():
            assert read(connection) == b""
        assert 0.2 < time.monotonic() - begun < 5


@contextmanager
def dripping(connection: socket.socket) -> Iterator[None]:
    """Send a byte now and then."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            with suppress(OSError):
                connection.send(b"a")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_who_does_not_read_is_cut_and_who_reads_slowly_is_not(coding: bytes) -> None:
    request = b"GET /metrics" + HOST + b"Connection: close\r\nAccept-Encoding: " + coding + b"\r\n\r\n"
    limits = Limits(write_seconds=1, send_buffer=4096)
    site = {"/metrics": stats(BIG)}
    with serving(site, limits=limits) as url, connect(url, window=4096) as idle, connect(url) as slow:
        idle.sendall(request)
        slow.sendall(request)
        begun, taken = time.monotonic(), 0
        while part := slow.recv(40_000):
            taken += len(part)
            time.sleep(0 if time.monotonic() - begun > 2 else 0.02)
        assert time.monotonic() - begun > 2
        whole = len(BIG) if coding == b"identity" else sum(map(len, rendering(BIG).gzip))
        assert taken > whole
        assert len(read(idle)) < whole / 2


def test_there_is_always_room_for_who_comes_with_a_request() -> None:
    with serving({"/": text("here")}, limits=Limits(connections=5)) as url, ExitStack() as open_:
        silent = [open_.enter_context(connect(url)) for _ in range(20)]
        assert get(url).text == "here"
        # The oldest of them had to go, the newest are still there.
        assert read(silent[0]) == b""
        silent[-1].sendall(b"GET /" + HOST + b"Connection: close\r\n\r\n")
        assert read(silent[-1]).endswith(b"here")


def test_renderings_that_nobody_takes_do_not_pile_up() -> None:
    def page(_request: Request) -> Answer:
        made = rendering(BIG)
        return Answer(made.content_type, made)

    size = sum(map(len, rendering(BIG).gzip))
    request = b"GET /metrics" + HOST + b"Accept-Encoding: gzip\r\n\r\n"
    limits = Limits(send_buffer=4096, held=4 * size)
    with serving({"/metrics": page}, limits=limits) as url, ExitStack() as open_:
        idle = []
        for _ in range(6):
            idle.append(open_.enter_context(connect(url, window=4096)))
            idle[-1].sendall(request)
            assert idle[-1].recv(1) == b"H"
        assert [len(read(client)) < size for client in idle[:2]] == [True, True]
        assert len(gzip.decompress(read_answer(idle[2], size))) == len(BIG)


def read_answer(connection: socket.socket, size: int) -> bytes:
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < size:
        part = connection.recv(1 << 16)
        assert part
        answer += part
    return answer.partition(b"\r\n\r\n")[2]


def test_a_page_that_takes_long_holds_up_nobody_and_is_not_given_up_for_who_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    future: Future[Made] = Future()
    page = metrics(lambda _accept, _names: future, lambda _accept: "")
    with serving({"/metrics": page, "/": text("here")}) as url, ThreadPoolExecutor() as pool:
        waiting = pool.submit(get, f"{url}/metrics")
        with connect(url) as leaving:
            leaving.sendall(b"GET /metrics" + HOST + b"\r\n")
            assert get(url).text == "here"
        assert_soon(lambda: "a client went away" in caplog.text)
        future.set_result(rendering(b"a 1\n"))
        assert waiting.result(10).text == "a 1\n"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("late", [False, True])
def test_a_page_that_fails_is_a_500_and_one_log_line(late: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    def fail() -> Made:
        raise RuntimeError("oops")

    with ThreadPoolExecutor() as pool:

        def broken(_accept: str, _names: frozenset[str]) -> Future[Made]:
            return pool.submit(fail) if late else done(fail())

        with serving({"/": metrics(broken, lambda _accept: "")}) as url:
            answer = get(url)
    assert (answer.status_code, answer.text) == (500, "This page could not be made; the log says why.\n")
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert "oops" in caplog.text


@pytest.mark.parametrize("later", [False, True])
def test_who_is_not_admitted_gets_401_everywhere(later: bool) -> None:  # noqa: FBT001
    verdict: Future[bool] = Future()
    verdict.set_result(False)
    with serving({"/": text("here")}, Rules(admitted=verdict if later else False)) as url:
        for path in ("/", "/nothing"):
            answer = get(url + path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert get(url, Authorization="Basic right").text == "here"
        assert get(url, Authorization="Basic wrong").status_code == 401


def test_a_certificate_that_is_not_admitted_gets_403_and_headers_are_added_to_every_answer() -> None:
    headers = {"X-Frame-Options": "deny"}
    with serving({"/": text("here")}, Rules(headers=headers, peers=False)) as url:
        refused = get(url)
    assert (refused.status_code, refused.headers["x-frame-options"]) == (403, "deny")
    with serving({"/": text("here")}, Rules(headers=headers)) as url:
        assert {get(url + path).headers["x-frame-options"] for path in ("/", "/nothing")} == {"deny"}


def test_tls_and_who_does_not_speak_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    with serving({"/": text("here"), "/metrics": stats(BIG)}, Rules(tls=ours)) as url:
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=theirs, trust_env=False) as client:
            assert client.get(url).text == "here"
            assert client.get(f"{url}/metrics").content == BIG
        assert b"HTTP/1" not in ask(url, b"GET /" + HOST + b"\r\n")
        with pytest.raises(httpx.ConnectError):
            get(url)
    assert "Traceback" not in caplog.text


def test_requests_are_noted_at_debug_without_their_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving({"/": text("here")}) as url:
        get(f"{url}/?secret=1")
        assert_soon(lambda: any(record.message == "answered" for record in caplog.records))
    noted = next(record for record in caplog.records if record.message == "answered")
    fields = noted.__dict__["fields"]
    assert fields == {"client": "127.0.0.1", "method": "GET", "path": "/", "status": "200"}


def assert_soon(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_server_does_not_say_what_it_is_made_of() -> None:
    with serving({"/": text("here")}) as url:
        told = get(url).headers
    assert not re.search("tornado|python", str(told), re.IGNORECASE)
    assert "etag" not in told


def test_the_server_says_where_it_is_and_stops() -> None:
    server = Server("127.0.0.1", 0)
    server.start({"/": text("here")})
    url = server.url
    assert get(url).text == "here"
    with connect(url) as idle:
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 1
        assert read(idle) == b""
    with pytest.raises(httpx.ConnectError):
        get(url)


def test_it_listens_on_version_6_and_on_all_addresses() -> None:
    for host, name in (("::1", "[::1]"), ("::", "[::1]"), ("", "127.0.0.1")):
        server = Server(host, 0)
        server.start({"/": text("here")})
        assert server.url.startswith(f"http://{name}:")
        assert get(server.url).text == "here"
        server.stop()


def test_a_taken_port_and_a_bad_host_are_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}.*--web\.listen-address"):
            Server("127.0.0.1", port)
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0"):
        Server("192.0.2.1", 0)

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from itertools import chain, repeat
from typing import Any

import httpx
import pytest

from exporter import PROJECT_URL, __version__
from exporter.api.client import PATIENCE, Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault, Faults
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    BadResponseError,
    NoAnswerError,
    NoConnectionError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    TransientError,
)
from exporter.model import RequestOutcome

KEY = "sk-ant-admin01-canary"
NOW = 1_793_577_600.0
ME = "/v1/organizations/me"
PARAMS = [("group_by[]", "model"), ("group_by[]", "workspace_id"), ("page", "a+b/c=&d")]

Answer = Callable[[httpx.Request], httpx.Response]


def answer(status: int = 200, content: bytes | str = b"{}", **headers: str) -> Answer:
    """Give this answer; an underscore in a header's name stands for a dash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(status, content=content, headers=named)


def fails(error: type[httpx.TransportError]) -> Answer:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error("it broke")

    return fail


def error_body(message: object) -> str:
    return json.dumps({"type": "error", "error": {"type": "some_error", "message": message}, "request_id": "req_1"})


class Rotated:
    """A key that changes after each request, and counts its refusals."""

    def __init__(self, *keys: str) -> None:
        self.keys = list(keys)
        self.refusals = 0

    def key(self) -> str:
        return self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]

    def refused(self) -> None:
        self.refusals += 1


class Bench:
    """A client whose clock only its own waiting moves; the last of ``answers`` is given for ever."""

    def __init__(self, *answers: Answer, base_url: str = "https://api.test", keys: Iterable[str] = (KEY,)) -> None:
        self.now = NOW
        self.request_seconds = 0.0
        self.requests: list[httpx.Request] = []
        self.outcomes: list[RequestOutcome] = []
        self.retries: list[tuple[str, str]] = []
        self.waits: list[float] = []
        self.key = Rotated(*keys)
        self._answers = chain(answers, repeat(answers[-1]))
        listener = Listener(self.outcomes.append, lambda endpoint, reason: self.retries.append((endpoint, reason)))
        timing = Timing(clock=self.time, timer=self.time, sleep=self.sleep, spread=lambda: 0.5)
        self.client = Client(
            base_url, self.key, timeout=30, listener=listener, timing=timing, transport=httpx.MockTransport(self.handle)
        )

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.now += self.request_seconds
        return next(self._answers)(request)

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def get(self, params: list[tuple[str, str]] | None = None, *, retry: bool = True) -> bytearray:
        return self.client.get("usage", ME, params or [], retry=retry)

    def refusal(self, *, retry: bool = False) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self.get(retry=retry)
        return caught.value


def test_the_body_of_a_200_is_returned_as_it_came() -> None:
    assert Bench(answer(200, b"\x00\xff not even JSON")).get() == b"\x00\xff not even JSON"


def test_requests_say_who_asks_and_with_which_version_of_the_api() -> None:
    bench = Bench(answer())
    bench.get()
    headers = bench.requests[0].headers
    assert bench.requests[0].method == "GET"
    assert headers["user-agent"] == f"anthropic-exporter/{__version__} ({PROJECT_URL})"
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["x-api-key"] == KEY


@pytest.mark.parametrize("base_url", ["https://api.test", "https://api.test/gateway/"])
def test_parameters_arrive_unchanged_at_the_configured_host(base_url: str) -> None:
    bench = Bench(answer(), base_url=base_url)
    bench.get(PARAMS)
    url = bench.requests[0].url
    assert str(url).split("?")[0] == base_url.rstrip("/") + ME
    assert url.params.multi_items() == PARAMS


STATUSES: list[tuple[int, type[ApiError], str]] = [
    (401, AuthError, "auth"),
    (403, PermissionDeniedError, "permission"),
    *((status, BadRequestError, "bad_request") for status in (400, 402, 404, 405, 409, 410, 413, 422, 499)),
    (429, RateLimitedError, "rate_limited"),
    *((status, ServerError, "server") for status in (500, 502, 503, 504, 529, 599)),
    *((status, BadResponseError, "bad_response") for status in (201, 202, 204, 206, 300, 301, 302, 304, 307, 308)),
]


@pytest.mark.parametrize(("status", "kind", "reason"), STATUSES)
def test_each_status_has_its_error(status: int, kind: type[ApiError], reason: str) -> None:
    error = Bench(answer(status)).refusal()
    assert type(error) is kind
    assert error.reason == reason
    assert "usage" in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize(("status", "kind", "reason"), STATUSES)
def test_only_what_may_pass_is_asked_for_again(status: int, kind: type[ApiError], reason: str) -> None:
    bench = Bench(answer(status), answer())
    if issubclass(kind, TransientError):
        assert bench.get() == b"{}"
        assert bench.retries == [("usage", reason)]
    else:
        bench.refusal(retry=True)
        assert bench.retries == []
        assert len(bench.requests) == 1


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (httpx.ConnectTimeout, "timeout"),
        (httpx.ReadTimeout, "timeout"),
        (httpx.WriteTimeout, "timeout"),
        (httpx.ConnectError, "connection"),
        (httpx.ReadError, "connection"),
        (httpx.RemoteProtocolError, "connection"),
        (httpx.ProxyError, "connection"),
    ],
)
def test_no_answer_is_told_from_no_connection_and_both_are_tried_again(
    broken: type[httpx.TransportError], reason: str
) -> None:
    bench = Bench(fails(broken), answer())
    assert bench.get() == b"{}"
    assert bench.retries == [("usage", reason)]
    assert [outcome.code for outcome in bench.outcomes] == ["none", "200"]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_only_a_401_tells_the_source_of_the_key(status: int) -> None:
    bench = Bench(answer(status))
    bench.refusal()
    assert bench.key.refusals == (status == 401)


def test_without_retry_a_request_is_made_once_and_the_error_says_when_to_come_back() -> None:
    bench = Bench(answer(429, retry_after="40"))
    error = bench.refusal(retry=False)
    assert isinstance(error, TransientError)
    assert error.retry_after is not None
    assert error.retry_after >= 40
    assert len(bench.requests) == 1
    assert bench.waits == []
    assert bench.retries == []


WISHES = [
    ("1", 1.0), ("2.5", 2.5), ("4", 4.0), ("30", 30.0), ("86400", 3600.0), ("9" * 400, 3600.0), ("-7", 0.0),
    ("nan", 0.0), ("0", 0.0), ("\xff\xfe", 0.0), (formatdate(NOW + 3, usegmt=True), 3.0),
    (formatdate(NOW + 90, usegmt=True), 90.0), (formatdate(NOW - 90, usegmt=True), 0.0),
]  # fmt: skip


@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize(("text", "wish"), WISHES)
def test_waits_never_undercut_retry_after_nor_outlast_the_patience(status: int, text: str, wish: float) -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=[(b"retry-after", text.encode("latin-1"))])

    bench = Bench(refuse)
    error = bench.refusal(retry=True)
    assert isinstance(error, TransientError)
    assert error.retry_after is not None
    relative = 0.0 if text.endswith("GMT") else wish
    assert all(wait >= relative for wait in bench.waits)
    assert bench.now + error.retry_after >= NOW + wish
    assert sum(bench.waits) <= PATIENCE < sum(bench.waits) + error.retry_after
    assert 1 <= len(bench.requests) == len(bench.waits) + 1 == len(bench.retries) + 1 <= 6


def test_slow_answers_use_up_the_patience_too() -> None:
    bench = Bench(answer(500))
    bench.request_seconds = 1.5
    bench.refusal(retry=True)
    assert len(bench.requests) == 3
    assert bench.now <= NOW + PATIENCE + bench.request_seconds


def test_the_waits_grow() -> None:
    bench = Bench(answer(500))
    bench.refusal(retry=True)
    assert bench.waits == [0.5, 1.0, 2.0]


def test_every_request_is_reported_with_its_endpoint_code_and_duration() -> None:
    bench = Bench(answer(500), fails(httpx.ReadTimeout), answer())
    bench.request_seconds = 0.75
    bench.get()
    assert bench.outcomes == [RequestOutcome("usage", code, 0.75, None) for code in ("500", "none", "200")]


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        (formatdate(NOW, usegmt=True), 0),
        (formatdate(NOW - 90, usegmt=True), 90),
        (formatdate(NOW + 5, usegmt=True), -5),
        (None, None), ("", None), ("yesterday", None), ("\xff", None), ("Wed, 99 Oct 2026 07:28:00 GMT", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 500])
def test_the_date_header_tells_how_far_the_host_is_ahead(date: str | None, skew: float | None, status: int) -> None:
    headers = [] if date is None else [(b"date", date.encode("latin-1"))]
    bench = Bench(lambda _request: httpx.Response(status, content=b"{}", headers=headers))
    with contextlib.suppress(ServerError):
        bench.get(retry=False)
    assert bench.outcomes[0].clock_skew == skew


def test_no_answer_tells_no_skew() -> None:
    bench = Bench(fails(httpx.ConnectError))
    bench.refusal()
    assert bench.outcomes[0].clock_skew is None


def test_an_error_says_what_the_api_said_on_one_line() -> None:
    message = "Invalid date range:\n\tending date\u2028must be after starting date"
    error = Bench(answer(400, error_body(message))).refusal()
    assert str(error).endswith("answered 400 (Invalid date range: ending date must be after starting date)")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Bad gateway</html>", b"{", b"null", b"[]", b'{"error": "text"}', b'{"error": {}}', b"\xff\xfe",
     b'{"error": {"message": null}}', b'{"error": {"message": "\xff"}}', b'{"error": {"message": "\\ud800"}}',
     b'{"error": {"message": " "}}', b'{"error": {"message": "a', b'{"other":' + b"[" * 100_000, b'{"error": null}'],
)  # fmt: skip
def test_an_error_body_that_says_nothing_leaves_the_status(content: bytes) -> None:
    error = Bench(answer(404, content)).refusal()
    assert type(error) is BadRequestError
    assert str(error) == "usage: the API answered 404"


def test_a_long_explanation_is_cut() -> None:
    assert len(str(Bench(answer(400, error_body("word " * 1000))).refusal())) < 300


@pytest.mark.parametrize("status", [status for status, _, _ in STATUSES if status != 204])
def test_an_echoed_key_is_not_repeated(status: int) -> None:
    error = Bench(answer(status, error_body(f"the key {KEY} is not\n{KEY}"))).refusal()
    assert KEY not in str(error)
    assert "[redacted]" in str(error)


@pytest.mark.parametrize("before", range(170, 205, 3))
def test_no_part_of_an_echoed_key_is_left_where_the_explanation_is_cut(before: int) -> None:
    error = Bench(answer(401, error_body("x" * before + KEY))).refusal()
    assert "sk-" not in str(error)


def test_the_key_that_was_sent_is_removed_even_if_it_was_rotated_meanwhile() -> None:
    bench = Bench(answer(401, error_body(f"unknown key {KEY}")), keys=[KEY, "sk-ant-admin01-next"])
    assert "canary" not in str(bench.refusal())


def test_faults_of_the_simulated_api_pass_with_retries() -> None:
    faults, retries = Faults(), []
    api = AdminApi(SimulatedOrganization(seed=3, started=int(NOW)), key=KEY, clock=lambda: NOW, faults=faults)
    faults.add(Fault(kind=429, retry_after="1", times=1))
    faults.add(Fault(kind=529, times=1))
    timing = Timing(timer=lambda: 0.0, sleep=lambda _seconds: None)
    listener = Listener(retry=lambda endpoint, reason: retries.append((endpoint, reason)))
    client = Client("http://api.test", Credentials(KEY, None), timeout=1, listener=listener, timing=timing,
                    transport=httpx.WSGITransport(app=api))  # fmt: skip
    assert json.loads(client.get("organization", ME))["type"] == "organization"
    assert retries == [("organization", "rate_limited"), ("organization", "server")]
    assert api.log[0].user_agent.startswith("anthropic-exporter/")


class Recorder:
    """A WSGI application that redirects to ``location`` if there is one, and remembers who came."""

    def __init__(self, status: str = "200 OK", location: str = "") -> None:
        self.status = status
        self.headers = [("location", location)] if location else []
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        self.seen.append(environ)
        start_response(self.status, [*self.headers, ("content-length", "2")])
        return [b"{}"]


@contextlib.contextmanager
def real_client(url: str, timeout: float = 1, *, direct: bool = True) -> Iterator[Client]:
    credentials = Credentials(KEY, None)
    client = Client(url, credentials, timeout=timeout, listener=Listener(), timing=Timing(), direct=direct)
    with contextlib.closing(client):
        yield client


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(status: str) -> None:
    elsewhere = Recorder()
    with serve(elsewhere) as other:
        first = Recorder(status, location=f"{other.url}/me")
        with (
            serve(first) as server,
            real_client(server.url) as client,
            pytest.raises(BadResponseError, match="redirect"),
        ):
            client.get("organization", ME)
    assert [environ["HTTP_X_API_KEY"] for environ in first.seen] == [KEY]
    assert elsewhere.seen == []


def test_a_direct_client_ignores_the_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    api, proxy = Recorder(), Recorder()
    with serve(api) as server, serve(proxy) as proxy_server:
        monkeypatch.setenv("http_proxy", proxy_server.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for direct in (True, False):
            with real_client(server.url, direct=direct) as client:
                client.get("organization", ME)
    assert len(api.seen) == len(proxy.seen) == 1
    assert "http://" not in api.seen[0]["PATH_INFO"]


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve each connection on loopback with ``behave``, one at a time, once its request is there."""

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    behave(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert not thread.is_alive()


def broken(url: str, timeout: float = 1) -> tuple[ApiError, float]:
    """Return how a request fails, and how long that takes."""
    with real_client(url, timeout) as client:
        begun = time.monotonic()
        with pytest.raises(ApiError) as caught:
            client.get("usage", ME, retry=False)
        return caught.value, time.monotonic() - begun


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


def reset(connection: socket.socket) -> None:
    connection.sendall(HEAD + b'{"data": [')
    time.sleep(0.05)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BROKEN_BEHAVIOURS: list[Callable[[socket.socket], object]] = [
    reset,
    lambda connection: connection.sendall(HEAD + b'{"data": ['),
    lambda connection: connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"da'),
    lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
    lambda connection: connection.sendall(b"HTTP/1.1 200"),
    lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    lambda _connection: None,
]


@pytest.mark.parametrize(
    "behave",
    BROKEN_BEHAVIOURS,
    ids=["reset in the body", "truncated body", "truncated chunk", "not gzip", "truncated head", "not HTTP", "closed"],
)
def test_a_connection_that_breaks_is_no_connection_whatever_was_sent(behave: Callable[[socket.socket], object]) -> None:
    with server(behave) as url:
        error, _ = broken(url)
    assert type(error) is NoConnectionError
    assert error.reason == "connection"
    assert "\n" not in str(error)
    assert KEY not in str(error)


def test_a_refused_connection_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error, seconds = broken(f"http://127.0.0.1:{port}")
    assert type(error) is NoConnectionError
    assert seconds < 1


def test_a_server_that_hangs_is_given_up_at_the_timeout() -> None:
    ended = threading.Event()
    with server(lambda _connection: ended.wait(5)) as url:
        error, seconds = broken(url, timeout=0.5)
        ended.set()
    assert type(error) is NoAnswerError
    assert str(error) == "usage: no complete answer within 0.5 s"
    assert 0.4 < seconds < 1.5


def test_a_body_that_drips_is_given_up_at_the_timeout_of_the_whole_request() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for _ in range(60):
            connection.sendall(b" ")
            time.sleep(0.05)

    with server(drip) as url:
        error, seconds = broken(url, timeout=0.5)
    assert type(error) is NoAnswerError
    assert 0.4 < seconds < 1.5


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nx: ", HEAD + b"a\r\n"])
def test_an_answer_of_which_bytes_drip_in_anywhere_is_given_up_in_time(begin: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        for _ in range(60):
            connection.sendall(b"H" if not begin else b"y")
            time.sleep(0.05)

    with server(drip) as url:
        error, seconds = broken(url, timeout=0.5)
    assert isinstance(error, NoAnswerError | NoConnectionError)
    assert seconds < 1.5


def test_after_a_dripping_answer_the_next_request_is_answered() -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(60):
            connection.sendall(b"y")
            time.sleep(0.05)

    whole = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    served: list[int] = []

    def behave(connection: socket.socket) -> None:
        served.append(1)
        if len(served) == 1:
            drip(connection)
        else:
            connection.sendall(whole)

    with server(behave) as url, real_client(url, timeout=0.3) as client:
        with pytest.raises(NoAnswerError):
            client.get("usage", ME, retry=False)
        assert client.get("usage", ME, retry=False) == b"{}"


def test_a_broken_body_is_asked_for_again_and_read_whole() -> None:
    whole = b'{"data": [], "has_more": false}'
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    bodies = iter([whole[:7], whole])
    with server(lambda connection: connection.sendall(head + next(bodies))) as url, real_client(url) as client:
        assert client.get("usage", ME) == whole

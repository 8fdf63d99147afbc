"""The real program, besieged: slow clients, many at once, and requests that are none."""

import gzip
import random
import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from exporter.web.limits import raise_descriptor_limit

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess

pytestmark = pytest.mark.process

KEY = "sk-ant-admin01-door"
SLOW, AT_ONCE, MALFORMED = 1000, 200, 10_000
REPORTS = ("usage", "api_key_usage", "cost", "names", "limits")
SEEN = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]+\r\n")


@pytest.fixture
def program(exporter_process: Callable[..., "ExporterProcess"]) -> Iterator["ExporterProcess"]:
    """Run the program until all is read; from then on it polls too seldom to change the series."""
    started, arrival = int(time.time()) - 3 * DAY, Arrival(median=0, late_share=0)
    organization = SimulatedOrganization(seed=7, started=started, arrival=arrival, bill_delay=0)
    with serve(AdminApi(organization, key=KEY, clock=time.time)) as api:
        rarely = ("--usage.poll-interval", "300", "--usage.settle", "600", "--usage.api-key-poll-interval", "300")
        env = {"ANTHROPIC_ADMIN_API_KEY": KEY}
        program = exporter_process("--api.base-url", api.url, *rarely, env=env)
        up = [("anthropic_up", frozenset({("report", report)})) for report in REPORTS]
        program.wait_for(lambda samples: all(samples.get(report) == 1 for report in up))
        yield program


class Door:
    """Where the program listens, for clients with manners of their own."""

    def __init__(self, program: "ExporterProcess") -> None:
        url = httpx.URL(program.url)
        self._address = url.host, url.port or 0
        self._status = f"/proc/{program.process.pid}/status"

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=10)

    def scrape(self, coding: str = "gzip", path: str = "/metrics") -> bytes:
        """Return the body of an answer that is OK, as it was sent."""
        with self.connect() as connection:
            head = f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAccept-Encoding: {coding}\r\n\r\n"
            connection.sendall(head.encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 18), b""))
        head_, _, body = answer.partition(b"\r\n\r\n")
        assert head_.startswith(b"HTTP/1.1 200 OK\r\n")
        length = re.search(rb"Content-Length: (\d+)", head_)
        assert length is not None
        assert len(body) == int(length[1])
        return body

    def answer(self, request: bytes) -> int | None:
        """Return the status, or None if there is only an end to the connection."""
        answer = b""
        with suppress(ConnectionError), self.connect() as connection:
            with suppress(OSError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                answer += part
        found = SEEN.match(answer)
        assert found or not answer, answer
        return int(found[1]) if found else None

    def rss(self) -> float:
        """Return the MB that the program has in memory."""
        with open(self._status) as lines:  # noqa: PTH123 - not a file
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def series(body: bytes) -> list[str]:
    """Return names and labels in their order."""
    families = text_string_to_metric_families(body.decode())
    return [f"{sample.name}{sorted(sample.labels.items())}" for family in families for sample in family.samples]


def ninety_ninth(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


def besiege(door: Door, slow: list[socket.socket]) -> None:
    """Open connections that say nothing, that drip, and that ask and do not read."""
    for number in range(SLOW):
        connection = door.connect()
        slow.append(connection)
        if number % 3:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n" + (b"\r\n" if number % 3 == 1 else b"A: "))


def close(slow: list[socket.socket]) -> None:
    for connection in slow:
        connection.close()


def drip(slow: list[socket.socket], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        for connection in slow[2::3]:
            with suppress(OSError):
                connection.send(b"a")


def test_a_thousand_slow_clients_do_not_delay_an_honest_one(program: "ExporterProcess") -> None:
    raise_descriptor_limit(SLOW)
    door = Door(program)
    door.scrape()
    before, seconds, slow, stop = door.rss(), [], list[socket.socket](), threading.Event()
    with ExitStack() as at_end:
        at_end.callback(close, slow)
        besiege(door, slow)
        dripping = threading.Thread(target=drip, args=(slow, stop))
        dripping.start()
        at_end.callback(dripping.join)
        at_end.callback(stop.set)
        for _ in range(100):
            begun = time.perf_counter()
            door.scrape()
            seconds.append(time.perf_counter() - begun)
            time.sleep(0.02)
        assert ninety_ninth(seconds) < 2
        assert door.rss() - before < 60
        # They are all still there: nobody was sent away to make this easy.
        assert all(still_open(connection) for connection in slow[0::3] + slow[2::3])
    assert "level=error" not in program.log()


def still_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_many_at_once_get_the_same_page(program: "ExporterProcess") -> None:
    door = Door(program)
    whole = series(gzip.decompress(door.scrape()))
    barrier = threading.Barrier(AT_ONCE)

    def scrape(number: int) -> bytes:
        barrier.wait(20)
        return gzip.decompress(door.scrape()) if number % 2 else door.scrape("identity")

    with ThreadPoolExecutor(AT_ONCE) as clients:
        pages = set(clients.map(scrape, range(AT_ONCE)))
    assert len(pages) < AT_ONCE
    for page in pages:
        assert series(page) == whole


HOST = b"Host: here\r\n"
NO_REQUESTS: tuple[Callable[[bytes, bytes, int], bytes], ...] = (
    lambda junk, _word, _size: junk,
    lambda junk, _word, _size: junk + b"\r\n\r\n",
    lambda _junk, word, _size: b"GET /metrics HTTP/" + word + b"\r\n" + HOST + b"\r\n",
    lambda _junk, _word, size: b"GET /metrics HTTP/%d.%d\r\n" % (2 + size % 7, size % 10) + HOST + b"\r\n",
    lambda _junk, word, _size: b"GET /\0" + word + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    lambda _junk, word, _size: b"GET ftp://" + word + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    lambda _junk, word, _size: b"GET //" + word + b" HTTP/1.1\r\n\r\n",
    lambda _junk, word, _size: b"GET /%s?" % word + b"name[]=a&" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    lambda _junk, _word, size: b"GET /" + b"a" * size + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    lambda _junk, _word, size: b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * size + b"\r\n\r\n",
    lambda _junk, _word, size: (
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"A%d: 1\r\n" % i for i in range(size // 9)) + b"\r\n"
    ),
    lambda _junk, _word, _size: b"GET / HTTP/1.1\r\n" + HOST + b": no name\r\n\r\n",
    lambda _junk, word, _size: b"GET / HTTP/1.1\r\n" + HOST + word + b"\r\n\r\n",
    lambda junk, _word, _size: b"GET / HTTP/1.1\r\nHost: " + junk + b"\r\n\r\n",
    lambda _junk, _word, size: (
        b"POST /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size + b"a" * size
    ),
    lambda _junk, word, _size: b"POST /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: " + word + b"\r\n\r\n",
    lambda junk, _word, _size: b"POST /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: 20\r\n\r\n" + junk,
    lambda junk, word, _size: (
        b"PUT /metrics HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + word + b"\r\n" + junk
    ),
    lambda _junk, word, _size: b"PUT /metrics HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + word + b"\r\n\r\n",
    lambda _junk, word, _size: b"%s /metrics HTTP/1.1\r\n" % word + HOST + b"\r\n",
    lambda _junk, _word, _size: b"DELETE /metrics HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    lambda _junk, _word, _size: b"GET /metrics HTTP/1.1\n" + HOST + b"Content-Length: 9\n\n",
)
"""What has something wrong, or is no request at all, given some junk, a word and a size."""


def malformed(seed: int) -> bytes:
    """Return one of them."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    junk = chance.randbytes(chance.randrange(20, 400))
    word = bytes(chance.choices(b"abcXYZ/?&=%[]\\\x7f\xff ", k=chance.randrange(1, 40)))
    return chance.choice(NO_REQUESTS)(junk, word, chance.choice((20_000, 40_000, 200_000)))


def test_whatever_is_no_request_is_refused_and_leaves_no_trace(program: "ExporterProcess") -> None:
    door = Door(program)

    def send(seed: int) -> int | None:
        return door.answer(malformed(seed))

    with ThreadPoolExecutor(4) as clients:
        list(clients.map(send, range(500)))
        before, lines = door.rss(), program.log().count("\n")
        answers = list(clients.map(send, range(MALFORMED)))
    wrong = [(seed, answer) for seed, answer in enumerate(answers) if answer and not 400 <= answer < 500]
    assert wrong == []
    assert {400, 404, 405, 413, 414, 431} <= set(answers)
    assert door.rss() - before < 20
    assert "Traceback" not in program.log()
    assert program.log().count("\n") - lines < 10
    assert series(door.scrape("identity"))


def test_every_client_gets_the_page_in_its_own_way(program: "ExporterProcess") -> None:
    door = Door(program)
    assert series(gzip.decompress(door.scrape())) == series(door.scrape("identity"))
    with door.connect() as connection:
        for _ in range(3):
            connection.sendall(b"HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1000)
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    statuses = {b"GET /metrics/": 404, b"OPTIONS *": 405, b"DELETE /": 405}
    for line, status in statuses.items():
        assert door.answer(line + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n") in (status, None)
    with door.connect() as old:
        old.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: old.recv(1000), b"")).endswith(b"\r\n\r\nReady.\n")

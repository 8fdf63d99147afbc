"""What the surroundings can do: proxies, clocks of others, pipes for keys, pages that fail."""

import os
import socket
import threading
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.api.retry import parse_retry_after
from exporter.api.watchdog import Watchdog
from exporter.errors import SettingsError, StartError
from exporter.ledger.publication import Publication
from exporter.model import RequestOutcome, Snapshot
from exporter.settings import load


@pytest.mark.parametrize(
    ("name", "content"),
    [("HTTPS_PROXY", "foo://x"), ("NO_PROXY", "[::1"), ("SSL_CERT_FILE", "/nowhere/ca.pem")],
)
def test_a_bad_proxy_or_certificate_variable_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    monkeypatch.setenv(name, content)
    with pytest.raises(StartError, match=r"a proxy or certificate variable cannot be used: .+") as caught:
        Client("https://api.invalid", Credentials("key", None), timeout=1, listener=Listener(), timing=Timing())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header", ["Mon, 05 Jan 2026 00:00:00 +99999999999999", "Mon, 05 Jan 99999999999999999999 00:00:00 GMT"]
)
def test_a_date_beyond_all_bounds_is_no_date(header: str) -> None:
    assert parse_retry_after(header, 1e9) is None
    outcomes: list[RequestOutcome] = []
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers={"date": header}, content=b"{}"))
    listener, key = Listener(request=outcomes.append), Credentials("key", None)
    client = Client("https://api.invalid", key, timeout=1, listener=listener, timing=Timing(), transport=transport)
    assert client.get("usage", "/") == b"{}"
    assert outcomes[0].clock_skew is None


def test_the_skew_is_taken_when_the_answer_begins_not_when_its_body_ends() -> None:
    now = [1_000_000_000.0]

    class Slow(httpx.SyncByteStream):
        def __iter__(self) -> Iterable[bytes]:  # type: ignore[override]
            now[0] += 8
            yield b"{}"

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"date": "Sun, 09 Sep 2001 01:46:40 GMT"}, stream=Slow())

    outcomes: list[RequestOutcome] = []
    timing = Timing(clock=lambda: now[0], timer=lambda: 0.0)
    listener, transport = Listener(request=outcomes.append), httpx.MockTransport(answer)
    client = Client(
        "https://api.invalid",
        Credentials("key", None),
        timeout=30,
        listener=listener,
        timing=timing,
        transport=transport,
    )
    assert client.get("usage", "/") == b"{}"
    assert outcomes[0].clock_skew == 0


class Stream(NamedTuple):
    """What the library hands to the trace: a connection."""

    connection: socket.socket

    def get_extra_info(self, _name: str) -> socket.socket:
        return self.connection


@pytest.mark.parametrize("event", ["connection.connect_tcp.complete", "proxy.start_tls.complete"])
@pytest.mark.parametrize("made_after", [0.0, 0.3])
def test_the_watchdog_cuts_any_connection_also_one_that_is_made_too_late(event: str, made_after: float) -> None:
    ours, theirs = socket.socketpair()
    watchdog = Watchdog()

    def exchange() -> None:
        with watchdog.watch(0.1):
            time.sleep(made_after)
            watchdog.trace(event, {"return_value": Stream(ours)})
            theirs.settimeout(2)
            assert theirs.recv(1) == b""

    begun = time.monotonic()
    with ours, theirs, pytest.raises(TimeoutError):
        exchange()
    assert time.monotonic() - begun < 1.5


def test_a_pipe_for_a_key_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "key"
    os.mkfifo(pipe)
    refused: list[str] = []

    def read() -> None:
        try:
            load([], {"ANTHROPIC_ADMIN_API_KEY_FILE": str(pipe)}, today=date(2026, 3, 9))
        except SettingsError as error:
            refused.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(3)
    assert refused
    assert "not a regular file" in refused[0]


def test_a_mark_belongs_to_the_snapshot_it_was_made_for() -> None:
    times = iter([5.0, 9.0])
    publication = Publication(lambda: 12.0, lambda: next(times))
    publication.serve()
    publication.serve()
    assert publication.served_at == 5
    publication.put(Snapshot())
    assert publication.served_at is None
    assert publication.look() == (Snapshot(), 12)
    assert publication.served_at is None

"""What reading a wide window takes: time, memory, and how long it keeps other threads waiting.

Each case runs in a process of its own, against an API without a network. ``as asked`` is the exporter's own way, in
pages of a size that it chooses; ``one page`` is an API that answers everything at once, whatever was asked for.
"""

import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.model import MINUTE, Bucket, Window

PAGES = ((5, 50), (1440, 50), (1440, 500))
WAYS = ("as asked", "one page")
BEGIN = 1_793_577_600
CHUNK = 65_536


class WideApi(httpx.BaseTransport):
    """Answers with ``rows`` rows in each minute; with ``at_once`` the first answer holds all of the window."""

    def __init__(self, window: Window, rows: int, *, at_once: bool) -> None:
        self.requests = self.sent = self.widest = 0
        self._window = window
        self._rows = json.dumps([self._row(number) for number in range(rows)]).encode()
        self._at_once = at_once

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        start, end = (_seconds(request.url.params[name]) for name in ("starting_at", "ending_at"))
        if self._at_once:
            start, end = (self._window.start, self._window.end) if self.requests == 0 else (start, start)
        self.requests += 1
        return httpx.Response(200, stream=_Stream(self._chunks(start, end)))

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        before, rest = self.sent, b'{"data": ['
        for begin in range(start, end, MINUTE):
            times = (
                f'{"," if begin > start else ""}{{"starting_at": "{_iso(begin)}", "ending_at": "{_iso(begin + MINUTE)}"'
            )
            rest += times.encode() + b', "results": ' + self._rows + b"}"
            while len(rest) > CHUNK:
                self.sent += CHUNK
                yield rest[:CHUNK]
                rest = rest[CHUNK:]
        rest += b'], "has_more": false, "next_page": null}'
        self.sent += len(rest)
        self.widest = max(self.widest, self.sent - before)
        yield rest

    @staticmethod
    def _row(number: int) -> dict[str, object]:
        return {
            "uncached_input_tokens": 1500 + number,
            "cache_creation": {"ephemeral_1h_input_tokens": 1000 + number, "ephemeral_5m_input_tokens": 500 + number},
            "cache_read_input_tokens": 20_000 + number,
            "output_tokens": 500 + number,
            "server_tool_use": {"web_search_requests": 0},
            "account_id": None,
            "service_account_id": None,
            "api_key_id": f"apikey_01Rj2N8SVvo6BePZj99NhmiT{number % 100:04}",
            "workspace_id": f"wrkspc_01JwQvzr7rXLA5AGx3HKfFUJ{number % 20:04}",
            "model": f"claude-opus-5-{number}",
            "service_tier": "standard",
            "context_window": "0-200k",
            "inference_geo": "global",
        }


class _Stream(httpx.SyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


class Sleeper(threading.Thread):
    """Sleeps a millisecond again and again; ``longest`` is how many milliseconds it came late at worst."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            begun = time.perf_counter()
            time.sleep(0.001)
            self.longest = max(self.longest, (time.perf_counter() - begun) * 1000 - 1)

    def end(self) -> None:
        self._over.set()
        self.join()


class Collections:
    """Notes the longest full garbage collection, in milliseconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._begun = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
        elif info["generation"] == 2:
            self.longest = max(self.longest, (time.perf_counter() - self._begun) * 1000)


def memory(field: str) -> float:
    """Return a figure of this process in MB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def measure(buckets: int, rows: int, view: str, way: str) -> None:
    """Read one window and print a row of the table."""
    window = Window(MINUTE, BEGIN, BEGIN + buckets * MINUTE)
    wide = WideApi(window, rows, at_once=way == "one page")
    client = Client(
        "http://api.test", Credentials("sk-ant-admin01-x", None), timeout=300, listener=Listener(), timing=Timing(),
        transport=wide,
    )  # fmt: skip
    api = AdminApi(client)
    sleeper, collections = Sleeper(), Collections()
    before = memory("VmRSS")
    sleeper.start()
    begun = time.perf_counter()
    found: list[Bucket[int]] = api.usage(window) if view == "usage" else api.api_key_usage(window)
    took = time.perf_counter() - begun
    sleeper.end()
    peak, after = memory("VmHWM") - before, memory("VmRSS") - before
    distinct = len({id(series) for bucket in found for series in bucket.counts})
    assert len(found) == buckets
    assert sum(len(bucket.counts) for bucket in found) == buckets * rows
    print(
        f"{buckets:5d}x{rows:<4d}{view:14s}{way:9s}{wide.sent / 1e6:7.1f} MB in {wide.requests:2d} requests (largest "
        f"{wide.widest / 1e6:5.1f}) {took * 1000:7.0f} ms, peak +{peak:6.1f} MB, left +{after:6.1f} MB, "
        f"longest stall {sleeper.longest:6.1f} ms, longest full collection {collections.longest:6.1f} ms, "
        f"{distinct} series objects",
        flush=True,
    )


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def main() -> None:
    """Measure all cases, or the one that the arguments name."""
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
        return
    for buckets, rows in PAGES:
        for view in ("usage", "api_key_usage"):
            for way in WAYS:
                case = [str(buckets), str(rows), view, way]
                subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.bench_decode", *case], check=True, env=os.environ
                )


if __name__ == "__main__":
    main()

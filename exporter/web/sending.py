"""An answer on its way: with its headers, compressed or not, and only as fast as the client takes it."""

import asyncio
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import responses

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, ResponseStartLine, format_timestamp

from exporter.web.limits import Limits
from exporter.web.pages import Answer, Rendering

PIECE = 256 * 1024
"""Bytes that are decompressed at a time."""
KEPT = 3
"""Renderings that are kept for their clients whatever their size."""
_ZERO = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")


class Sender:
    """Sends answers, and bounds what clients who do not take theirs can hold in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[int, tuple[int, set[HTTP1Connection]]] = {}

    async def send(
        self, connection: HTTP1Connection, answer: Answer, *, head: bool, gzip: bool, headers: Mapping[str, str]
    ) -> None:
        """Send it, or for ``head`` its headers alone; raise TimeoutError if the client does not take a chunk."""
        body = answer.body
        # What the operator wishes goes before what a page says of itself.
        told = {**dict(answer.headers), **headers}
        fields = HTTPHeaders({**told, "Content-Type": answer.content_type, "Date": format_timestamp(time.time())})
        for name, value in _framing(body, gzip=gzip):
            fields[name] = value
        await self._taken(connection.write_headers(_start(answer.status), fields))
        if isinstance(body, bytes):
            await self._write(connection, () if head else (body,))
        elif body is not None:
            with self._hold(body, connection):
                await self._write(connection, body.gzip if gzip else _inflated(body.gzip))
        connection.finish()

    async def _write(self, connection: HTTP1Connection, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            await self._taken(connection.write(chunk))
            # The others get their turn, though this one takes all at once.
            await asyncio.sleep(0)

    async def _taken(self, written: "asyncio.Future[None]") -> None:
        async with asyncio.timeout(self._limits.write_seconds):
            await written

    @contextmanager
    def _hold(self, rendering: Rendering, connection: HTTP1Connection) -> Iterator[None]:
        """Count a rendering while a client takes it; where that is too much, cut who waits for the oldest."""
        key = id(rendering)
        self._held.setdefault(key, (sum(map(len, rendering.gzip)), set()))[1].add(connection)
        while len(self._held) > KEPT and sum(size for size, _ in self._held.values()) > self._limits.held:
            for late in self._held.pop(next(iter(self._held)))[1]:
                late.close()
        try:
            yield
        finally:
            _, clients = self._held.get(key, (0, set()))
            clients.discard(connection)
            if not clients:
                self._held.pop(key, None)


def accepts_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip, or anything, and not with the weight 0."""
    codings = (part.partition(";") for part in header.lower().split(","))
    welcome = {coding.strip(): not _ZERO.fullmatch(weight) for coding, _, weight in codings}
    return welcome.get("gzip", welcome.get("*", False))


def _start(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, responses[status])


def _framing(body: bytes | Rendering | None, *, gzip: bool) -> Iterator[tuple[str, str]]:
    if isinstance(body, bytes):
        yield "Content-Length", str(len(body))
        return
    yield "Vary", "Accept-Encoding"
    if gzip:
        yield "Content-Encoding", "gzip"
    if body is not None:
        yield "Content-Length", str(sum(map(len, body.gzip)) if gzip else body.size)


def _inflated(gzip: Sequence[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    for chunk in gzip:
        rest = chunk
        while rest:
            yield inflater.decompress(rest, PIECE)
            rest = inflater.unconsumed_tail
    yield inflater.flush()

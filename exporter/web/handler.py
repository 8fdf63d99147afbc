"""One request: whether it is sound, who asks, what is asked for."""

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import unquote

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest, RequestStartLine, ResponseStartLine
from tornado.iostream import SSLIOStream, StreamClosedError

from exporter.web.limits import Limits
from exporter.web.pages import Answer, Page, Request, plain
from exporter.web.sending import Sender, accepts_gzip

logger = logging.getLogger(__name__)

MISSING = plain(404, "Not found.\n")
REFUSED = plain(405, "Only GET and HEAD.\n", ("Allow", "GET, HEAD"))
STRANGER = plain(401, "Name and password, please.\n", ("WWW-Authenticate", 'Basic realm="anthropic-exporter"'))
FOREIGN = plain(403, "Not with this certificate.\n")
BROKEN = plain(500, "This page could not be made; the log says why.\n")
LONG_BODY = plain(413, "No body, please.\n")
LONG_TARGET = plain(414, "The path and the query are too long.\n")
LONG_HEAD = plain(431, "The headers are too long.\n")
_ORIGIN = re.compile(r"https?://[^/?]+", re.IGNORECASE)
T = TypeVar("T")


class Policy(Protocol):
    """Who may ask, over what, and what each answer says besides."""

    @property
    def tls(self) -> ssl.SSLContext | None: ...  # noqa: D102 - a field
    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102 - a field
    def admits(self, authorization: str | None) -> bool | Future[bool]:
        """Tell whether an Authorization header is one of ours."""
        ...

    def admits_peer(self, certificate: Mapping[str, Any] | None) -> bool:
        """Tell whether a client with this certificate, as ``getpeercert`` gives it, may ask."""
        ...


class Door(Protocol):
    """It has the policy in force, and is cheap to ask."""

    def look(self) -> Policy:
        """Return it."""
        ...


class Site(NamedTuple):
    """What requests are answered with."""

    pages: Mapping[str, Page]
    door: Door
    limits: Limits
    sender: Sender


class Handler(HTTPMessageDelegate):
    """Answers one request; ``begun`` is called when its head has come."""

    def __init__(self, connection: HTTP1Connection, site: Site, begun: Callable[[], None]) -> None:
        self._connection, self._site, self._begun = connection, site, begun
        self._request: HTTPServerRequest

    async def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        """Refuse what is too long before it is read; tornado answers 400 if it is malformed."""
        start_line = cast("RequestStartLine", start_line)
        self._begun()
        self._request = HTTPServerRequest(connection=self._connection, start_line=start_line, headers=headers)
        refusal = _too_long(start_line, headers, self._site.limits)
        if refusal is not None:
            await self._send(refusal, self._site.door.look())

    def data_received(self, chunk: bytes) -> None:
        """Ignore a body."""

    def finish(self) -> None:
        """Answer, unless the client goes away before."""
        task = asyncio.get_running_loop().create_task(self._answer())

        def gone() -> None:
            task.cancel()

        self._connection.set_close_callback(gone)

    def on_connection_close(self) -> None:
        """Do nothing: the request did not come to its end."""

    async def _answer(self) -> None:
        try:
            policy = self._site.door.look()
            await self._send(await self._decide(policy), policy)
        except asyncio.CancelledError:
            logger.debug("a client went away", extra={"fields": {"client": str(self._connection.context)}})
            raise
        except Exception:
            logger.exception("a request failed", extra={"fields": {"client": str(self._connection.context)}})
            self._connection.close()

    async def _send(self, answer: Answer, policy: Policy) -> None:
        request, fields = self._request, {"client": str(self._connection.context), "method": self._request.method}
        fields |= {"path": request.path, "status": str(answer.status)}
        gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        head = request.method == "HEAD"
        try:
            await self._site.sender.send(self._connection, answer, head=head, gzip=gzip, headers=policy.headers)
        except (StreamClosedError, TimeoutError):
            logger.debug("a client went away, or does not read", extra={"fields": fields})
            self._connection.close()
        else:
            logger.debug("answered", extra={"fields": fields})

    async def _decide(self, policy: Policy) -> Answer:
        request = self._request
        if not policy.admits_peer(_certificate(self._connection)):
            return FOREIGN
        if not await _result(policy.admits(request.headers.get("Authorization"))):
            return STRANGER
        if request.method not in ("GET", "HEAD"):
            return REFUSED
        page = self._site.pages.get(unquote(_ORIGIN.sub("", request.path, count=1)) or "/")
        return MISSING if page is None else await self._make(page)

    async def _make(self, page: Page) -> Answer:
        request = self._request
        names = frozenset(name.decode(errors="replace") for name in request.query_arguments.get("name[]", ()))
        try:
            return await _result(page(Request(request.headers.get("Accept", ""), names, str(request.method))))
        except Exception:
            logger.exception("a page could not be made", extra={"fields": {"path": request.path}})
            return BROKEN


def _certificate(connection: HTTP1Connection) -> Mapping[str, Any] | None:
    stream = connection.stream
    return stream.socket.getpeercert() if isinstance(stream, SSLIOStream) and not stream.closed() else None


async def _result(given: T | Future[T]) -> T:
    """Wait for it; who is cut off meanwhile must not cancel what others wait for, too."""
    return await asyncio.shield(asyncio.wrap_future(given)) if isinstance(given, Future) else given


def _too_long(start_line: RequestStartLine, headers: HTTPHeaders, limits: Limits) -> Answer | None:
    length = headers.get("Content-Length", "")
    if len(start_line.path) > limits.target:
        return LONG_TARGET
    if sum(len(f"{name}: {value}\r\n") for name, value in headers.get_all()) > limits.head:
        return LONG_HEAD
    if length.isdecimal() and (len(length) > 9 or int(length) > limits.body):
        return LONG_BODY
    return None

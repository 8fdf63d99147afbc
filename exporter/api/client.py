"""One request at a time: authentication, classification of answers, short retries.

Waiting never holds the caller for long: what needs more than ``PATIENCE`` seconds is raised as a ``TransientError``
with the time to come back.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from random import random
from typing import Protocol

import httpx
import msgspec

from exporter import PROJECT_URL, __version__
from exporter.api.retry import parse_retry_after, pause
from exporter.api.watchdog import Watchdog
from exporter.api.wire import UNREADABLE
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
    StartError,
    TransientError,
)
from exporter.model import RequestOutcome

PATIENCE = 5.0
RESTING = (429, 503, 529)
"""Statuses that say of the whole endpoint when it may be asked again."""
OWNER = "anthropic-organization-id"
API_VERSION = "2023-06-01"
USER_AGENT = f"anthropic-exporter/{__version__} ({PROJECT_URL})"

Params = Sequence[tuple[str, str]]
Transport = httpx.BaseTransport


class Key(Protocol):
    """What gives the key, and wants to know when the API refuses it."""

    def key(self) -> str:
        """Return the key to send."""
        ...

    def refused(self) -> None:
        """Take note that the API answered 401."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of requests and retries (endpoint, reason)."""

    request: Callable[[RequestOutcome], None] = lambda _outcome: None
    retry: Callable[[str, str], None] = lambda _endpoint, _reason: None


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance as the client sees them; ``clock`` is Unix seconds, ``timer`` never steps."""

    clock: Callable[[], float] = time.time
    timer: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    spread: Callable[[], float] = random


class _Body(msgspec.Struct):
    error: dict[str, msgspec.Raw] = {}


class Client:
    """GET requests to one host with one key, serially.

    Redirects are never followed: they would carry the key to another host. ``direct`` ignores proxy variables.
    """

    def __init__(
        self,
        base_url: str,
        key: Key,
        *,
        timeout: float,
        listener: Listener,
        timing: Timing,
        transport: Transport | None = None,
        direct: bool = False,
    ) -> None:
        self._key = key
        self._timeout = timeout
        self._listener = listener
        self._timing = timing
        self._closed: dict[str, float] = {}
        self._watchdog = Watchdog()
        self._extensions = {"trace": self._watchdog.trace, "timeout": httpx.Timeout(timeout).as_dict()}
        try:
            self._http = httpx.Client(
                base_url=base_url,
                headers={"user-agent": USER_AGENT, "anthropic-version": API_VERSION, "accept": "application/json"},
                timeout=timeout,
                transport=transport,
                follow_redirects=False,
                trust_env=not direct,
            )
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            raise StartError(f"a proxy or certificate variable cannot be used: {_plain(error)}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, endpoint: str, path: str, params: Params = (), *, retry: bool = True) -> bytearray:
        """Return the body of a 200 answer, which may be large; raise an ``ApiError`` for anything else.

        Transient errors are retried with backoff for up to ``PATIENCE`` seconds in all. While an endpoint wishes to be
        left alone it is not asked, whoever it has told so.
        """
        started = self._timing.timer()
        if (rest := self._closed.get(endpoint, started) - started) > 0:
            raise RateLimitedError(f"{endpoint}: the API asked to wait {rest:.0f} s more", retry_after=rest)
        for attempt in count(1):
            try:
                return self._once(endpoint, path, params)
            except TransientError as error:
                wait = pause(attempt, error.retry_after, self._timing.spread())
                if not retry or self._timing.timer() - started + wait > PATIENCE:
                    error.retry_after = wait
                    raise
                self._listener.retry(endpoint, error.reason)
                self._timing.sleep(wait)
        raise AssertionError

    def _once(self, endpoint: str, path: str, params: Params) -> bytearray:
        started = self._timing.timer()
        response: httpx.Response | None = None
        skew: float | None = None
        key = self._key.key()
        try:
            request = self._http.build_request(
                "GET", path, params=list(params), headers={"x-api-key": key}, extensions=self._extensions
            )
            with self._watchdog.watch(self._timeout):
                response = self._http.send(request, stream=True)
                skew = _skew(response.headers.get("date"), self._timing.clock())
                body = self._read(response, started + self._timeout)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise NoAnswerError(f"{endpoint}: no complete answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoConnectionError(f"{endpoint}: {_plain(error)}") from error
        finally:
            if response is not None:
                response.close()
            code = "none" if response is None else str(response.status_code)
            owner = response.headers.get(OWNER) if response is not None and response.is_success else None
            self._listener.request(RequestOutcome(endpoint, code, self._timing.timer() - started, skew, owner))
        if response.status_code != 200:
            raise self._refusal(endpoint, response, _explanation(body, key))
        return body

    def _read(self, response: httpx.Response, deadline: float) -> bytearray:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if self._timing.timer() > deadline:
                raise httpx.ReadTimeout("the body came too slowly")
        return body

    def _refusal(self, endpoint: str, response: httpx.Response, explanation: str) -> ApiError:
        status = response.status_code
        said = f"{endpoint}: the API answered {status}{explanation}"
        if status == 401:
            self._key.refused()
            return AuthError(said)
        if status == 403:
            return PermissionDeniedError(said)
        wish = parse_retry_after(response.headers.get("retry-after"), self._timing.clock())
        if wish and status in RESTING:
            self._closed[endpoint] = self._timing.timer() + wish
        if status == 429:
            return RateLimitedError(said, retry_after=wish)
        if status >= 500:
            return ServerError(said, retry_after=wish)
        if status >= 400:
            return BadRequestError(said)
        return BadResponseError(f"{said}; only 200 is expected, and redirects are not followed")


def _explanation(body: bytearray, key: str) -> str:
    """Return what an error body says, on one line and without the key that was sent, which a body could echo."""
    try:
        message = msgspec.json.decode(msgspec.json.decode(body, type=_Body).error["message"], type=str)
    except (*UNREADABLE, KeyError):
        return ""
    line = " ".join((message.replace(key, "[redacted]") if key else message).split())[:200]
    return f" ({line})" if line else ""


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _skew(date: str | None, now: float) -> float | None:
    try:
        return now - parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() if date else None
    except (ValueError, OverflowError):
        return None

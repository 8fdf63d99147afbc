"""The simulated Admin API: a WSGI application that answers, refuses and fails as the real one does."""

import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses
from threading import Lock
from typing import Any

from exporter.demo import lists, reports
from exporter.demo.faults import Fault, Faults
from exporter.demo.organization import Organization
from exporter.demo.query import Query, Refused
from exporter.demo.reports import Page

_PREFIX = "/v1/organizations"
_ENDPOINTS = {
    f"{_PREFIX}/me": "organization",
    f"{_PREFIX}/workspaces": "workspaces",
    f"{_PREFIX}/api_keys": "api_keys",
    f"{_PREFIX}/usage_report/messages": "usage",
    f"{_PREFIX}/cost_report": "cost",
    f"{_PREFIX}/rate_limits": "rate_limits",
}
_LOG_LENGTH = 10_000
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FAULT_MESSAGES = {
    401: "invalid x-api-key",
    403: "Your API key does not have permission to use the specified resource.",
    429: "Number of requests has exceeded your rate limit.",
    529: "Overloaded",
}
_HTML = b"<!DOCTYPE html><html><body><h1>Please stand by</h1></body></html>"
_ELSEWHERE = "https://elsewhere.invalid"


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """A request as it came in, refused or not."""

    endpoint: str
    query: Mapping[str, list[str]]
    time: float
    user_agent: str


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    sent: int | None = None
    """How many bytes are really sent; all when None."""


class AdminApi:
    """The Admin API of ``organization`` for the holder of ``key``, at the time that ``clock`` tells.

    ``page_buckets`` makes the pages of a bucket width smaller than asked for.
    """

    def __init__(
        self,
        organization: Organization,
        *,
        key: str,
        clock: Callable[[], float],
        page_buckets: Mapping[int, int] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.key = key
        self.requests: Counter[str] = Counter()
        self.log: list[RequestSeen] = []
        self.faults = faults or Faults()
        self._organization = organization
        self._clock = clock
        self._page_buckets = page_buckets or {}
        self._lock = Lock()
        self._answers = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer one request."""
        now = self._clock()
        number = self._count(environ, now)
        request_id = f"req_demo{number:016d}"
        try:
            answer = self._answer(environ, now)
        except Refused as refused:
            answer = _error(refused, request_id)
        headers = {
            **answer.headers,
            "content-length": str(len(answer.body)),
            "date": formatdate(now, usegmt=True),
            "request-id": request_id,
            "anthropic-organization-id": self._organization.id,
        }
        start_response(f"{answer.status} {responses.get(answer.status, 'Overloaded')}", list(headers.items()))
        return [answer.body[: answer.sent]]

    def _count(self, environ: Mapping[str, Any], now: float) -> int:
        endpoint = _ENDPOINTS.get(environ["PATH_INFO"])
        with self._lock:
            self._answers += 1
            if endpoint:
                self.requests[endpoint] += 1
                query = Query(environ.get("QUERY_STRING", ""))
                agent = environ.get("HTTP_USER_AGENT", "")
                self.log.append(RequestSeen(endpoint, query.parameters, now, agent))
                del self.log[:-_LOG_LENGTH]
            return self._answers

    def _answer(self, environ: Mapping[str, Any], now: float) -> _Answer:
        endpoint = self._admit(environ)
        query = Query(environ.get("QUERY_STRING", ""))
        fault = self.faults.due(endpoint, now, query.page_number, query.many("group_by[]"))
        if fault is None:
            return _success(self._page(endpoint, query, now))
        if isinstance(fault.kind, int) or fault.kind in {"html", "not_json", "redirect"}:
            return _instead(fault, environ["PATH_INFO"])
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        seen = now - fault.seconds if fault.kind == "stale" else now
        return _spoiled(fault, self._page(endpoint, query, seen))

    def _admit(self, environ: Mapping[str, Any]) -> str:
        given = environ.get("HTTP_X_API_KEY", "").encode("latin-1")
        if not hmac.compare_digest(given, self.key.encode()):
            raise Refused(401, "invalid x-api-key")
        if not environ.get("HTTP_ANTHROPIC_VERSION"):
            raise Refused(400, "anthropic-version: header is required")
        endpoint = _ENDPOINTS.get(environ["PATH_INFO"])
        if endpoint is None:
            raise Refused(404, "Not Found")
        if environ["REQUEST_METHOD"] != "GET":
            raise Refused(405, "Method Not Allowed")
        return endpoint

    def _page(self, endpoint: str, query: Query, now: float) -> Page:
        organization = self._organization
        pages: dict[str, Callable[[], Page]] = {
            "organization": lambda: lists.me(organization, query),
            "workspaces": lambda: lists.workspaces(organization, query),
            "api_keys": lambda: lists.api_keys(organization, query, now),
            "rate_limits": lambda: lists.rate_limits(query),
            "usage": lambda: reports.usage_report(organization, query, now, self._page_buckets),
            "cost": lambda: reports.cost_report(organization, query, now, self._page_buckets),
        }
        return pages[endpoint]()


def _success(page: Page) -> _Answer:
    return _Answer(200, json.dumps(page.body).encode())


def _error(refused: Refused, request_id: str) -> _Answer:
    default = "api_error" if refused.status >= 500 else "invalid_request_error"
    error = {"type": _ERROR_TYPES.get(refused.status, default), "message": refused.message}
    body = {"type": "error", "error": error, "request_id": request_id}
    answer = _Answer(refused.status, json.dumps(body).encode())
    if refused.retry_after is not None:
        answer.headers["retry-after"] = refused.retry_after
    return answer


def _instead(fault: Fault, path: str) -> _Answer:
    if isinstance(fault.kind, int):
        message = _FAULT_MESSAGES.get(fault.kind, "Internal server error")
        raise Refused(fault.kind, message, retry_after=fault.retry_after)
    if fault.kind == "redirect":
        return _Answer(302, b"", {"location": _ELSEWHERE + path})
    if fault.kind == "html":
        return _Answer(200, _HTML, {"content-type": "text/html"})
    return _Answer(200, b"upstream connect error")


def _spoiled(fault: Fault, page: Page) -> _Answer:
    cursor = "last_id" if "last_id" in page.body else "next_page"
    if fault.kind == "missing_next_page":
        page.body.update({"has_more": True, cursor: None})
    if fault.kind == "repeated_cursor":
        page.body.update({"has_more": True, cursor: page.here or page.body.get("first_id")})
    answer = _success(page)
    if fault.kind == "truncated":
        answer.sent = len(answer.body) // 2
    return answer

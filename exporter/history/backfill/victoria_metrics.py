"""A VictoriaMetrics: how long it keeps, and its import API.

Source: VictoriaMetrics documentation, "How to import data in Prometheus exposition format" and the metric ``flag``.
"""

import gzip
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from urllib.error import HTTPError
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from exporter.errors import SettingsError, StartError
from exporter.history.backfill.destinations import check_retention, refuse_second, writing
from exporter.history.backfill.files import BLOCK, NewSheet, Timed
from exporter.model import DAY, HOUR

IMPORT = "/api/v1/import/prometheus"
TIMEOUT = 60.0
BODY = 4_000_000
"""Characters of text to send at once."""

MONTH = 31 * DAY
_UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY, "y": 365 * DAY, "M": MONTH, "": MONTH}


class VictoriaMetrics:
    """One at ``url``, which may hold a user and a password; raises SettingsError if it is no address.

    ``scratch`` is a folder that can be written to.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self._scratch = scratch
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise SettingsError(f"--url is {_shown(url)}: write it as http://host:8428")
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._headers = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"} if parts.username else {}

    def check(self, start: int, end: int, now: float, series: str) -> None:
        """Refuse what it would drop, and what is there already."""
        check_retention(f"the VictoriaMetrics at {self._url}", self._retention(), start, now, "-retentionPeriod=")
        if self._has(series, start, end):
            raise refuse_second(series, start, end, "delete them first, or give other labels")

    def write(self, snapshots: Iterable[Timed], new_sheet: NewSheet) -> str:
        """Import snapshots."""
        for _, some in groupby(snapshots, key=lambda timed: timed[0] // BLOCK):
            with writing(self._scratch), TemporaryFile(dir=self._scratch) as scratch:
                sheet = new_sheet(scratch)
                for time, snapshot in some:
                    sheet.add(snapshot, time)
                for body in _bodies(sheet.text(_milliseconds)):
                    self._ask(IMPORT, body)
        return f"imported into {self._url}; it may take a minute to show"

    def _has(self, series: str, start: int, end: int) -> bool:
        """Tell whether there are samples of a selector, if it tells that."""
        query = urlencode({"query": f"count(count_over_time({series}[{end - start + 1}s]))", "time": end})
        try:
            return b'"value"' in self._ask(f"/api/v1/query?{query}")
        except _AnsweredError:
            return False

    def _retention(self) -> float | None:
        """Return for how many seconds it keeps samples, if it tells that."""
        try:
            metrics = self._ask("/metrics").decode("utf-8", "replace")
        except _AnsweredError:
            # It may be behind something that lets nothing but imports through.
            return None
        match = re.search(r'flag\{name="retentionPeriod", value="(\d+(?:\.\d+)?)([hdwyM]?)"', metrics)
        return float(match[1]) * _UNITS[match[2]] if match else None

    def _ask(self, path: str, body: str | None = None) -> bytes:
        data = None if body is None else gzip.compress(body.encode(), 1)
        headers = self._headers | ({"Content-Encoding": "gzip"} if data else {})
        request = Request(f"{self._url}{path}", data, headers)  # noqa: S310 - checked to be http or https
        wanted = 200 if body is None else 204
        try:
            with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
                status, content = response.status, response.read()
        except HTTPError as error:
            status, content = error.code, b""
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise StartError(f"{self._url} cannot be reached: {reason}; start it, or correct --url") from None
        if status != wanted:
            raise _AnsweredError(f"{self._url}{path} answered {status}; is that a VictoriaMetrics?")
        return bytes(content)


class _AnsweredError(StartError):
    """It is there, but did not do what was asked for."""


def _bodies(texts: Iterable[str]) -> Iterator[str]:
    """Put texts together to bodies that are not too small, and never much too large."""
    body: list[str] = []
    size = 0
    for text in texts:
        body.append(text)
        size += len(text)
        if size >= BODY:
            yield "".join(body)
            body, size = [], 0
    if body:
        yield "".join(body)


def _milliseconds(time: int) -> str:
    return f"{time}000"


def _shown(url: str) -> str:
    """Return an address without the password that it may hold."""
    return repr(re.sub(r"//[^/@]*@", "//...@", url[:100]))

"""A request's parameters, checked as the real API checks them, and its cursors."""

import base64
import binascii
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qs

from exporter.demo.organization import DAY, HOUR, MINUTE

WIDTHS = {"1m": MINUTE, "1h": HOUR, "1d": DAY}


class Refused(Exception):  # noqa: N818 - it is the API's answer, not a failure of ours
    """The API answers with an error; ``status`` decides on its type."""

    def __init__(self, status: int, message: str, *, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Cursor(NamedTuple):
    """Where a page begins, which page it is, and the query that it belongs to."""

    start: int
    number: int
    query: str

    def __str__(self) -> str:
        return "page_" + base64.urlsafe_b64encode(json.dumps(self).encode()).decode()

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a cursor that this API gave."""
        try:
            start, number, query = json.loads(base64.urlsafe_b64decode(text.removeprefix("page_")))
            return cls(int(start), int(number), str(query))
        except (binascii.Error, TypeError, ValueError):
            raise Refused(400, "page: Invalid page token") from None


class Query:
    """The parameters of one request."""

    def __init__(self, text: str) -> None:
        self.parameters: Mapping[str, list[str]] = parse_qs(text, keep_blank_values=True)

    def only(self, known: Iterable[str]) -> None:
        """Refuse parameters that the endpoint does not have."""
        unknown = sorted(set(self.parameters) - set(known))
        if unknown:
            raise Refused(400, f"{unknown[0]}: Extra inputs are not permitted")

    def many(self, name: str) -> list[str]:
        """Return the distinct values of a list parameter, in their order."""
        return list(dict.fromkeys(self.parameters.get(name, ())))

    def one(self, name: str) -> str | None:
        """Return the value of a plain parameter."""
        values = self.parameters.get(name)
        return values[-1] if values else None

    def word(self, name: str, allowed: Collection[str]) -> str | None:
        """Return the value of a parameter with a closed set of values."""
        value = self.one(name)
        if value is not None and value not in allowed:
            raise Refused(400, f"{name}: Input should be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool:
        """Return a parameter that is false when it is not given."""
        return self.word(name, ("true", "false")) == "true"

    def limit(self, default: int, most: int) -> int:
        """Return how much one page may hold."""
        text = self.one("limit") or str(default)
        if not text.isdecimal() or int(text) < 1:
            raise Refused(400, "limit: Input should be a valid integer greater than or equal to 1")
        if int(text) > most:
            raise Refused(400, f"limit: Input should be less than or equal to {most}")
        return int(text)

    def time(self, name: str) -> float | None:
        """Return an RFC 3339 time as Unix seconds."""
        text = self.one(name)
        if text is None:
            return None
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise Refused(400, f"{name}: Input should be a valid datetime") from None
        if time.tzinfo is None:
            raise Refused(400, f"{name}: Input should have timezone info")
        return time.timestamp()

    def required_time(self, name: str) -> float:
        """Return an RFC 3339 time that must be given."""
        time = self.time(name)
        if time is None:
            raise Refused(400, f"{name}: Field required")
        return time

    def group_by(self, known: Collection[str], most: int) -> list[str]:
        """Return the dimensions to tell results apart by."""
        dimensions = self.many("group_by[]")
        for dimension in dimensions:
            if dimension not in known:
                raise Refused(400, f"group_by: '{dimension}' is not one of {', '.join(known)}")
        if len(dimensions) > most:
            raise Refused(400, f"group_by: at most {most} dimensions are allowed")
        return dimensions

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to: every parameter but the page."""
        rest = sorted((name, values) for name, values in self.parameters.items() if name != "page")
        return blake2b(json.dumps(rest).encode(), digest_size=9).hexdigest()

    def cursor(self, start: int) -> Cursor:
        """Return where this request's page begins; ``start`` is the first page's."""
        text = self.one("page")
        if text is None:
            return Cursor(start, 0, self.fingerprint)
        cursor = Cursor.parse(text)
        if cursor.query != self.fingerprint:
            raise Refused(400, "page: Page token does not match the other parameters of the request")
        return cursor

    @property
    def page_number(self) -> int:
        """How many pages of this query came before, as far as its cursor tells."""
        text = self.one("page")
        if text is not None:
            return Cursor.parse(text).number
        return int(self.one("after_id") is not None)


def rfc3339(time: float) -> str:
    """Write Unix seconds as the API does."""
    return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Pages of reports as the domain's buckets, one bucket at a time: nothing else of a page is ever decoded at once.

A page's buckets are views into its body, so neither outlives the function that reads it. Decoding holds the
interpreter's lock; it is released between two buckets.
"""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from exporter.api.rows import Shelf, cost_bucket, usage_bucket
from exporter.api.wire import (
    UNREADABLE,
    CostItem,
    Following,
    KnownUsageItem,
    Page,
    UsageItem,
    WireBucket,
    unknown_figures,
)
from exporter.errors import BadResponseError
from exporter.model import Bucket, Number

T = TypeVar("T")
Body = bytes | bytearray

_known_usage = msgspec.json.Decoder(WireBucket[KnownUsageItem])


class Found(NamedTuple, Generic[Number]):
    """The buckets of a page, how many rows they had, and how to ask for the next page."""

    buckets: list[Bucket[Number]]
    rows: int
    following: Following | None


def decode(endpoint: str, body: Body | Raw, shape: type[T], where: str = "") -> T:
    """Return what a body, or the part of it at ``where``, says; raise ``BadResponseError`` for another shape."""
    try:
        return msgspec.json.decode(body, type=shape)
    except UNREADABLE as error:
        problem = str(error).replace("`$", f"`${where}", 1)
        raise BadResponseError(f"{endpoint}: the answer is not what the API promises: {problem}") from error


def usage_page(body: Body, shelf: Shelf, drift: Callable[[str, int], None]) -> Found[int]:
    """Read a page of usage; ``drift`` hears of figures that are new or missing, and in how many of its rows."""
    heard: Counter[str] = Counter()

    def missing(name: str) -> None:
        heard[name] += 1

    def wire_of(raw: Raw, where: str) -> WireBucket[Any]:
        try:
            return _known_usage.decode(raw)
        except UNREADABLE:
            wire = decode("usage", raw, WireBucket[UsageItem], where)
        heard.update(unknown_figures(decode("usage", raw, dict[str, Any], where)))
        return wire

    found = _page("usage", body, wire_of, lambda wire: usage_bucket(wire, shelf, missing))
    for name, rows in heard.items():
        drift(name, rows)
    return found


def cost_page(body: Body, shelf: Shelf) -> Found[Decimal]:
    """Read a page of cost."""

    def wire_of(raw: Raw, where: str) -> WireBucket[CostItem]:
        return decode("cost", raw, WireBucket[CostItem], where)

    return _page("cost", body, wire_of, lambda wire: cost_bucket(wire, shelf))


def _page(
    endpoint: str,
    body: Body,
    wire_of: Callable[[Raw, str], WireBucket[T]],
    bucket_of: Callable[[WireBucket[T]], Bucket[Number]],
) -> Found[Number]:
    page = decode(endpoint, body, Page)
    buckets, rows = [], 0
    for place, raw in enumerate(page.data):
        wire = wire_of(raw, f".data[{place}]")
        rows += len(wire.results)
        buckets.append(bucket_of(wire))
    return Found(buckets, rows, page.following)

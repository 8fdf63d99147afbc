"""From the wire's rows to the domain's buckets; pure.

Nulls become words here (the default workspace, the Console, or ``none``), and cents become dollars: nowhere else.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from operator import add, attrgetter
from typing import NamedTuple

from msgspec import UNSET

from exporter.api.wire import CacheCreation, CostItem, Count, ServerToolUse, UsageItem, WireBucket
from exporter.errors import BadResponseError
from exporter.families import (
    API_KEY_DIMENSIONS,
    API_KEY_TOKENS,
    API_KEY_TOOL_REQUESTS,
    BILLED,
    COST_LABELS,
    SERVER_TOOL_REQUESTS,
    TOKENS,
    USAGE_DIMENSIONS,
)
from exporter.model import CONSOLE, DEFAULT_WORKSPACE, NOT_APPLICABLE, Bucket, Labels, Number, Series, Window

BILL_TOKEN_TYPES = {
    "uncached_input_tokens": "uncached_input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_creation_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_creation_1h",
    "output_tokens": "output",
}
"""The bill's words for token types, and the ones that usage and cost metrics share."""

WITHOUT = {"api_key_id": CONSOLE, "workspace_id": DEFAULT_WORKSPACE}
"""The word for null in those dimensions where it means something."""

LINE_LABELS = ("description", "cost_type", "model", "token_type", "service_tier", "context_window", "inference_geo")
"""What a bill tells of its lines when it is grouped by description."""

CENTS = Decimal(100)
MOST_CENTS = 10**18
DIGITS = 100
"""Digits that dollars are counted with: sums of any real amounts are exact."""

Missing = Callable[[str], None]
Values = tuple[str | None, ...]
Counted = Mapping[Series, tuple[Number, ...]]


class Grouping(NamedTuple):
    """The dimensions that usage is told apart by, which are the labels too, and the families that count it then."""

    dimensions: tuple[str, ...]
    tokens: str
    requests: str

    @property
    def name(self) -> str:
        """What tells it apart from others."""
        return ",".join(self.dimensions)


USAGE = Grouping(USAGE_DIMENSIONS, TOKENS, SERVER_TOOL_REQUESTS)
API_KEY_USAGE = Grouping(API_KEY_DIMENSIONS, API_KEY_TOKENS, API_KEY_TOOL_REQUESTS)


def timestamp(text: str) -> int:
    """Return the Unix seconds of an RFC 3339 time; raise ``BadResponseError`` for anything else."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadResponseError(f"not a time: {text[:40]!r}") from None
    if time.tzinfo is None:
        raise BadResponseError(f"a time without its zone: {text[:40]!r}")
    return int(time.timestamp())


class Shelf:
    """The series of rows, by what the rows say in ``dimensions``: each is held once, however many rows are of it.

    ``series_of`` makes the series of a label set. ``turn`` begins a read, and what neither it nor the read before it
    has met is forgotten.
    """

    def __init__(self, dimensions: tuple[str, ...], series_of: Callable[[Labels], tuple[Series, ...]]) -> None:
        self._dimensions = dimensions
        self._values = _values_of(dimensions)
        self._series_of = series_of
        self._known: dict[Values, tuple[Series, ...]] = {}
        self._before: dict[Values, tuple[Series, ...]] = {}
        self._words: dict[str, str] = {}

    def turn(self) -> None:
        """Begin a read."""
        self._before, self._known, self._words = self._known, {}, {}

    def series(self, item: UsageItem | CostItem) -> tuple[Series, ...]:
        """Return the series that a row counts for."""
        values = self._values(item)
        if (known := self._known.get(values)) is None:
            known = self._known[values] = self._before.get(values) or self._series_of(self._labels(values))
        return known

    def _labels(self, values: Values) -> Labels:
        words = [
            value or WITHOUT.get(name, NOT_APPLICABLE) for name, value in zip(self._dimensions, values, strict=True)
        ]
        return tuple([self._words.setdefault(word, word) for word in words])


def usage_shelf(grouping: Grouping) -> Shelf:
    """Return an empty shelf for usage; ``grouping`` is what is asked for: the rows do not tell."""
    return Shelf(
        grouping.dimensions, lambda labels: (Series(grouping.tokens, labels), Series(grouping.requests, labels))
    )


def cost_shelf(dimensions: tuple[str, ...] = COST_LABELS) -> Shelf:
    """Return an empty shelf for cost."""
    return Shelf(dimensions, lambda labels: (_billed(dimensions, labels),))


def bill_labels(grouping: Iterable[str]) -> tuple[str, ...]:
    """Return what a bill tells when it is grouped by ``workspace_id``, ``description`` or both."""
    return tuple(label for name in grouping for label in (LINE_LABELS if name == "description" else (name,)))


def usage_bucket(wire: WireBucket[UsageItem], shelf: Shelf, missing: Missing) -> Bucket[int]:
    """Return the tokens and the server tool requests of one bucket; rows of equal labels are summed.

    ``missing`` hears of each figure that a row should have and has not; it counts as 0.
    """
    counts: dict[Series, tuple[int, ...]] = {}
    for item in wire.results:
        for series, figures in zip(shelf.series(item), (_tokens(item, missing), _requests(item, missing)), strict=True):
            if any(figures):
                _add(counts, series, figures)
    return Bucket(timestamp(wire.starting_at), counts)


def cost_bucket(wire: WireBucket[CostItem], shelf: Shelf) -> Bucket[Decimal]:
    """Return the dollars of one day; rows that the shelf does not tell apart are summed."""
    counts: dict[Series, tuple[Decimal, ...]] = {}
    with localcontext(prec=DIGITS):
        for item in wire.results:
            (series,) = shelf.series(item)
            _add(counts, series, (_dollars(item),))
    return Bucket(timestamp(wire.starting_at), counts)


def merged(window: Window, buckets: Iterable[Bucket[Number]]) -> list[Bucket[Number]]:
    """Return the buckets of ``window``, each once, oldest first; one that came twice counts its greater figures.

    Buckets outside the window are left out; one that is not aligned is an error.
    """
    found: dict[int, Mapping[Series, tuple[Number, ...]]] = {}
    for bucket in buckets:
        if bucket.start % window.width:
            raise BadResponseError(f"a bucket of {window.width} s begins at {bucket.start}, which is not aligned")
        if window.start <= bucket.start < window.end:
            known = found.get(bucket.start)
            found[bucket.start] = bucket.counts if known is None else _greater(known, bucket.counts)
    return [Bucket(start, found[start]) for start in sorted(found)]


def _dollars(item: CostItem) -> Decimal:
    if item.currency.upper() != "USD":
        raise BadResponseError(f"cost: amounts in {item.currency[:8]!r} instead of USD cannot be added")
    if not item.amount.is_finite() or not -MOST_CENTS < item.amount < MOST_CENTS:
        raise BadResponseError(f"cost: {str(item.amount)[:40]!r} is not an amount of money")
    return item.amount / CENTS


def _values_of(dimensions: tuple[str, ...]) -> Callable[[UsageItem | CostItem], Values]:
    # A getter of one name gives what it has, and no tuple.
    return attrgetter(*dimensions) if len(dimensions) > 1 else lambda item: tuple(getattr(item, d) for d in dimensions)


def _billed(dimensions: tuple[str, ...], labels: Labels) -> Series:
    words = dict(zip(dimensions, labels, strict=True))
    if "token_type" in words:
        words["token_type"] = BILL_TOKEN_TYPES.get(words["token_type"], words["token_type"])
    return Series(BILLED, tuple(words.values()))


def _greater(left: Counted[Number], right: Counted[Number]) -> Counted[Number]:
    both = {series: tuple(map(max, left[series], right[series])) for series in left.keys() & right.keys()}
    return {**left, **right, **both}


def _tokens(item: UsageItem, missing: Missing) -> tuple[int, ...]:
    """Return the figures in the order of ``TOKEN_TYPES``."""
    if item.cache_creation is UNSET:
        missing("cache_creation")
    writes = item.cache_creation or CacheCreation(0, 0)
    return (
        _figure(item.uncached_input_tokens, "uncached_input_tokens", missing),
        _figure(item.cache_read_input_tokens, "cache_read_input_tokens", missing),
        _figure(writes.ephemeral_5m_input_tokens, "cache_creation.ephemeral_5m_input_tokens", missing),
        _figure(writes.ephemeral_1h_input_tokens, "cache_creation.ephemeral_1h_input_tokens", missing),
        _figure(item.output_tokens, "output_tokens", missing),
    )


def _requests(item: UsageItem, missing: Missing) -> tuple[int, ...]:
    """Return the figures in the order of ``SERVER_TOOLS``."""
    if item.server_tool_use is UNSET:
        missing("server_tool_use")
    tools = item.server_tool_use or ServerToolUse(0)
    return (_figure(tools.web_search_requests, "server_tool_use.web_search_requests", missing),)


def _figure(value: Count, field: str, missing: Missing) -> int:
    if value is UNSET:
        missing(field)
        return 0
    return value or 0


def _add(counts: dict[Series, tuple[Number, ...]], series: Series, figures: tuple[Number, ...]) -> None:
    known: Mapping[Series, tuple[Number, ...]] = counts
    counts[series] = tuple(map(add, known[series], figures)) if series in known else figures

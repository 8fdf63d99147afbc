"""The usage report and the cost report."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from exporter.demo.organization import DAY, NO_TOKENS, CostLine, Dimensions, Organization, Tokens
from exporter.demo.query import WIDTHS, Cursor, Query, Refused, rfc3339

Json = dict[str, object]

_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
_MOST_DIMENSIONS = 5
_ALWAYS_NULL = ("account_id", "service_account_id", "speed")
_USAGE_DIMENSIONS = (*Dimensions._fields, *_ALWAYS_NULL)
_FILTERS = {
    "api_key_ids[]": "api_key_id",
    "workspace_ids[]": "workspace_id",
    "models[]": "model",
    "service_tiers[]": "service_tier",
    "context_window[]": "context_window",
    "inference_geos[]": "inference_geo",
    "account_ids[]": "account_id",
    "service_account_ids[]": "service_account_id",
}
_RANGE_PARAMETERS = ("starting_at", "ending_at", "bucket_width", "limit", "page", "group_by[]")
_EMPTY_RANGE = "Invalid date range: ending date must be after starting date"
_LINE_FIELDS = (
    "description",
    "cost_type",
    "model",
    "token_type",
    "context_window",
    "service_tier",
    "inference_geo",
)


class Page(NamedTuple):
    """An answer's body, and the cursor of the page that it is (None where there are no pages)."""

    body: Json
    here: str | None = None


class _Range(NamedTuple):
    width: int
    start: int
    end: int
    limit: int


def usage_report(organization: Organization, query: Query, now: float, page_buckets: Mapping[int, int]) -> Page:
    """Answer ``/usage_report/messages`` with what is known at ``now``."""
    query.only((*_RANGE_PARAMETERS, *_FILTERS))
    asked = _usage_range(query, now)
    grouped = query.group_by(_USAGE_DIMENSIONS, _MOST_DIMENSIONS)
    if "speed" in grouped:
        raise Refused(400, "group_by: 'speed' requires the anthropic-beta header fast-mode-2026-02-01")
    wanted = {field: set(query.many(name)) for name, field in _FILTERS.items() if query.many(name)}

    def read(start: int, end: int) -> dict[int, list[Json]]:
        known = organization.usage(asked.width, start, end, now)
        return {bucket: _usage_items(rows, grouped, wanted) for bucket, rows in known.items()}

    return _paged(query, asked, page_buckets, read)


def _usage_range(query: Query, now: float) -> _Range:
    word = query.word("bucket_width", tuple(WIDTHS)) or "1d"
    width = WIDTHS[word]
    limit = query.limit(*_LIMITS[word])
    starting, ending = query.required_time("starting_at"), query.time("ending_at")
    if ending is not None and ending <= starting:
        raise Refused(400, _EMPTY_RANGE)
    begun = _snap(now, width) + width
    end = begun if ending is None else min(begun, _snap(ending, width))
    return _Range(width, _snap(starting, width), end, limit)


def _usage_items(
    rows: Mapping[Dimensions, Tokens], grouped: Sequence[str], wanted: Mapping[str, set[str]]
) -> list[Json]:
    indexes = [Dimensions._fields.index(name) for name in grouped if name in Dimensions._fields]
    sums: dict[tuple[str | None, ...], Tokens] = {}
    for dimensions, tokens in rows.items():
        if all(getattr(dimensions, field, None) in values for field, values in wanted.items()):
            group = tuple(dimensions[index] for index in indexes)
            sums[group] = sums.get(group, NO_TOKENS).plus(tokens)
    names = [Dimensions._fields[index] for index in indexes]
    return [_usage_item(dict(zip(names, group, strict=True)), tokens) for group, tokens in sums.items()]


def _usage_item(known: Mapping[str, str | None], tokens: Tokens) -> Json:
    return {
        "uncached_input_tokens": tokens.uncached_input,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_creation_5m,
            "ephemeral_1h_input_tokens": tokens.cache_creation_1h,
        },
        "output_tokens": tokens.output,
        "server_tool_use": {"web_search_requests": tokens.web_search},
        "account_id": None,
        "service_account_id": None,
        **{name: known.get(name) for name in Dimensions._fields},
    }


def cost_report(organization: Organization, query: Query, now: float, page_buckets: Mapping[int, int]) -> Page:
    """Answer ``/cost_report``: finished UTC days only, empty until their bill is out."""
    query.only(_RANGE_PARAMETERS)
    query.word("bucket_width", ("1d",))
    grouped = query.group_by(("description", "workspace_id"), 2)
    limit = query.limit(*_LIMITS["1d"])
    start, today = _snap(query.required_time("starting_at"), DAY), _snap(now, DAY)
    ending = query.time("ending_at")
    end = today if ending is None else min(today, _snap(ending, DAY))
    if end <= start:
        raise Refused(400, _EMPTY_RANGE)

    def read(start: int, end: int) -> dict[int, list[Json]]:
        days = range(start, end, DAY)
        return {day: _cost_items(organization.cost(day, now) or (), grouped) for day in days}

    return _paged(query, _Range(DAY, start, end, limit), page_buckets, read)


def _cost_items(lines: Sequence[CostLine], grouped: Sequence[str]) -> list[Json]:
    shown = _LINE_FIELDS if "description" in grouped else ()
    if "workspace_id" in grouped:
        shown = (*shown, "workspace_id")
    sums: dict[tuple[str | None, ...], Decimal] = defaultdict(Decimal)
    for line in lines:
        sums[tuple(getattr(line, name) for name in shown)] += line.amount_cents
    return [
        {
            "currency": "USD",
            "amount": f"{amount:f}",
            **dict.fromkeys((*_LINE_FIELDS, "workspace_id")),
            **dict(zip(shown, group, strict=True)),
        }
        for group, amount in sums.items()
    ]


def _paged(
    query: Query,
    asked: _Range,
    page_buckets: Mapping[int, int],
    read: Callable[[int, int], Mapping[int, list[Json]]],
) -> Page:
    cursor = query.cursor(asked.start)
    buckets = min(asked.limit, page_buckets.get(asked.width, asked.limit))
    end = max(cursor.start, min(asked.end, cursor.start + buckets * asked.width))
    has_more = end < asked.end
    following = str(Cursor(end, cursor.number + 1, cursor.query)) if has_more else None
    results = read(cursor.start, end)
    data = [
        {
            "starting_at": rfc3339(start),
            "ending_at": rfc3339(start + asked.width),
            "results": results.get(start, []),
        }
        for start in range(cursor.start, end, asked.width)
    ]
    return Page({"data": data, "has_more": has_more, "next_page": following}, str(cursor))


def _snap(time: float, width: int) -> int:
    return int(time // width) * width

"""A report for machines: one JSON object.

Amounts of USD are strings of exact decimals, tokens and requests whole numbers, shares and changes numbers with 1 for
the whole; days are ISO dates in UTC, the last one included. USAGE stands for ``uncached_input``, ``cache_read``,
``cache_creation_5m``, ``cache_creation_1h``, ``output``, ``tokens`` (their sum), ``web_searches`` and
``cache_efficiency`` (null without input)::

    {"organization": {"id", "name"} or null, "as_of": time, "period": {"from", "to"}, "before": {"from", "to"},
     "filters": {name: [value]}, "total": {USAGE}, "days": [{"date", USAGE}],
     "cost": null if it cannot be read, else {
       "billed", "billed_days", "finished_days", "average" or null, "by_type": {cost type: USD},
       "month": {"month", "billed", "billed_days", "estimated", "estimated_days", "so_far",
                 "forecast": {"usd", "method", "daily", "days_left"}},
       "previous_month": {"month", "billed", "billed_days"},
       "budget": {"monthly", "used", "forecast"} or null},
     "models": [PART], "workspaces": [PART], "api_keys": [PART] or null,
     "movers": {"models": MOVES, "workspaces": MOVES, "api_keys": MOVES or null},
     "unpriced_tokens": {model: tokens that no estimate has}}

PART is ``{"id", "name", USAGE, "share" (of all tokens), "billed" (null for keys), "estimated", "before": {"tokens",
"estimated"}}``; one that was there before only has zeros. MOVES is ``{"unit": "usd" or "tokens", "moves": [{"id",
"name", "before", "now", "change", "ratio" (null for what is new)}]}``, the greatest change first.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from exporter.dates import day_of, rfc3339
from exporter.history.report.spending import METHOD, Cost, Month
from exporter.history.report.summary import About, Part, Summary, Used, moves
from exporter.model import DAY


def document(about: About, summary: Summary) -> Mapping[str, Any]:
    """Return the object."""
    organization, tokens = about.organization, summary.total.tokens
    return {
        "organization": organization and {"id": organization.id, "name": organization.name},
        "as_of": rfc3339(about.now),
        "period": _period(about.start, about.end),
        "before": _period(2 * about.start - about.end, about.start),
        "filters": {name: list(values) for name, values in about.filters.items()},
        "total": _usage(summary.total),
        "days": [{"date": day(start), **_usage(used)} for start, used in summary.days.items()],
        "cost": summary.cost and _cost(summary.cost, about.budget),
        **{kind: _each(about, parts, tokens) for kind, parts in summary.parts.items()},
        "movers": {kind: _moves(about, parts) for kind, parts in summary.parts.items()},
        "unpriced_tokens": dict(summary.unpriced),
    }


def day(time: int) -> str:
    """Return the UTC day that a Unix time lies in."""
    return day_of(time).isoformat()


def month(time: int) -> str:
    """Return the UTC month that a Unix time lies in."""
    return day(time)[:7]


def _period(start: int, end: int) -> Mapping[str, str]:
    return {"from": day(start), "to": day(end - DAY)}


def _usd(amount: Decimal) -> str:
    return f"{amount:f}"


def _usage(used: Used) -> Mapping[str, Any]:
    return {**used._asdict(), "tokens": used.tokens, "cache_efficiency": used.cache_efficiency}


def _cost(cost: Cost, budget: Decimal | None) -> Mapping[str, Any]:
    current = cost.month
    return {
        "billed": _usd(cost.billed),
        "billed_days": cost.billed_days,
        "finished_days": cost.finished,
        "average": None if cost.average is None else _usd(cost.average),
        "by_type": {cost_type: _usd(usd) for cost_type, usd in cost.by_type.items()},
        "month": {
            **_month(current),
            "estimated": _usd(current.estimated),
            "estimated_days": current.estimated_days,
            "so_far": _usd(current.so_far),
            "forecast": {
                "usd": _usd(cost.forecast),
                "method": METHOD,
                "daily": _usd(cost.daily),
                "days_left": float(cost.days_left),
            },
        },
        "previous_month": _month(cost.previous),
        "budget": {
            "monthly": _usd(budget),
            "used": float(current.so_far / budget),
            "forecast": float(cost.forecast / budget),
        }
        if budget
        else None,
    }


def _month(found: Month) -> Mapping[str, Any]:
    return {"month": month(found.start), "billed": _usd(found.billed), "billed_days": found.billed_days}


def _each(about: About, parts: Sequence[Part] | None, tokens: int) -> list[Mapping[str, Any]] | None:
    return None if parts is None else [_part(about, part, tokens) for part in parts]


def _part(about: About, part: Part, tokens: int) -> Mapping[str, Any]:
    return {
        "id": part.id,
        "name": about.name(part.id),
        **_usage(part.used),
        "share": part.used.tokens / tokens if tokens else None,
        "billed": None if part.billed is None else _usd(part.billed),
        "estimated": _usd(part.estimated),
        "before": {"tokens": part.before.tokens, "estimated": _usd(part.estimated_before)},
    }


def _moves(about: About, parts: Sequence[Part] | None) -> Mapping[str, Any] | None:
    if parts is None:
        return None
    unit, found = moves(parts)
    write = _usd if unit == "usd" else int
    return {
        "unit": unit,
        "moves": [
            {
                "id": move.id,
                "name": about.name(move.id),
                "before": write(move.before),
                "now": write(move.now),
                "change": write(move.change),
                "ratio": move.ratio,
            }
            for move in found
        ],
    }

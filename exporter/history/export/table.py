"""Usage and cost as the rows of a table; pure."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import add
from typing import Any, NamedTuple

from exporter.dates import day_of, rfc3339
from exporter.families import BILLED, SERVER_TOOL_REQUESTS, TOKEN_TYPES, TOKENS
from exporter.model import DAY, Bucket, Labels

Cell = str | int | Decimal
Row = tuple[Cell, ...]
Names = Mapping[str, Mapping[str, str]]
"""What ids are called, by dimension and id; one that is not there is called by its id."""

NAMED = {"workspace_id": "workspace_name", "api_key_id": "api_key_name"}
"""The columns that stand beside ids."""

_Counts = dict[str, tuple[Any, ...]]


class Figures(NamedTuple):
    """The last columns of a table, and what makes them of counts by family."""

    columns: tuple[str, ...]
    of: Callable[[_Counts], Row]


def _usage(counts: _Counts) -> Row:
    tokens = dict(zip(TOKEN_TYPES, counts.get(TOKENS, (0,) * len(TOKEN_TYPES)), strict=True))
    (web_searches,) = counts.get(SERVER_TOOL_REQUESTS, (0,))
    five_minutes, hour = tokens["cache_creation_5m"], tokens["cache_creation_1h"]
    caching = (five_minutes + hour, five_minutes, hour, tokens["cache_read"])
    return (tokens["uncached_input"], tokens["output"], *caching, web_searches)


def _cost(counts: _Counts) -> Row:
    return ("USD", *counts[BILLED])


USAGE = Figures(
    (
        "uncached_input_tokens",
        "output_tokens",
        "cache_creation_tokens",
        "cache_creation_5m_tokens",
        "cache_creation_1h_tokens",
        "cache_read_tokens",
        "web_search_requests",
    ),
    _usage,
)
COST = Figures(("currency", "amount_usd"), _cost)


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each bucket and what is told apart in it.

    ``read`` are the labels of the buckets, ``shown`` those that become columns. Of the labels in ``kept`` only these
    values count. What differs in other labels is summed.
    """

    figures: Figures
    read: tuple[str, ...]
    shown: tuple[str, ...]
    kept: Mapping[str, Collection[str]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; ids have their names beside them."""
        labels = (column for label in self.shown for column in (label, NAMED.get(label)) if column)
        return ("date", *labels, *self.figures.columns)

    def rows(self, bucket: Bucket[Any], width: int, names: Names) -> Iterator[Row]:
        """Yield the rows of a bucket of ``width`` seconds, by their labels."""
        date = _date(bucket.start, width)
        for labels, counts in sorted(self._sums(bucket).items()):
            yield (date, *self._cells(labels, names), *self.figures.of(counts))

    def _sums(self, bucket: Bucket[Any]) -> dict[Labels, _Counts]:
        shown = [self.read.index(label) for label in self.shown]
        kept = [(self.read.index(label), values) for label, values in self.kept.items()]
        sums: dict[Labels, _Counts] = {}
        for (family, labels), counts in bucket.counts.items():
            if all(labels[place] in values for place, values in kept):
                group = sums.setdefault(tuple([labels[place] for place in shown]), {})
                group[family] = tuple(map(add, group[family], counts)) if family in group else counts
        return sums

    def _cells(self, labels: Labels, names: Names) -> Iterator[str]:
        for label, value in zip(self.shown, labels, strict=True):
            yield value
            if label in NAMED:
                yield names[label].get(value, value)


def _date(start: int, width: int) -> str:
    return day_of(start).isoformat() if width == DAY else rfc3339(start)

"""The domain's values, and the words for them.

Glossary
    report      what a poll brings: usage, cost, names
    bucket      what the API counted in one minute, hour or UTC day
    window      the aligned range of buckets that one read asks for: all pages or nothing
    series      a metric family and its label values, in the catalogue's order
    counts      the figures of one series in one bucket, in the order of its family's last label
    register    the maximum of counts ever seen for a bucket
    anchor      the usage time at which the counters are 0
    boundary    a full minute of usage time: totals are exact there, and linear between two of them
    watermark   the usage time that the counters have reached
    settle      how old usage must be before it counts
    hold        how long a new series is shown as 0 before it grows
    snapshot    the one immutable value that a scrape reads
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, Literal, NamedTuple, TypeVar

MINUTE, HOUR, DAY = 60, 3600, 86400

Report = Literal["usage", "cost", "names"]
REPORTS: tuple[Report, ...] = ("usage", "cost", "names")

LOOKBACK = {MINUTE: 30 * MINUTE, HOUR: 48 * HOUR, DAY: 7 * DAY}
"""Seconds of finished time that each bucket width is regularly read again for (late data)."""

USAGE_DIMENSIONS = ("model", "workspace_id", "service_tier", "context_window", "inference_geo")
TOKEN_TYPES = ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")
SERVER_TOOLS = ("web_search",)

TOKENS = "anthropic_usage_tokens_total"
SERVER_TOOL_REQUESTS = "anthropic_usage_server_tool_requests_total"
BILLED = "anthropic_cost_usd_total"

DEFAULT_WORKSPACE = "default"
NOT_APPLICABLE = "none"

Number = TypeVar("Number", int, Decimal)
Labels = tuple[str, ...]


class Series(NamedTuple):
    """A family and its label values; the label that tells the counts apart is left out."""

    family: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Window:
    """Buckets of ``width`` seconds with ``start`` <= bucket start < ``end``; Unix seconds, aligned."""

    width: int
    start: int
    end: int

    @property
    def buckets(self) -> int:
        """How many buckets the window holds."""
        return (self.end - self.start) // self.width


@dataclass(frozen=True, slots=True)
class Bucket(Generic[Number]):
    """What the API says now of the bucket that begins at ``start`` (Unix seconds)."""

    start: int
    counts: Mapping[Series, tuple[Number, ...]]


@dataclass(frozen=True, slots=True)
class Organization:
    """The organisation that the key belongs to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace; ``state`` is ``active``, ``archived`` or ``unknown``."""

    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key; ``expires`` is Unix seconds, or None when it never does."""

    id: str
    name: str
    workspace_id: str
    status: str
    expires: float | None

"""The domain's values, and the words for them.

Glossary
    report      what a poll brings: usage, usage by API key, cost, names, rate limits
    bucket      what the API counted in one minute, hour or UTC day
    window      the aligned range of buckets that one read asks for: all pages or nothing
    series      a metric family and its label values, in the catalogue's order
    counts      the figures of one series in one bucket, in the order of its family's last label
    register    the maximum of counts ever seen for a bucket
    anchor      the usage time at which the counters are 0
    boundary    a full minute of usage time: totals are exact there, and linear between two of them
    watermark   the usage time that the counters have reached
    settle      how old usage must be before it counts
    hold        how long a new series is shown as 0, and a resumed one at its last value, before it grows
    reach       the usage time that what was served may have come to
    price key   what a unit price is for: model, tier, context window, geography, token type
    basis       where a price is from: an override, the organisation's own bill, or the price list
    estimate    tokens x the price in force at their usage time; made in minutes, and never made anew
    snapshot    the one immutable value that a scrape reads
"""

import decimal
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypeVar

decimal.DefaultContext.prec = 100
# Threads take their context from the default one, but this one may have its own already.
decimal.setcontext(decimal.DefaultContext)

MINUTE, HOUR, DAY = 60, 3600, 86400

Report = Literal["usage", "api_key_usage", "cost", "names", "limits"]
REPORTS: tuple[Report, ...] = ("usage", "api_key_usage", "cost", "names", "limits")

LOOKBACK = {MINUTE: 30 * MINUTE, HOUR: 48 * HOUR, DAY: 7 * DAY}
"""Seconds of finished time that each bucket width is regularly read again for (late data)."""

MOST_BUCKETS = {MINUTE: 1440, HOUR: 168, DAY: 31}
"""The API's largest ``limit`` by bucket width."""

DEFAULT_WORKSPACE = "default"
CONSOLE = "console"
PRIORITY = "priority"
"""The service tier that is paid for by commitment: never on a bill, so neither priced nor unpriced."""
OTHER = "other"
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

    def every(self, buckets: "Iterable[Bucket[int]]") -> "list[Bucket[int]]":
        """Return a bucket for every interval of the window: one that the API left out had no usage."""
        found = {bucket.start: bucket for bucket in buckets}
        return [found.get(start, Bucket(start, {})) for start in range(self.start, self.end, self.width)]


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


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far usage time has come: stands still ``grace`` seconds after the last complete poll."""

    polled: float
    grace: float
    settle: float
    floor: float

    def at(self, now: float) -> float:
        """Return the usage time, in Unix seconds, that counters have reached at ``now``."""
        return max(self.floor, min(now, self.polled + self.grace) - self.settle)

    @property
    def end(self) -> float:
        """The latest usage time that this watermark can reach."""
        return self.at(self.polled + self.grace)


Counts = tuple[Number, ...]
Line = tuple[tuple[Number, ...], ...]
"""The counts of one series at consecutive boundaries; one that stands still has a single knot."""
Shown = Callable[[Line[Number]], Counts[Number]]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by upper bound, the last one being infinity, and the sum of what was observed."""

    buckets: tuple[tuple[float, int], ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Reading(Generic[Number]):
    """All counters of one report, as lines that begin at ``boundary`` (Unix seconds)."""

    boundary: int
    watermark: Watermark
    lines: Mapping[Series, Line[Number]]
    late: Number
    overcounted: Number
    arrival: Histogram

    def at(self, now: float) -> Shown[Number]:
        """Return what tells, of each line, what it shows at ``now``."""
        return shown_at(self.boundary, self.watermark.at(now))


SPAN = MINUTE * 1000
"""Milliseconds from one boundary to the next."""

FINEST = Decimal("1e-15")
"""USD below which an amount between two boundaries is rounded down."""


def shown_at(boundary: int, usage_time: float) -> Shown[Number]:
    """Return what tells, of lines that begin at ``boundary``, what they show at a usage time.

    Between two knots a line is straight. Counts are rounded down, to whole tokens or to ``FINEST``. Usage time is cut
    to milliseconds before anything is subtracted from it, so that the same moment gives the same counts from any
    boundary.
    """
    elapsed = max(0, int(usage_time * 1000) - boundary * 1000)
    index, part = divmod(elapsed, SPAN)

    def counts(line: Line[Number]) -> Counts[Number]:
        return line[-1] if index >= len(line) - 1 else _between(line[index], line[index + 1], part)

    return counts


def _between(before: Counts[Number], after: Counts[Number], part: int) -> Counts[Number]:
    pairs = zip(before, after, strict=True)
    if isinstance(before[0], int):
        return tuple([earlier + (later - earlier) * part // SPAN for earlier, later in pairs])
    return tuple([earlier + _floor((later - earlier) * part / SPAN) for earlier, later in pairs])


def _floor(usd: Decimal) -> Decimal:
    return usd.quantize(FINEST, decimal.ROUND_FLOOR)


Amounts = Mapping[Labels, Decimal]


@dataclass(frozen=True, slots=True)
class BillReading:
    """What the bill says, in USD by cost labels: its newest finished day, and sums by UTC month ``(year, month)``."""

    last_day: int
    last_day_amounts: Amounts
    months: Mapping[tuple[int, int], Amounts]


class PriceKey(NamedTuple):
    """What a unit price is for, in the usage report's words."""

    model: str
    service_tier: str
    context_window: str
    inference_geo: str
    token_type: str


Basis = Literal["override", "billed", "list"]


class Price(NamedTuple):
    """USD for one token or request, and where that is from.

    ``since`` is the Unix time of the day from which a price that has changed is known to hold; 0 if none has.
    """

    usd: Decimal
    basis: Basis
    since: int = 0


@dataclass(frozen=True, slots=True)
class MoneyReading:
    """What usage costs in USD.

    ``prices`` are those in use. ``unbilled`` is the estimate for the days of ``month`` that have no bill, by the labels
    of estimates, or None while not all of it is known. ``ratio`` is a day's estimate, made in time, by its bill.
    """

    prices: Mapping[PriceKey, Price]
    request_prices: Mapping[str, Price]
    month: tuple[int, int]
    unbilled: Amounts | None
    ratio: Decimal | None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of each model group by name, and the ``(model, group)`` pairs that say what a group is for."""

    values: Mapping[tuple[str, str], int]
    models: Collection[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a month, in USD; by workspace id as well."""

    monthly: Decimal | None = None
    workspaces: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """What ids are called; None where the API has not told yet."""

    organization: Organization | None = None
    workspaces: tuple[Workspace, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape shows of the organisation; a part is missing until its first complete poll."""

    counters: Mapping[str, Reading[Any]] = field(default_factory=dict)
    """The odometers by what they count, see ``COUNTED``."""
    bill: BillReading | None = None
    money: MoneyReading | None = None
    limits: RateLimits | None = None
    budget: Budget = Budget()
    names: Names = Names()
    models: Mapping[str, str] = field(default_factory=dict)
    """The usage report's names of models that the bill calls otherwise."""


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One request as seen from here; ``code`` is the HTTP status, or ``none`` when no answer came."""

    endpoint: str
    code: str
    seconds: float
    clock_skew: float | None
    """Seconds that this host is ahead of the API's ``Date`` header; None without one."""
    organization_id: str | None = None
    """Whose data it is, where a good answer says so."""


@dataclass(frozen=True, slots=True)
class PollOutcome:
    """How an attempt at a poll went: ``reason`` is None when nothing failed, else why, in a word and in a sentence.

    A poll that has not ``ended`` goes on in ``retry_in`` seconds; one that has must not begin again before them.
    """

    report: Report
    started: float
    seconds: float
    reason: str | None = None
    message: str = ""
    ended: bool = True
    retry_in: float | None = None

"""Snapshots as OpenMetrics text with timestamps: family by family, series by series, as the standard orders them.

It is what ``promtool tsdb create-blocks-from openmetrics`` and VictoriaMetrics' import API read. Snapshots come time by
time, so their samples are kept in a scratch file in between: memory holds a page of them only.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import nan
from os import SEEK_END
from typing import Any, BinaryIO, NamedTuple

from exporter.families import FAMILIES
from exporter.model import Labels, MoneyReading, Snapshot
from exporter.money.bill import month_of

END = "# EOF\n"
"""How a text ends."""

PAGE = 288
"""Snapshots that are held in memory: a day of them."""

Sample = tuple[Labels, int | float | Decimal]
Samples = Callable[[Snapshot, float], Mapping[str, Iterable[Sample]]]
"""Tells the samples that a snapshot has at a Unix time, by family."""

MOVING = (
    *(family for name, families in FAMILIES.items() if name != "cost" for family in families),
    "anthropic_usage_watermark_timestamp_seconds",
    "anthropic_cost_unbilled_estimate_usd",
)
"""The families that change with time; the others change with the bill, the prices and the names only."""

Key = tuple[str, Labels]


class Family(NamedTuple):
    """What is said of a family before its samples, and the names of its labels."""

    type: str
    help: str
    labels: Sequence[str]


class _Page(NamedTuple):
    """Where the scratch file has, one after the other, the values of the first ``series`` series at ``times``."""

    offset: int
    series: int
    times: list[int]


class Sheet:
    """The samples of snapshots over time; ``samples`` tells them, and every series gets the labels ``constant``, too.

    ``scratch`` is a file that can be read and written; whoever opened it closes it.
    """

    def __init__(
        self, samples: Samples, families: Mapping[str, Family], constant: Mapping[str, str], scratch: BinaryIO
    ) -> None:
        self._samples = samples
        self._families = families
        self._constant = constant
        self._scratch = scratch
        self._places: dict[Key, int] = {}
        self._pages: list[_Page] = []
        self._times: list[int] = []
        self._columns: dict[Key, array[float]] = {}
        self._still: tuple[Any, ...] = ()
        self._block: dict[Key, float] = {}
        self._block_since = 0

    def add(self, snapshot: Snapshot, time: int) -> None:
        """Take in a snapshot; ``time`` (Unix seconds) is after that of the one before."""
        still = _still(snapshot, time)
        if still != self._still:
            self._stand()
            self._block = dict(self._found(snapshot, time, moving=False))
        self._still = still
        for key, value in self._found(_moving(snapshot), time, moving=True):
            self._column(key, len(self._times)).append(value)
        self._times.append(time)
        if len(self._times) == PAGE:
            self._turn()

    def text(self, stamp: Callable[[int], str] = str) -> Iterator[str]:
        """Yield the text but for its end, some lines at a time; ``stamp`` writes a time (Unix seconds)."""
        self._turn()
        stamps = [[stamp(time) for time in page.times] for page in self._pages]
        family = ""
        for key, place in sorted(self._places.items()):
            if key[0] != family:
                family = key[0]
                yield _head(family, self._families[family])
            labels = dict(zip(self._families[family].labels, key[1], strict=True))
            name = series(family, {**labels, **self._constant})
            for page, times in zip(self._pages, stamps, strict=True):
                if place < page.series:
                    yield _lines(name, self._read(page, place), times)

    def _found(self, snapshot: Snapshot, time: int, *, moving: bool) -> Iterator[tuple[Key, float]]:
        for name, found in self._samples(snapshot, time).items():
            if (name in MOVING) == moving:
                for labels, value in found:
                    yield (name, labels), float(value)

    def _column(self, key: Key, index: int) -> "array[float]":
        """Return the values of a series, up to the one before ``index``; where there was none is NaN."""
        if key not in self._columns:
            self._columns[key] = array("d")
            self._places.setdefault(key, len(self._places))
        values = self._columns[key]
        if (missing := index - len(values)) > 0:
            values.extend([nan] * missing)
        return values

    def _stand(self) -> None:
        """Write down what has not changed since it was looked at."""
        times, since = len(self._times), self._block_since
        for key, value in self._block.items() if times > since else ():
            self._column(key, since).extend([value] * (times - since))
        self._block_since = times

    def _turn(self) -> None:
        """Put the page into the scratch file, and begin a new one."""
        self._stand()
        self._pages.append(_Page(self._scratch.seek(0, SEEK_END), len(self._places), self._times))
        for key in self._places:
            self._scratch.write(self._column(key, len(self._times)).tobytes())
        self._times, self._columns, self._block_since = [], {}, 0

    def _read(self, page: _Page, place: int) -> "array[float]":
        values = array("d")
        size = len(page.times) * values.itemsize
        self._scratch.seek(page.offset + place * size)
        values.frombytes(self._scratch.read(size))
        return values


def _lines(name: str, values: "array[float]", times: Sequence[str]) -> str:
    """Return the lines of a series; where there was no sample there is none: only NaN differs from itself."""
    first = values[0] if values else nan
    if first == first and values == array("d", [first]) * len(values):  # noqa: PLR0124
        # Many series stand still for a day: the value is written once.
        return "".join([f"{name} {first} ", f"\n{name} {first} ".join(times), "\n"])
    pairs = zip(times, values, strict=True)
    return "".join([f"{name} {value} {time}\n" for time, value in pairs if value == value])  # noqa: PLR0124


def series(name: str, labels: Mapping[str, str]) -> str:
    """Return a series as it is written, with what labels must not hold escaped."""
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _head(name: str, family: Family) -> str:
    base = name.removesuffix("_total") if family.type == "counter" else name
    return f"# HELP {base} {_escaped(family.help)}\n# TYPE {base} {family.type}\n"


def _still(snapshot: Snapshot, time: int) -> tuple[Any, ...]:
    """Return what the samples outside of ``MOVING`` come from; most of it stays the same object: compared at once."""
    money, cost = snapshot.money, snapshot.counters.get("cost")
    return (
        month_of(time),
        snapshot.bill,
        cost and cost.lines,
        money and (money.prices, money.request_prices, money.ratio),
        snapshot.limits,
        snapshot.budget,
        snapshot.names,
        snapshot.models,
    )


def _moving(snapshot: Snapshot) -> Snapshot:
    money = snapshot.money
    return Snapshot(
        {name: reading for name, reading in snapshot.counters.items() if name != "cost"},
        money=money and MoneyReading({}, {}, money.month, money.unbilled, None),
    )

"""Snapshots as OpenMetrics text with timestamps, as ``promtool tsdb create-blocks-from openmetrics`` reads it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from exporter.families import FAMILIES
from exporter.model import Labels, MoneyReading, Snapshot
from exporter.money.bill import month_of

END = "# EOF\n"
"""How a text ends."""

Sample = tuple[Labels, int | float | Decimal]
Samples = Callable[[Snapshot, float], Mapping[str, Iterable[Sample]]]
"""Tells the samples that a snapshot has at a Unix time, by family."""

MOVING = (
    *(family for name, families in FAMILIES.items() if name != "cost" for family in families),
    "anthropic_usage_watermark_timestamp_seconds",
    "anthropic_cost_unbilled_estimate_usd",
)
"""The families that change with time; the others change with the bill, the prices and the names only."""

_TIME = "\0"


class OpenMetrics:
    """Writes snapshots; ``labels`` are the names of a family's labels, and every series has ``constant`` ones, too.

    What does not change from one snapshot to the next is formatted once.
    """

    def __init__(self, samples: Samples, labels: Mapping[str, Sequence[str]], constant: Mapping[str, str]) -> None:
        self._samples = samples
        self._labels = labels
        self._constant = constant
        self._series: dict[tuple[str, Labels], str] = {}
        self._still: tuple[Any, ...] = ()
        self._block = ""

    def text(self, snapshot: Snapshot, time: int) -> str:
        """Return the samples of a snapshot at ``time`` (Unix seconds), a line each."""
        still = _still(snapshot, time)
        if still != self._still:
            found = self._samples(snapshot, time).items()
            self._block = self._lines({name: samples for name, samples in found if name not in MOVING}, _TIME)
        self._still = still
        found = self._samples(_moving(snapshot), time).items()
        moving = self._lines({name: samples for name, samples in found if name in MOVING}, str(time))
        return moving + self._block.replace(_TIME, str(time))

    def _lines(self, samples: Mapping[str, Iterable[Sample]], time: str) -> str:
        series = self._name
        return "".join(
            [
                f"{series(name, labels)} {float(value)} {time}\n"
                for name, found in samples.items()
                for labels, value in found
            ]
        )

    def _name(self, name: str, values: Labels) -> str:
        """Return a series as it is written."""
        known = self._series.get((name, values))
        if known is None:
            labels = {**dict(zip(self._labels[name], values, strict=True)), **self._constant}
            known = self._series[name, values] = series(name, labels)
        return known


def series(name: str, labels: Mapping[str, str]) -> str:
    """Return a series as it is written, with what labels must not hold escaped."""
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


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

"""What is kept of a ledger, so that it can go on where it stopped: all of it when loaded, what changed when saved."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Generic

from exporter.model import Counts, Number, Reading, Series

Key = tuple[int, int, Series]
"""A register: bucket width, bucket start (Unix seconds), series."""


@dataclass(frozen=True, slots=True)
class Facts(Generic[Number]):
    """What the registers cannot tell of themselves; times are Unix seconds. ``excess`` is by bucket width and start."""

    anchor: int
    boundary: int
    open_from: int
    late: Number
    frozen_excess: Number
    excess: Mapping[tuple[int, int], Number]
    final: Collection[int]


@dataclass(frozen=True, slots=True)
class SeriesRecord(Generic[Number]):
    """One series: the sum of its frozen days, the value at which it stands still, and the day of its last growth.

    ``held`` is None for a series that follows the watermark: it may have been served up to its value at ``reach``.
    """

    base: Counts[Number]
    held: Counts[Number] | None
    grown: int


@dataclass(frozen=True, slots=True)
class Record(Generic[Number]):
    """A ledger, or what changed of it: a register that is None was forgotten.

    ``reach`` is the latest usage time that may have been served, or None before the first complete poll.
    ``reaches_back`` says whether the series of that poll appear at their full value. ``folded`` are label sets that
    came after the family was full.
    """

    facts: Facts[Number]
    reach: float | None
    reaches_back: bool
    series: Mapping[Series, SeriesRecord[Number]]
    registers: Mapping[Key, Counts[Number] | None]
    folded: Collection[Series]


@dataclass(frozen=True, slots=True)
class Standstill(Generic[Number]):
    """What was really served last before a clean stop: the watermark, and the value of each series."""

    watermark: float
    values: Mapping[Series, Counts[Number]]

    @classmethod
    def at(cls, reading: Reading[Number], now: float) -> "Standstill[Number]":
        """Return what ``reading`` showed at ``now`` (Unix seconds)."""
        shown = reading.at(now)
        return cls(reading.watermark.at(now), {series: shown(line) for series, line in reading.lines.items()})

"""Sums of buckets, read at times that only go forward, against sums that are made anew each time."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history.backfill.sums import RunningSums
from exporter.model import FINEST, Bucket, Series

A, B, C = (Series("tokens", (name,)) for name in "abc")
START = 1_000_000
Counts = tuple[Any, ...]
Plan = tuple[list[Bucket[Any]], int]


def plans(number: st.SearchStrategy[Any]) -> st.SearchStrategy[Plan]:
    """Return buckets that follow each other, and where the last one ends."""
    counts = st.dictionaries(st.sampled_from([A, B, C]), st.tuples(number, number), max_size=3)

    def chained(lengths: list[tuple[int, dict[Series, Counts]]]) -> Plan:
        buckets, end = [], START
        for length, found in lengths:
            buckets.append(Bucket(end, found))
            end += length
        return buckets, end

    return st.lists(st.tuples(st.integers(1, 7200), counts), min_size=1, max_size=6).map(chained)


def sums(plan: Plan, time: int, share: Callable[[Any, Fraction], Any]) -> dict[Series, Counts]:
    """Return the sums up to a time."""
    buckets, until = plan
    found: dict[Series, Counts] = {series: (0, 0) for bucket in buckets for series in bucket.counts}
    for bucket, end in zip(buckets, [*(bucket.start for bucket in buckets[1:]), until], strict=True):
        part = min(max(Fraction(time - bucket.start, end - bucket.start), Fraction(0)), Fraction(1))
        for series, (left, right) in bucket.counts.items():
            before = found[series]
            found[series] = (before[0] + share(left, part), before[1] + share(right, part))
    return found


def whole_tokens(count: int, part: Fraction) -> int:
    return floor(count * part)


def whole_digits(usd: Decimal, part: Fraction) -> Decimal:
    """Round down to the finest digit that dollars have, but for a bucket that is over."""
    if part == 1:
        return usd
    return Decimal(floor(Fraction(usd) * part / Fraction(FINEST))) * FINEST


TOKENS = st.integers(0, 10**12)
USD = st.decimals(0, 10**6, allow_nan=False, places=9)


@pytest.mark.parametrize(("number", "share"), [(TOKENS, whole_tokens), (USD, whole_digits)])
def test_runningare_straight_lines_within_buckets(number: st.SearchStrategy[Any], share: Callable[..., Any]) -> None:
    @given(plan=plans(number), offsets=st.lists(st.integers(-100, 50_000), max_size=12), cut=st.integers(0, 6))
    def check(plan: Plan, offsets: list[int], cut: int) -> None:
        running, (buckets, until) = RunningSums[Any](), plan
        first, rest = buckets[:cut], buckets[cut:]
        seam = rest[0].start if rest else until
        if first:
            running.extend(first, seam)
        known: Sequence[int] = sorted(START + offset for offset in offsets)
        seen = {series: counts for bucket in first for series, counts in bucket.counts.items()}
        for time in [time for time in known if first and time <= seam]:
            assert running.at(time) == {series: sums(plan, time, share)[series] for series in seen}
        if first:
            assert running.at(seam) == {series: sums(plan, seam, share)[series] for series in seen}
        if rest:
            running.extend(rest, until)
        for time in [time for time in known if time > (rest[0].start if rest else until)]:
            assert running.at(time) == sums(plan, time, share)
        assert running.at(until) == sums(plan, until, share)

    check()


@given(plan=plans(TOKENS), zero=st.integers(0, 45_000), steps=st.lists(st.integers(0, 5000), min_size=1, max_size=8))
def test_from_where_they_are_zero_runningare_what_came_since(plan: Plan, zero: int, steps: list[int]) -> None:
    running = RunningSums[int]()
    running.extend(*plan)
    time = START + zero
    running.zero(time)
    before = sums(plan, time, whole_tokens)
    assert set(running.at(time).values()) <= {(0, 0)}
    shown = []
    for step in steps:
        time += step
        shown.append(running.at(time))
        after = sums(plan, time, whole_tokens)
        assert shown[-1] == {series: (counts[0] - before[series][0], counts[1] - before[series][1])
                             for series, counts in after.items()}  # fmt: skip
    assert all(a[series] <= b[series] for a, b in pairwise(shown) for series in a)


def test_a_series_is_there_at_zero_before_it_grows() -> None:
    running = RunningSums[int]()
    running.extend([Bucket(0, {A: (10, 0)}), Bucket(10, {})], 20)
    assert running.at(0) == {A: (0, 0)}
    assert running.at(15) == {A: (10, 0)}
    running.extend([Bucket(20, {}), Bucket(30, {B: (4, 2)})], 40)
    assert running.at(20) == {A: (10, 0), B: (0, 0)}
    assert running.at(35) == {A: (10, 0), B: (2, 1)}
    assert running.at(40) == {A: (10, 0), B: (4, 2)}


def test_a_series_that_comes_after_zero_begins_there() -> None:
    running = RunningSums[int]()
    running.extend([Bucket(0, {A: (10,)})], 10)
    running.zero(5)
    running.extend([Bucket(10, {B: (3,)})], 20)
    assert running.at(5) == {A: (0,), B: (0,)}
    assert running.at(20) == {A: (5,), B: (3,)}

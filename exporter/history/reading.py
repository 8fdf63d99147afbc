"""Reads what the API tells of the past, in one go."""

from collections.abc import Callable, Iterable
from itertools import repeat
from operator import add

from exporter.api.admin import AdminApi
from exporter.history.past import Past, Records
from exporter.model import DAY, HOUR, MINUTE, Bucket, Budget, Names, Series, Window
from exporter.money.bill import first_day_needed
from exporter.money.money import Money

UsageReport = Callable[[Window], Iterable[Bucket[int]]]


def read_past(
    api: AdminApi, money: Money, *, start: int, anchor: int, now: int, settle: int = 5 * MINUTE, budget: Budget
) -> Past:
    """Return the past from ``start``, when its counters are 0, to ``anchor``, the usage time at which live ones are.

    ``money`` is new, and ``anchor`` a full minute; ``now`` is the API's time. Raises what the API's reads raise.
    """
    today = now - now % DAY
    bills = api.cost(Window(DAY, first_day_needed(start, 0), today))
    money.take_bill(bills)
    begin, hour = start - settle, anchor - anchor % HOUR
    begin -= begin % DAY
    for window in (Window(DAY, begin, today), Window(HOUR, today, hour)):
        money.take_usage(window, window.every(api.usage(window)), now)
    money.complete()
    workspaces, default_id = api.workspaces()
    names = Names(api.organization(), workspaces, api.api_keys(workspaces, default_id))
    hours, minutes = Window(HOUR, begin, hour), Window(MINUTE, hour, anchor)
    usage, api_key_usage = (_hours(report, hours, minutes) for report in (api.usage, api.api_key_usage))
    records = Records(usage, api_key_usage, anchor, bills, names, api.rate_limits(), budget)
    return Past(records, money, start, settle=settle)


def _hours(report: UsageReport, hours: Window, minutes: Window) -> list[Bucket[int]]:
    """Return usage by the hour, and as the last one the hour that is not over."""
    counts: dict[Series, tuple[int, ...]] = {}
    for minute in report(minutes) if minutes.buckets else ():
        counts |= {name: tuple(map(add, counts.get(name, repeat(0)), grown)) for name, grown in minute.counts.items()}
    return [*hours.every(report(hours)), Bucket(minutes.start, counts)]

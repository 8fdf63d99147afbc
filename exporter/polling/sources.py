"""The reports: what is read, and who takes it in."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from math import inf

from exporter.ledger.ledger import Ledger
from exporter.model import DAY, ApiKey, Bucket, Names, Organization, RateLimits, Report, Window, Workspace
from exporter.money.bill import first_day_needed
from exporter.polling.poll import Source, Step
from exporter.polling.windows import Days, Tiers

COST_REVISION = 35 * DAY
USAGE_REVISION = 7 * DAY

Take = Callable[[Window, list[Bucket[int]], float], None]
"""Takes in a window, with a bucket for each of its intervals, that was read at a Unix time."""


class Feed:
    """Usage that is read in ``tiers``, at most every ``pace`` seconds, and taken in by ``take``."""

    def __init__(
        self, read: Callable[[Window], list[Bucket[int]]], tiers: Tiers, take: Take, *, pace: float = 0.0
    ) -> None:
        self._read = read
        self._tiers = tiers
        self._take = take
        self._pace = pace
        self._is_due = True
        self._complete = -inf

    def steps(self, now: float, clock: Callable[[], float]) -> list[Step]:
        """Return the reads that are due."""
        self._is_due = not 0 <= now - self._complete < self._pace
        return [partial(self._step, window, clock) for window in self._tiers.due(now)] if self._is_due else []

    def complete(self, polled: float) -> None:
        """Note that a poll that began at ``polled`` has made all these reads."""
        if self._is_due:
            self._complete = polled
            self._tiers.complete(polled)

    def _step(self, window: Window, clock: Callable[[], float]) -> None:
        self._take(window, window.every(self._read(window)), clock())
        self._tiers.done(window)


def usage_source(
    report: Report,
    feeds: Sequence[Feed],
    *,
    begin: Callable[[], None],
    complete: Callable[[float], None],
    clock: Callable[[], float],
) -> Source:
    """Read minutes, hours and days; ``complete`` hears when the poll began that has read all that was due.

    ``begin`` is called before anything is planned.
    """

    def steps(_now: float) -> list[Step]:
        begin()
        now = clock()
        return [step for feed in feeds for step in feed.steps(now, clock)]

    def completed(polled: float) -> None:
        for feed in feeds:
            feed.complete(polled)
        complete(polled)

    return Source(report, steps, completed)


def cost_source(
    read: Callable[[Window], list[Bucket[Decimal]]],
    ledger: Ledger[Decimal],
    take_bill: Callable[[list[Bucket[Decimal]]], None],
    days: Days,
    *,
    begin: Callable[[], None],
    clock: Callable[[], float],
    served: Callable[[], float],
) -> Source:
    """Read finished days into ``take_bill`` and the billed counters; ``begin`` is called before anything is planned.

    The range always holds finished days, on the first of a month too: the API refuses an empty one. It goes back to
    what the gauges need and, after an outage, to the first day that may have changed since it was read.
    """

    def take(window: Window) -> None:
        found = read(window)
        now = clock()
        take_bill(found)
        ledger.observe(window, found, now)
        days.done(window, now)

    def steps(now: float) -> list[Step]:
        begin()
        return [partial(take, window) for window in days.due(first_day_needed(now, COST_REVISION), now)]

    return Source("cost", steps, lambda polled: ledger.complete(polled, served()))


def names_source(
    organization: Callable[[], Organization],
    workspaces: Callable[[], tuple[tuple[Workspace, ...], str | None]],
    api_keys: Callable[[tuple[Workspace, ...], str | None], tuple[ApiKey, ...]],
    keep: Callable[[Callable[[Names], Names]], None],
) -> Source:
    """Read what ids are called; a list that cannot be read keeps its last names and does not hide the others."""
    known: tuple[tuple[Workspace, ...], str | None] = ((), None)

    def take_organization() -> None:
        found = organization()
        keep(lambda names: replace(names, organization=found))

    def take_workspaces() -> None:
        nonlocal known
        known = workspaces()
        keep(lambda names: replace(names, workspaces=known[0]))

    def take_api_keys() -> None:
        found = api_keys(*known)
        keep(lambda names: replace(names, api_keys=found))

    steps = [take_organization, take_workspaces, take_api_keys]
    return Source("names", lambda _now: steps, lambda _polled: None, independent=True)


def limits_source(read: Callable[[], RateLimits], keep: Callable[[RateLimits], None]) -> Source:
    """Read the rate limits."""
    return Source("limits", lambda _now: [lambda: keep(read())], lambda _polled: None)

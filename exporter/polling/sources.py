"""The three reports: what is read, and into what it is merged."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from exporter.ledger.ledger import Ledger
from exporter.model import DAY, ApiKey, Bucket, Names, Organization, Window, Workspace
from exporter.money.bill import Bill, first_day_needed
from exporter.polling.poll import Source, Step
from exporter.polling.windows import Days, Tiers, every

COST_REVISION = 35 * DAY
USAGE_REVISION = 7 * DAY


def usage_source(
    read: Callable[[Window], list[Bucket[int]]],
    ledger: Ledger[int],
    tiers: Tiers,
    *,
    begin: Callable[[], None],
    clock: Callable[[], float],
    served: Callable[[], float],
) -> Source:
    """Read minutes, hours and days into the ledger; its watermark follows when all that was due is read.

    ``begin`` is called before anything is planned. ``served`` is the clock that scrapes see: as ``clock``, but never
    set back.
    """

    def take(window: Window) -> None:
        ledger.observe(window, every(window, read(window)), clock())
        tiers.done(window)

    def steps(_now: float) -> list[Step]:
        begin()
        return [partial(take, window) for window in tiers.due(clock())]

    def complete(polled: float) -> None:
        tiers.complete(polled)
        ledger.complete(polled, served())

    return Source("usage", steps, complete)


def cost_source(
    read: Callable[[Window], list[Bucket[Decimal]]],
    ledger: Ledger[Decimal],
    bill: Bill,
    days: Days,
    *,
    begin: Callable[[], None],
    clock: Callable[[], float],
    served: Callable[[], float],
) -> Source:
    """Read finished days into the bill and the billed counters; ``begin`` is called before anything is planned.

    The range always holds finished days, on the first of a month too: the API refuses an empty one. It goes back to
    what the gauges need and, after an outage, to the first day that may have changed since it was read.
    """

    def take(window: Window) -> None:
        found = read(window)
        now = clock()
        bill.observe(found)
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

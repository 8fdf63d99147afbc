"""The three reports: what is read, and into what it is merged."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from exporter.ledger.ledger import Ledger
from exporter.model import DAY, ApiKey, Bucket, Names, Organization, Window, Workspace
from exporter.money.bill import Bill, since
from exporter.polling.poll import Source, Step
from exporter.polling.windows import Tiers, every, floor, split

COST_REVISION = 35 * DAY
USAGE_REVISION = 7 * DAY


def usage_source(
    read: Callable[[Window], list[Bucket[int]]],
    ledger: Ledger[int],
    tiers: Tiers,
    *,
    clock: Callable[[], float],
    served: Callable[[], float],
) -> Source:
    """Read minutes, hours and days into the ledger; its watermark follows when all that was due is read.

    ``served`` is the clock that scrapes see: as ``clock``, but never set back.
    """

    def take(window: Window) -> None:
        ledger.observe(window, every(window, read(window)), clock())
        tiers.done(window)

    def steps(now: float) -> list[Step]:
        return [partial(take, window) for window in tiers.due(now)]

    def complete(planned: float) -> None:
        # Before the first answer the host's clock is all there is; by now the API's is known.
        polled = min(planned, clock())
        tiers.complete(polled)
        ledger.complete(polled, served())

    return Source("usage", steps, complete)


def cost_source(
    read: Callable[[Window], list[Bucket[Decimal]]],
    ledger: Ledger[Decimal],
    bill: Bill,
    history_from: int | None,
    *,
    served: Callable[[], float],
) -> Source:
    """Read finished days into the bill and the billed counters, once from the day of ``history_from`` on.

    The range always holds finished days, on the first of a month too: the API refuses an empty one.
    """
    history: list[Window] | None = None

    def take(window: Window, now: float) -> None:
        days = read(window)
        bill.observe(days)
        ledger.observe(window, days, now)
        if history and window in history:
            history.remove(window)

    def steps(now: float) -> list[Step]:
        nonlocal history
        start = since(now, COST_REVISION)
        if history is None:
            history = [] if history_from is None else split(DAY, floor(history_from, DAY), start)
        return [partial(take, window, now) for window in [*history, *split(DAY, start, floor(now, DAY))]]

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

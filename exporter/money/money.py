"""All that is known of money: the bill, what usage costs by the newest prices, and how well that meets the bill."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from exporter.families import ESTIMATE_LABELS, ESTIMATED, SERVER_TOOLS, TOKEN_TYPES
from exporter.model import (
    DAY,
    HOUR,
    MINUTE,
    PRIORITY,
    Amounts,
    Bucket,
    Labels,
    MoneyReading,
    Price,
    PriceKey,
    Series,
    Window,
)
from exporter.money.bill import Bill, month_of, month_start
from exporter.money.estimates import Costs, Counts, News, by_api_key, by_workspace
from exporter.money.learning import COST_TYPE, Day, undated
from exporter.money.pricelist import PriceList
from exporter.money.prices import Prices
from exporter.money.reconciliation import Reconciliation, Verdict
from exporter.money.table import Rows, UsageTable

Estimates = Mapping[Series, tuple[Decimal, ...]]
Estimated = Callable[[int], Estimates]
"""Tells what the counters have of a day (Unix seconds)."""

JUST_ENDED = 3 * HOUR
"""Seconds after its end within which a day's estimate is in time, however fast its bill is."""
LATEST_BILL = 5 * DAY
"""Seconds after which an estimate does not wait for a bill any more."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What usage is narrowed down to; an empty collection holds everything."""

    workspace_ids: Collection[str] = ()
    models: Collection[str] = ()
    service_tiers: Collection[str] = ()

    def tell(self, cost_type: str) -> bool:
        """Tell whether it can be known what is inside: the bill has neither model nor tier for a server tool."""
        return cost_type not in SERVER_TOOLS or not (self.models or self.service_tiers)

    def told(self, estimates: Estimates) -> Estimates:
        """Return the estimates of the inside that can be compared with the bill."""
        place = ESTIMATE_LABELS.index("cost_type")
        return {
            series: usd
            for series, usd in estimates.items()
            if series.family != ESTIMATED or self.tell(series.labels[place])
        }

    def hold(self, labels: Labels, models: Mapping[str, str]) -> bool:
        """Tell whether a line of the bill is inside; ``models`` are the usage report's names."""
        model, workspace_id, tier, *_ = labels
        return self.tell(labels[COST_TYPE]) and all(
            not wanted or value in wanted
            for value, wanted in (
                (models.get(model, model), self.models),
                (workspace_id, self.workspace_ids),
                (tier, self.service_tiers),
            )
        )


class Money:
    """Takes in both reports of the organisation; what it says follows from them, and from what was priced before."""

    def __init__(self, listed: PriceList, override: PriceList | None, filters: Filters) -> None:
        self.bill = Bill()
        self.models: dict[str, str] = {}
        """The names that the usage report has for the bill's models, decided once for each."""
        self.reconciliation = Reconciliation()
        self.table = UsageTable()
        self.prices = Prices(listed, override, self.table)
        self._filters = filters
        self._is_complete = False
        self._news, self._api_key_news = News(), News()
        self._month, self._before, self._label_sets = (0, 0), set[Labels](), set[Labels]()
        self._costs: dict[int, tuple[Rows, Costs]] = {}

    def take_usage(self, window: Window, buckets: Collection[Bucket[int]], now: float) -> None:
        """Take in a window of the whole organisation's usage, with a bucket for each of its intervals."""
        self.table.observe(window, buckets, now)
        if window.width > MINUTE:
            self._learn()

    def complete(self) -> None:
        """Note that all usage that there is to be known was taken in."""
        self._is_complete = True
        self._name_models()

    def take_bill(self, days: Iterable[Bucket[Decimal]]) -> None:
        """Take in the days of a window of the cost report."""
        self.bill.observe(days)
        self.prices.is_informed = True
        self._name_models()
        self._learn()

    def forget(self, now: float) -> None:
        """Forget bills and prices that are too old at the Unix time ``now``."""
        self.bill.forget(now)
        self.prices.forget(now)

    def estimate(self, window: Window, buckets: Collection[Bucket[int]], since: int) -> list[Bucket[Decimal]]:
        """Return what is new in a window of the usage view, from ``since`` (Unix seconds) on, as dollars."""
        width, counted = window.width, [bucket for bucket in buckets if bucket.start >= since]
        priced = [self._priced(bucket, width) for bucket in self._news.of(width, counted)]
        self._news.priced(width, counted)
        return priced

    def estimate_by_api_key(
        self, window: Window, buckets: Collection[Bucket[int]], since: int
    ) -> list[Bucket[Decimal]]:
        """Return what is new in a window of the per-key view, from ``since`` (Unix seconds) on, as dollars.

        What the usage view has not seen yet gets its price as soon as it has, when it is read again.
        """
        width, counted = window.width, [bucket for bucket in buckets if bucket.start >= since]
        priced, untold = [], set()
        for bucket in self._api_key_news.of(width, counted):
            before = self.prices.untold
            priced.append(self.cost_by_api_key(bucket, width))
            if self.prices.untold > before:
                untold.add(bucket.start)
        self._api_key_news.priced(width, counted, untold)
        return priced

    def _priced(self, bucket: Bucket[int], width: int) -> Bucket[Decimal]:
        token = partial(self.prices.token, start=bucket.start, width=width)
        request = partial(self.prices.request, start=bucket.start, width=width)
        return _bucket(bucket, by_workspace(bucket.counts, token, request))

    def best_cost(self, counts: Counts, time: float) -> Costs:
        """Return what usage costs at the best prices that are known for a Unix time."""
        usd = partial(self.prices.usd, time=time)
        return by_workspace(counts, usd, usd)

    def cost_by_api_key(self, bucket: Bucket[int], width: int) -> Bucket[Decimal]:
        """Return what a bucket of the per-key view, of ``width`` seconds, costs at the prices in force."""
        token = partial(self.prices.effective, start=bucket.start, width=width)
        request = partial(self.prices.request, start=bucket.start, width=width)
        return _bucket(bucket, by_api_key(bucket.counts, token, request))

    def reconcile(self, estimated: Estimated, since: int, until: float, now: float) -> None:
        """Compare with the bill what was ``estimated`` of each day that lies between ``since`` and ``until``.

        It was estimated in time if there is no bill yet, or if the day has only just ended; all in Unix seconds.
        """
        newest = int(until // DAY) * DAY - DAY
        for day in range(newest, max(since, newest - LATEST_BILL) - 1, -DAY):
            is_new = now - day - DAY <= JUST_ENDED and not self.reconciliation.has(day)
            if self.bill.is_known and (is_new or day not in self.bill.days):
                self.reconciliation.estimated(day, self._filters.told(estimated(day)))
        self.reconciliation.compare(self._billed_inside, self.models)

    def reading(self, now: float, until: float | None) -> MoneyReading:
        """Return what there is to show at ``now``, with usage up to ``until`` estimated (both in Unix seconds)."""
        keys = (PriceKey(*group, token_type) for group in self.table.groups for token_type in TOKEN_TYPES)
        tokens = ((key, self.prices.best(key, now)) for key in keys if key.service_tier != PRIORITY)
        requests = ((tool, self.prices.best(tool, now)) for tool in SERVER_TOOLS)
        verdict = self.reconciliation.verdict
        month = month_of(now)
        is_known = until is not None and self._is_complete and self.bill.is_known
        return MoneyReading(
            {self._shown_as(key, price): price for key, price in tokens if price},
            {tool: price for tool, price in requests if price},
            month,
            self._unbilled(month, until) if is_known and until is not None else None,
            verdict.ratio if verdict else None,
        )

    def notes(self, now: float, since: float) -> dict[str, Any]:
        """Return what is to be kept, by name, for usage from ``since`` on: plain values."""
        reconciliation = self.reconciliation
        return {
            "models": dict(self.models),
            "prices": self.prices.rows(now, since),
            "estimates": reconciliation.rows(),
            "verdict": reconciliation.verdict,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on with what was kept."""
        self.models = dict(notes.get("models", {}))
        self.prices.restore(notes.get("prices", {}))
        verdict = notes.get("verdict")
        self.reconciliation.restore(notes.get("estimates", []), Verdict(*verdict) if verdict else None)

    def _learn(self) -> None:
        table, bill = self.table, self.bill.days
        days = (day for day in table.days if day in bill and table.is_whole(day))
        self.prices.learn(Day(day, bill[day], table.day(day)) for day in days)
        self._costs.clear()

    def _name_models(self) -> None:
        """Decide on the name of each model on the bill, if the usage report has one for it."""
        used = {model for model, *_ in self.table.groups}
        for model in {labels[0] for amounts in self.bill.days.values() for labels in amounts} - self.models.keys():
            names = {name for name in used if model in {name, undated(name)}}
            if names and self._is_complete:
                self.models[model] = names.pop() if len(names) == 1 else model

    def _shown_as(self, key: PriceKey, price: Price) -> PriceKey:
        """Return the key under the bill's name, if that is what the price is known by."""
        billed_as = undated(key.model)
        return (
            key._replace(model=billed_as)
            if price.basis == "billed" and self.models.get(billed_as) == billed_as
            else key
        )

    def _billed_inside(self, day: int) -> Amounts:
        lines = self.bill.days.get(day, {}).items()
        return {labels: usd for labels, usd in lines if self._filters.hold(labels, self.models)}

    def _unbilled(self, month: tuple[int, int], until: float) -> Amounts:
        """Return the estimate for the days of a month that have no bill.

        Label sets that had one stay, at 0, and so do those of the day before the first look and of the month before.
        """
        sums: defaultdict[Labels, Decimal] = defaultdict(Decimal)
        for day in range(month_start(month), int(until), DAY):
            if day not in self.bill.days:
                for series, usd in self._cost(day, until).items():
                    if series.family == ESTIMATED:
                        sums[series.labels] += usd
        if self._month != month:
            self._before = self._label_sets or self._label_sets_of(int(until) // DAY * DAY - DAY, until)
            self._month, self._label_sets = month, set()
        self._label_sets |= sums.keys()
        return {labels: sums.get(labels, Decimal(0)) for labels in self._label_sets | self._before}

    def _label_sets_of(self, day: int, until: float) -> set[Labels]:
        return {series.labels for series in self._cost(day, until) if series.family == ESTIMATED}

    def _cost(self, day: int, until: float) -> Costs:
        rows = self.table.day(day, until)
        known = self._costs.get(day)
        if known is None or known[0] is not rows:
            known = self._costs[day] = rows, self.best_cost(rows, day)
        return known[1]


def _bucket(bucket: Bucket[int], costs: Costs) -> Bucket[Decimal]:
    return Bucket(bucket.start, {series: (usd,) for series, usd in costs.items()})

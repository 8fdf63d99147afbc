"""The bill as the API reports it: finished UTC days, which may still be corrected."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from exporter.model import Amounts, BillReading, Bucket, Labels, MoneyReading


def month_of(time: float) -> tuple[int, int]:
    """Return the UTC month, as (year, month), that a Unix time lies in."""
    date = datetime.fromtimestamp(time, UTC)
    return date.year, date.month


def previous_month(month: tuple[int, int]) -> tuple[int, int]:
    """Return the month before ``month``."""
    year, number = month
    return (year, number - 1) if number > 1 else (year - 1, 12)


def month_start(month: tuple[int, int]) -> int:
    """Return the Unix time at which a UTC month begins."""
    return int(datetime(*month, 1, tzinfo=UTC).timestamp())


def first_day_needed(now: float, revision: int) -> int:
    """Return the first day (Unix seconds) that the gauges and the ``revision`` window of ``now`` need."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return min(month_start(previous_month(month_of(now))), int((today - timedelta(seconds=revision)).timestamp()))


class Bill:
    """The newest version of each day's bill; a day that the API leaves out stays unknown, or as it was.

    ``is_known`` says whether the API was asked with success, whatever it had.
    """

    def __init__(self) -> None:
        self.is_known = False
        self._days: dict[int, Amounts] = {}

    @property
    def days(self) -> Mapping[int, Amounts]:
        """The days (Unix seconds) that have a bill, in USD by cost labels."""
        return self._days

    def observe(self, days: Iterable[Bucket[Decimal]]) -> None:
        """Take in the days of a window that was read whole."""
        self.is_known = True
        for day in days:
            self._days[day.start] = {series.labels: amount for series, (amount,) in day.counts.items()}

    def forget(self, now: float) -> None:
        """Forget days before the previous month."""
        oldest = month_start(previous_month(month_of(now)))
        self._days = {day: amounts for day, amounts in self._days.items() if day >= oldest}

    def reading(self, now: float) -> BillReading | None:
        """Return what the gauges need, or None while no day is known; forget days before the previous month."""
        self.forget(now)
        if not self._days:
            return None
        months: defaultdict[tuple[int, int], defaultdict[Labels, Decimal]]
        months = defaultdict(lambda: defaultdict(Decimal))
        for day, amounts in self._days.items():
            for labels, amount in amounts.items():
                months[month_of(day)][labels] += amount
        last = max(self._days)
        return BillReading(last, self._days[last], {month: dict(sums) for month, sums in months.items()})


def month_to_date(bill: BillReading, now: float) -> Amounts:
    """Return the sums of the UTC month of ``now``; what only the month before had reads 0."""
    month = month_of(now)
    before = bill.months.get(previous_month(month), {})
    return dict.fromkeys(before, Decimal(0)) | dict(bill.months.get(month, {}))


def unbilled(money: MoneyReading, now: float) -> Amounts:
    """Return the estimate for the UTC month of ``now``; of one for another month every label set reads 0."""
    amounts = money.unbilled or {}
    return amounts if money.month == month_of(now) else dict.fromkeys(amounts, Decimal(0))


def previous_month_sums(bill: BillReading, now: float) -> Amounts:
    """Return the sums of the UTC month before that of ``now``."""
    return bill.months.get(previous_month(month_of(now)), {})

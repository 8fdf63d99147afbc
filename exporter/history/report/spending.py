"""What was billed in some UTC days and months, and what the running month will come to; pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from exporter.model import DAY, Amounts
from exporter.money.bill import month_of, month_start, previous_month
from exporter.money.learning import COST_TYPE, DIGITS

RECENT = 7
"""Finished days whose average the days to come are expected to cost: as many of each weekday."""
METHOD = f"month so far + average of the last {RECENT} known days x days left"


@dataclass(frozen=True, slots=True)
class Month:
    """A UTC month that begins at ``start`` (Unix seconds): what is billed of it, and the estimate of what is not."""

    start: int
    end: int
    billed: Decimal
    billed_days: int
    estimated: Decimal = Decimal(0)
    estimated_days: int = 0

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.end - self.start) // DAY

    @property
    def so_far(self) -> Decimal:
        """What is known of it."""
        return self.billed + self.estimated


@dataclass(frozen=True, slots=True)
class Cost:
    """The bill of the days asked for, of which ``finished`` are over, and of the months around now; all in USD.

    ``daily`` is the average of ``recent`` known finished days, and ``days_left`` of the running month.
    """

    billed: Decimal
    billed_days: int
    finished: int
    by_type: Mapping[str, Decimal]
    month: Month
    previous: Month
    daily: Decimal
    recent: int
    days_left: Decimal

    @property
    def average(self) -> Decimal | None:
        """What a billed day has cost, or None without one."""
        return DIGITS.divide(self.billed, Decimal(self.billed_days)) if self.billed_days else None

    @property
    def forecast(self) -> Decimal:
        """What the running month will have cost: what it has so far, and as much a day as lately."""
        return self.month.so_far + self.daily * self.days_left


def cost_of(now: int, days: range, bill: Mapping[int, Amounts], estimated: Mapping[int, Decimal]) -> Cost:
    """Return what ``days`` have cost, and the months around ``now``; all times are Unix seconds.

    ``estimated`` are the days of the running month, today included, and those before that may have no bill.
    """
    asked = [bill[day] for day in days if day in bill]
    by_type: defaultdict[str, Decimal] = defaultdict(Decimal)
    for labels, usd in (line for amounts in asked for line in amounts.items()):
        by_type[labels[COST_TYPE]] += usd
    billed = {day: sum(amounts.values(), Decimal(0)) for day, amounts in bill.items()}
    this, today = month_of(now), now - now % DAY
    month = _month(this, billed, {day: usd for day, usd in estimated.items() if day <= today})
    known = _recent({**estimated, **billed}, today)
    return Cost(
        sum(by_type.values(), Decimal(0)),
        len(asked),
        sum(day < today for day in days),
        by_type,
        month,
        _month(previous_month(this), billed, {}),
        DIGITS.divide(sum(known, Decimal(0)), Decimal(len(known) or 1)),
        len(known),
        DIGITS.divide(Decimal(month.end - now), Decimal(DAY)),
    )


def _month(month: tuple[int, int], billed: Mapping[int, Decimal], estimated: Mapping[int, Decimal]) -> Month:
    start = month_start(month)
    end = month_start((month[0] + month[1] // 12, month[1] % 12 + 1))
    known = [usd for day, usd in billed.items() if start <= day < end]
    rest = [usd for day, usd in estimated.items() if start <= day < end and day not in billed]
    return Month(start, end, sum(known, Decimal(0)), len(known), sum(rest, Decimal(0)), len(rest))


def _recent(known: Mapping[int, Decimal], today: int) -> list[Decimal]:
    """Return the last finished days; what lies before the first that cost anything is no day of this organisation."""
    first = min((day for day, usd in known.items() if usd), default=today)
    return [known.get(day, Decimal(0)) for day in range(max(first, today - RECENT * DAY), today, DAY)]

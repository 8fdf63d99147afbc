"""What the landing page says of the exporter, gathered while it polls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from exporter.model import Amounts, PollOutcome, Report, Snapshot
from exporter.money.bill import month_of
from exporter.money.recent import Recent, Total
from exporter.web.landing import ReportStatus, Status


@dataclass(frozen=True, slots=True)
class _Polls:
    """How the polls of a report went, as in ``ReportStatus``."""

    last_success: float | None = None
    failing_since: float | None = None
    reason: str | None = None
    is_down: bool = False

    def followed_by(self, outcome: PollOutcome) -> "_Polls":
        at = outcome.started + outcome.seconds
        if outcome.reason is None:
            return _Polls(last_success=at) if outcome.ended else self
        since = at if self.failing_since is None else self.failing_since
        return replace(self, failing_since=since, reason=outcome.reason, is_down=self.is_down or outcome.ended)


@dataclass(frozen=True, slots=True)
class _Figures:
    """A snapshot, and the sums that are made of it once, so that a look costs nothing."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    months: Mapping[tuple[int, int], Decimal] | None = None
    unbilled: Decimal | None = None
    recent: Recent = field(default_factory=Recent)

    def followed_by(self, snapshot: Snapshot, now: float) -> "_Figures":
        bill, money, estimate = snapshot.bill, snapshot.money, snapshot.counters.get("estimate")
        return _Figures(
            snapshot,
            {month: _sum(amounts) for month, amounts in bill.months.items()} if bill else None,
            _sum(money.unbilled) if money and money.unbilled is not None else None,
            self.recent.followed_by(Total.of(estimate), now) if estimate else self.recent,
        )


class Board:
    """Hears how polls go and what is published, in one thread at a time; any thread may ask for the status.

    All that it knows is in values that are swapped whole.
    """

    def __init__(self) -> None:
        self._polls: dict[Report, _Polls] = {}
        self._figures = _Figures()

    def polled(self, outcome: PollOutcome) -> None:
        """Take note of an attempt at a poll."""
        self._polls[outcome.report] = self._polls.get(outcome.report, _Polls()).followed_by(outcome)

    def published(self, snapshot: Snapshot, now: float) -> None:
        """Take note of what is served from ``now`` (Unix seconds) on."""
        self._figures = self._figures.followed_by(snapshot, now)

    def status(self, now: float, reports: Iterable[Report], next_polls: Mapping[str, float]) -> Status:
        """Return what there is to say at ``now`` of these reports; ``next_polls`` are Unix times, too."""
        figures = self._figures
        names = figures.snapshot.names
        return Status(
            now=now,
            organization=names.organization.name if names.organization else None,
            billed=self._billed(figures, now),
            unbilled=_unbilled(figures, now),
            recent=figures.recent.spent(now),
            reports=tuple(self._report(report, figures.snapshot, now, next_polls.get(report)) for report in reports),
        )

    def _report(self, report: Report, snapshot: Snapshot, now: float, next_poll: float | None) -> ReportStatus:
        polls = self._polls.get(report, _Polls())
        return ReportStatus(
            report,
            last_success=polls.last_success,
            reached=_reached(report, snapshot, now),
            next_poll=next_poll,
            failing_since=polls.failing_since,
            reason=polls.reason,
            is_down=polls.is_down,
        )

    def _billed(self, figures: _Figures, now: float) -> Decimal | None:
        if figures.months is None:
            # An API that was asked and has no bill has billed nothing.
            return None if self._polls.get("cost", _Polls()).last_success is None else Decimal(0)
        return figures.months.get(month_of(now), Decimal(0))


def _unbilled(figures: _Figures, now: float) -> Decimal | None:
    money = figures.snapshot.money
    if money is None or figures.unbilled is None:
        return None
    return figures.unbilled if money.month == month_of(now) else Decimal(0)


def _reached(report: Report, snapshot: Snapshot, now: float) -> float | None:
    if report == "cost":
        return snapshot.bill.last_day if snapshot.bill else None
    reading = snapshot.counters.get(report)
    return reading.watermark.at(now) if reading else None


def _sum(amounts: Amounts) -> Decimal:
    return sum(amounts.values(), Decimal(0))

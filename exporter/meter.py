"""The wired exporter without its schedule and its server: polls to run, and a page that shows what came of them."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from exporter import __version__
from exporter.api.admin import AdminApi
from exporter.api.client import Listener, Timing, Transport
from exporter.api.credentials import Credentials
from exporter.counters import Counters, standing
from exporter.errors import ExporterError, PollError
from exporter.ledger.codec import MONEY, PROGRESS
from exporter.ledger.publication import Publication
from exporter.ledger.state import StateFile
from exporter.metrics.page import Page
from exporter.model import (
    DAY,
    MINUTE,
    REPORTS,
    Bucket,
    Budget,
    Names,
    PollOutcome,
    RateLimits,
    Report,
    RequestOutcome,
    Snapshot,
    Window,
)
from exporter.money.budget import unknown_workspaces
from exporter.parts import new_api, new_money, poll_interval
from exporter.polling.clock import ApiClock
from exporter.polling.identity import Identity
from exporter.polling.poll import Poll, Source
from exporter.polling.schedule import Task
from exporter.polling.sources import (
    COST_REVISION,
    Feed,
    cost_source,
    limits_source,
    names_source,
    usage_source,
)
from exporter.polling.windows import TABLE, Days, Tiers, ceil, floor
from exporter.reporter import Reporter
from exporter.settings import Settings
from exporter.status import Board
from exporter.web.landing import Status

RANKS: Mapping[Report, int] = {"usage": 0, "api_key_usage": 1, "cost": 1, "names": 1, "limits": 1}
"""Usage is what wakes people: when it is due it goes first."""

MOST_GREETINGS = 2
"""Requests that may be made only to learn the time: it takes two if the host's clock is wrong."""

TABLE_PACE = 300.0
"""Seconds between two reads for money's table, where filters keep it from sharing those of the counters."""


class Meter:
    """Polls to run, and a page that shows what came of them; what ``state`` holds is shown at once, and gone on from.

    ``timing`` and ``transport`` are the world: tests bring their own. ``abort`` hears of what makes going on wrong.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        timing: Timing,
        state: StateFile,
        *,
        transport: Transport | None = None,
        abort: Callable[[ExporterError], None] = lambda _error: None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._writing = threading.Lock()
        self._closed = False
        self._host_time = timing.clock
        self._time = ApiClock(timing.clock, timing.timer)
        self._timer = timing.timer
        self._publication = Publication(self._time.served, timing.timer)
        self._names = Names()
        self._limits: RateLimits | None = None
        self._reporter = Reporter()
        self._board = Board()
        self._met = self._has_peeked = False
        self.page = Page(self._publication, version=__version__, reports=REPORTS)
        own = self.page.own
        own.state(loaded=state.loaded)
        self._budget = Budget(settings.budget.monthly_usd, settings.budget.workspaces)
        api = new_api(settings, credentials, timing, Listener(self._heard, own.retry), own.drift, transport)
        self._read_usage = api.usage
        self._identity = Identity(
            state.notes.get("organization"), ask=api.organization, key=credentials.key, where=state.path, abort=abort
        )
        self._peek = self._identity.guard(replace(api, retry=False).cost)
        self._money = new_money(settings)
        self._counters = Counters(settings, state, self._time.made())
        self._views = self._counters.views(
            {"usage": self._money.estimate, "api_key_usage": self._money.estimate_by_api_key}
        )
        is_filtered = any(api.filters.values())
        self._tiers = {report: Tiers(table=report == "usage" and not is_filtered) for report in self._views}
        self._days = Days(self._counters.ledgers["cost"].anchor, COST_REVISION)
        self._resume()
        self.polls = {source.report: self._poll(source) for source in self._sources(api, is_filtered=is_filtered)}

    @property
    def anchor(self) -> int:
        """The usage time (Unix seconds) at which the usage counters are 0."""
        return self._counters.ledgers["usage"].anchor

    def tasks(self) -> dict[str, Task]:
        """Return the polls with their pace, for the schedule."""
        return {
            report: Task(poll.run, poll_interval(self._settings, report), RANKS[report])
            for report, poll in self.polls.items()
        }

    def status(self, next_polls: Mapping[str, float]) -> Status:
        """Return what the landing page says; ``next_polls`` are Unix times by the host's clock."""
        now = self._time.served()
        ahead = self._host_time() - now
        return self._board.status(now, self.polls, {name: due - ahead for name, due in next_polls.items()})

    def close(self) -> None:
        """Serve nothing new and keep what was served last; raise StateError if that cannot be written."""
        with self._writing:
            self._closed = True
            self._state.close(standing(*(self._publication.close() or (Snapshot(), 0.0))))

    def _sources(self, api: AdminApi, *, is_filtered: bool) -> list[Source]:
        """Return what the polls do."""
        guard, clock = self._identity.guard, self._time.now
        reads = {"usage": guard(api.usage), "api_key_usage": guard(api.api_key_usage)}
        feeds = {name: [Feed(reads[name], self._tiers[name], view.take)] for name, view in self._views.items()}
        if is_filtered:
            # What is not billed yet concerns the whole organisation, and so does what it is priced by.
            everything = guard(replace(api, filters={}).usage)
            feeds["usage"].insert(0, Feed(everything, Tiers(table=True), self._money.take_usage, pace=TABLE_PACE))
        else:
            feeds["usage"] = [Feed(reads["usage"], self._tiers["usage"], self._take_usage)]
        usage = [
            usage_source(name, feeds[name], begin=self._begin, complete=partial(self._complete, name), clock=clock)
            for name in self._views
        ]
        cost = cost_source(
            guard(api.cost),
            self._counters.ledgers["cost"],
            self._money.take_bill,
            self._days,
            begin=self._set_anchors,
            clock=clock,
            served=self._time.served,
        )
        names = names_source(self._identity.organization, api.workspaces, api.api_keys, self._rename)
        return [*usage, cost, names, limits_source(api.rate_limits, self._limit)]

    def _take_usage(self, window: Window, buckets: list[Bucket[int]], now: float) -> None:
        """Take in usage for money's table first: it is what the same usage is priced by."""
        self._money.take_usage(window, buckets, now)
        self._views["usage"].take(window, buckets, now)

    def _complete(self, report: Report, polled: float) -> None:
        self._views[report].complete(polled, self._time.served())
        if report == "usage":
            self._money.complete()

    def _resume(self) -> None:
        """Take over what the state file holds, and show it."""
        notes = self._state.notes
        for report, tiers in self._tiers.items():
            tiers.resume(notes.get(PROGRESS + report, {}))
        self._days.resume(notes.get(f"{PROGRESS}cost", {}))
        money = {key.removeprefix(MONEY): note for key, note in notes.items() if key.startswith(MONEY)}
        self._money.restore(money)
        self._follow_anchors()
        self.page.own.folded(self._counters.folded)
        now = self._time.served()
        snapshot = self._snapshot(now)
        self._publication.put(snapshot)
        self._board.published(snapshot, now)

    def _follow_anchors(self) -> None:
        for report, view in self._views.items():
            self._tiers[report].anchors = view.anchors

    def _poll(self, source: Source) -> Poll:
        # A poll that outlives its interval would only delay the fresher one that follows it.
        deadline = min(self._settings.api.poll_deadline, poll_interval(self._settings, source.report))
        return Poll(
            source,
            publish=self._publish,
            report=self._ended,
            clock=self._time.now,
            timer=self._timer,
            deadline=deadline,
        )

    def _begin(self) -> None:
        """Before the first read of usage, learn the time from the API, and prices from what was billed lately.

        An API that does not tell the time leaves us with the host's. Whether the bill can be read at all is for the
        poll of the cost report to tell.
        """
        if not self._met:
            for _ in range(MOST_GREETINGS):
                if not self._time.known:
                    minute = floor(self._time.now(), MINUTE)
                    self._read_usage(Window(MINUTE, minute, minute + MINUTE))
            self._set_anchors()
        if not self._has_peeked:
            self._has_peeked = True
            today = floor(self._time.now(), DAY)
            with suppress(PollError):
                self._money.take_bill(self._peek(Window(DAY, today - TABLE[DAY], today)))

    def _set_anchors(self) -> None:
        """Count from the start of the program by the API's time; what was begun before stays as it is."""
        if not self._met:
            anew = self._counters.begin(self._time.made())
            self._follow_anchors()
            self._met = self._time.known or not anew

    def _heard(self, outcome: RequestOutcome) -> None:
        self._time.heard(outcome.clock_skew)
        self._identity.heard(outcome.organization_id)
        self.page.own.request(outcome)

    def _rename(self, change: Callable[[Names], Names]) -> None:
        self._names = change(self._names)
        self._reporter.budgets(unknown_workspaces(self._budget.workspaces, self._names.workspaces))

    def _limit(self, limits: RateLimits) -> None:
        self._limits = limits

    def _publish(self) -> None:
        """Keep what changed, and only then serve it; raise StateError, and serve what was, if it cannot be kept."""
        with self._writing:
            if self._closed:
                return
            now = self._time.served()
            snapshot = self._snapshot(now)
            self._keep(snapshot)
            self._publication.put(snapshot)
            self._board.published(snapshot, now)
            self._reporter.verdict(self._money.reconciliation.verdict)

    def _snapshot(self, now: float) -> Snapshot:
        (last, _), served_at, tick = self._publication.look(), self._publication.served_at, self._timer()
        counters = self._counters.readings(now, tick, last.counters, served_at)
        estimate = self._counters.ledgers["estimate"]
        reached = estimate.reached(now)
        if reached is not None:
            self._money.reconcile(estimate.day, ceil(estimate.anchor, DAY), reached, now)
        is_billed = "cost" in counters
        return Snapshot(
            counters,
            self._money.bill.reading(now) if is_billed else None,
            self._money.reading(now, reached if is_billed else None) if counters else None,
            self._limits,
            self._budget,
            self._names,
            dict(self._money.models),
        )

    def _keep(self, snapshot: Snapshot) -> None:
        # Until the API's time is known the anchor may still move, and nothing of it is worth keeping.
        records = {
            name: record for name, record in self._counters.changes().items() if name in snapshot.counters or self._met
        }
        progress = {name: tiers.progress for name, tiers in self._tiers.items()} | {"cost": self._days.progress}
        notes: dict[str, object] = {PROGRESS + name: read for name, read in progress.items() if name in records}
        notes |= {
            MONEY + name: note for name, note in self._money.notes(self._time.now(), self._counters.priced_from).items()
        }
        if self._identity.known:
            notes["organization"] = self._identity.known
        begun = self._timer()
        try:
            self._state.commit(records, notes)
        finally:
            self.page.own.commit(self._timer() - begun)
        self._counters.kept(records)
        self.page.own.folded(self._counters.folded)
        self.page.own.rejected_prices(self._money.prices.rejected)

    def _ended(self, outcome: PollOutcome) -> None:
        self.page.own.poll(outcome)
        self._reporter.poll(outcome)
        self._board.polled(outcome)

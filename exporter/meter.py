"""The wired exporter without its schedule and its server: polls to run, and a page that shows what came of them."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

from exporter import __version__
from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing, Transport
from exporter.api.credentials import Credentials
from exporter.errors import ExporterError, SettingsError
from exporter.ledger.ledger import Ledger
from exporter.ledger.publication import Publication
from exporter.ledger.record import Record, Standstill
from exporter.ledger.registers import Registers
from exporter.ledger.state import StateFile
from exporter.metrics.page import Page
from exporter.model import (
    BILLED,
    DAY,
    MINUTE,
    REPORTS,
    TOKEN_TYPES,
    TOKENS,
    USAGE_DIMENSIONS,
    Names,
    Number,
    PollOutcome,
    Report,
    RequestOutcome,
    Snapshot,
    Window,
)
from exporter.money.bill import Bill
from exporter.polling.clock import ApiClock
from exporter.polling.identity import Identity
from exporter.polling.poll import Poll, Source
from exporter.polling.schedule import Task
from exporter.polling.sources import COST_REVISION, USAGE_REVISION, cost_source, names_source, usage_source
from exporter.polling.windows import Days, Tiers, floor
from exporter.settings import Settings
from exporter.settings.values import is_loopback

logger = logging.getLogger(__name__)

MISSED_POLLS = 1.5
"""Poll intervals after which the watermark stands still: a late poll is normal, a missed one is not."""

RANKS: Mapping[Report, int] = {"usage": 0, "cost": 1, "names": 1}
"""Usage is what wakes people: when it is due it goes first."""

MOST_GREETINGS = 2
"""Requests that may be made only to learn the time: it takes two if the host's clock is wrong."""


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
        state.claim(_scope(settings))
        self._settings = settings
        self._state = state
        self._writing = threading.Lock()
        self._closed = False
        self._time = ApiClock(timing.clock, timing.timer)
        self._timer = timing.timer
        self._publication = Publication(self._time.served, timing.timer)
        self._names = Names()
        self._failing: set[Report] = set()
        self.page = Page(self._publication, version=__version__, reports=REPORTS)
        own = self.page.own
        own.state(loaded=state.loaded)
        api = new_api(settings, credentials, timing, Listener(self._heard, own.retry), own.drift, transport)
        self._read_usage = api.usage
        self._identity = Identity(
            state.notes.get("organization"), ask=api.organization, key=credentials.key, where=state.path, abort=abort
        )
        grace = MISSED_POLLS * settings.usage.poll_interval
        self._settle = max(settings.usage.settle, grace)
        self._configured = _midnight(settings.usage.anchor) if settings.usage.anchor else None
        self._met = False
        anchor = self._anchor()
        self._usage: Ledger[int] = self._ledger(
            Registers(anchor, TOKENS, 0), settle=self._settle, grace=grace, revision=USAGE_REVISION
        )
        # A finished day's bill counts as soon as it is seen: no settle, and nothing to interpolate.
        self._billed: Ledger[Decimal] = self._ledger(
            Registers(floor(anchor, DAY), BILLED, Decimal(0)), settle=0, grace=0, revision=COST_REVISION
        )
        self._bill = Bill()
        self._tiers, self._days = Tiers(anchor), Days(anchor, COST_REVISION)
        self._resume()
        read_usage, read_cost = self._identity.guard(api.usage), self._identity.guard(api.cost)
        clocks = {"clock": self._time.now, "served": self._time.served}
        self.polls: dict[Report, Poll] = {
            "usage": self._poll(usage_source(read_usage, self._usage, self._tiers, begin=self._begin, **clocks)),
            "cost": self._poll(
                cost_source(read_cost, self._billed, self._bill, self._days, begin=self._set_anchors, **clocks)
            ),
            "names": self._poll(names_source(self._identity.organization, api.workspaces, api.api_keys, self._rename)),
        }

    def tasks(self) -> dict[str, Task]:
        """Return the polls with their pace, for the schedule."""
        return {
            report: Task(poll.run, poll_interval(self._settings, report), RANKS[report])
            for report, poll in self.polls.items()
        }

    def close(self) -> None:
        """Serve nothing new and keep what was served last; raise StateError if that cannot be written."""
        with self._writing:
            self._closed = True
            snapshot, now = self._publication.close() or (Snapshot(), 0.0)
            stood: dict[str, Standstill[Any]] = {}
            for report, reading in (("usage", snapshot.usage), ("cost", snapshot.billed)):
                if reading:
                    stood[report] = Standstill.at(reading, now)
            self._state.close(stood)

    def _ledger(self, registers: Registers[Number], *, settle: float, grace: float, revision: int) -> Ledger[Number]:
        return Ledger(
            registers,
            settle=settle,
            grace=grace,
            hold=self._settings.usage.hold,
            reaches_back=self._configured is not None,
            revision=revision,
            most_series=self._settings.metrics.max_series,
        )

    def _resume(self) -> None:
        """Take over what the state file holds, and show it."""
        ledgers: dict[str, Ledger[Any]] = {"usage": self._usage, "cost": self._billed}
        for report, ledger in ledgers.items():
            record = self._state.records.pop(report, None)
            if record is None:
                continue
            if self._configured not in (None, record.facts.anchor):
                was = datetime.fromtimestamp(record.facts.anchor, UTC)
                raise SettingsError(
                    f"the state file {self._state.path} counts {report} from {was:%Y-%m-%d %H:%M} UTC on, but "
                    f"usage.anchor is {self._settings.usage.anchor}; unset it, or choose another --state.path"
                )
            ledger.restore(record)
        self._tiers.anchor = self._usage.anchor
        self._tiers.resume(self._state.notes.get("progress.usage", {}))
        self._days.resume(self._state.notes.get("progress.cost", {}))
        self.page.own.folded((*self._usage.folded, *self._billed.folded))
        if self._state.loaded:
            self._publication.put(self._snapshot(self._time.served()))

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

    def _anchor(self) -> int:
        if self._configured is not None:
            return self._configured
        return floor(self._time.made() - self._settle, MINUTE)

    def _begin(self) -> None:
        """Before the first read, learn the time from the API, and count from the start of the program by that time.

        An API that does not tell the time leaves us with the host's.
        """
        if self._met:
            return
        for _ in range(MOST_GREETINGS):
            if not self._time.known:
                minute = floor(self._time.now(), MINUTE)
                self._read_usage(Window(MINUTE, minute, minute + MINUTE))
        self._set_anchors()

    def _set_anchors(self) -> None:
        """Count from the start of the program by the API's time; what was begun before stays as it is."""
        if self._met:
            return
        anchor = self._anchor()
        anew = self._usage.begin(anchor)
        if anew:
            self._tiers.anchor = anchor
        self._billed.begin(floor(anchor, DAY))
        self._met = self._time.known or not anew

    def _heard(self, outcome: RequestOutcome) -> None:
        self._time.heard(outcome.clock_skew)
        self._identity.heard(outcome.organization_id)
        self.page.own.request(outcome)

    def _rename(self, change: Callable[[Names], Names]) -> None:
        self._names = change(self._names)

    def _publish(self) -> None:
        """Keep what changed, and only then serve it; raise StateError, and serve what was, if it cannot be kept."""
        with self._writing:
            if self._closed:
                return
            snapshot = self._snapshot(self._time.served())
            self._keep(snapshot)
            self._publication.put(snapshot)

    def _snapshot(self, now: float) -> Snapshot:
        (last, _), served_at, tick = self._publication.look(), self._publication.served_at, self._timer()
        usage = self._usage.reading(now, tick, last.usage, served_at)
        billed = self._billed.reading(now, tick, last.billed, served_at)
        bill = self._bill.reading(now) if billed else None
        return Snapshot(usage=usage, billed=billed, bill=bill, names=self._names)

    def _keep(self, snapshot: Snapshot) -> None:
        records: dict[str, Record[Any]] = {}
        notes: dict[str, object] = {}
        # Until the API's time is known the anchor may still move, and nothing of it is worth keeping.
        if snapshot.usage or self._met:
            records["usage"], notes["progress.usage"] = self._usage.changes(), self._tiers.progress
        if snapshot.billed or self._met:
            records["cost"], notes["progress.cost"] = self._billed.changes(), self._days.progress
        if self._identity.known:
            notes["organization"] = self._identity.known
        begun = self._timer()
        try:
            self._state.commit(records, notes)
        finally:
            self.page.own.commit(self._timer() - begun)
        for report, ledger in (("usage", self._usage), ("cost", self._billed)):
            if report in records:
                ledger.kept(records[report])
        self.page.own.folded((*self._usage.folded, *self._billed.folded))

    def _ended(self, outcome: PollOutcome) -> None:
        self.page.own.poll(outcome)
        fields: dict[str, object] = {"report": outcome.report, "seconds": round(outcome.seconds, 3)}
        if outcome.reason is None:
            again = outcome.ended and outcome.report in self._failing
            self._failing -= {outcome.report} if outcome.ended else set()
            text = "poll succeeds again" if again else "poll succeeded" if outcome.ended else "poll gives way"
            logger.log(logging.INFO if again else logging.DEBUG, text, extra={"fields": fields})
            return
        first = outcome.report not in self._failing
        self._failing |= {outcome.report}
        fields |= {"reason": outcome.reason, "error": outcome.message}
        if not outcome.ended and outcome.retry_in is not None:
            fields["retry_in"] = round(outcome.retry_in, 1)
        text = "poll failed" if outcome.ended else "poll goes on later"
        logger.log(logging.WARNING if outcome.ended or first else logging.INFO, text, extra={"fields": fields})


def new_api(
    settings: Settings,
    credentials: Credentials,
    timing: Timing,
    listener: Listener,
    drift: Callable[[str, int], None],
    transport: Transport | None = None,
) -> AdminApi:
    """Return the Admin API as the settings describe it."""
    client = Client(
        settings.api.base_url,
        credentials,
        timeout=settings.api.timeout,
        listener=listener,
        timing=timing,
        transport=transport,
        direct=is_loopback(settings.api.base_url),
    )
    usage = settings.usage
    filters = {"workspace_ids[]": usage.workspace_ids, "models[]": usage.models, "service_tiers[]": usage.service_tiers}
    return AdminApi(client, filters, drift)


def new_credentials(settings: Settings) -> Credentials:
    """Return the key that the settings name."""
    return Credentials(settings.api_key.get_secret_value() if settings.api_key else None, settings.api_key_file)


def poll_interval(settings: Settings, report: Report) -> float:
    """Return the seconds between two polls of ``report``."""
    intervals: dict[Report, float] = {
        "usage": settings.usage.poll_interval,
        "cost": settings.cost.poll_interval,
        "names": settings.names.poll_interval,
    }
    return intervals[report]


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time_of_day(), UTC).timestamp())


def _scope(settings: Settings) -> dict[str, str]:
    """Return what the counters count, by the settings' names: a state file is good for nothing else."""
    usage = settings.usage
    return {
        "grouping": ",".join(USAGE_DIMENSIONS),
        "token types": ",".join(TOKEN_TYPES),
        "usage.workspace_ids": ",".join(sorted({*usage.workspace_ids})),
        "usage.models": ",".join(sorted({*usage.models})),
        "usage.service_tiers": ",".join(sorted({*usage.service_tiers})),
    }

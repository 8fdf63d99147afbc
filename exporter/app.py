"""Wires everything, and runs it: the only module that knows all the others."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

from exporter import __version__, log
from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing, Transport
from exporter.api.credentials import Credentials
from exporter.demo.api import AdminApi as SimulatedApi
from exporter.demo.server import serve as serve_simulation
from exporter.demo.simulation import SimulatedOrganization
from exporter.ledger.ledger import Ledger
from exporter.ledger.publication import Publication
from exporter.ledger.registers import Registers
from exporter.metrics.page import Page
from exporter.model import (
    BILLED,
    DAY,
    MINUTE,
    REPORTS,
    TOKENS,
    Names,
    PollOutcome,
    Report,
    RequestOutcome,
    Snapshot,
    Window,
)
from exporter.money.bill import Bill
from exporter.polling.clock import ApiClock
from exporter.polling.poll import Poll, Source
from exporter.polling.schedule import Schedule, Task
from exporter.polling.sources import COST_REVISION, USAGE_REVISION, cost_source, names_source, usage_source
from exporter.polling.windows import Tiers, floor
from exporter.settings import Settings, reserved_in_use
from exporter.settings.values import is_loopback, parse_listen_address
from exporter.web.pages import health, landing, ready, router
from exporter.web.server import Server

logger = logging.getLogger(__name__)

MISSED_POLLS = 1.5
"""Poll intervals after which the watermark stands still: a late poll is normal, a missed one is not."""

RANKS: Mapping[Report, int] = {"usage": 0, "cost": 1, "names": 1}
"""Usage is what wakes people: when it is due it goes first."""

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}

DEMO_DEFAULTS: Mapping[str, Any] = {
    "api": {"base_url": "http://127.0.0.1"},
    "usage": {"poll_interval": 5, "hold": 10},
    "cost": {"poll_interval": 60},
    "names": {"poll_interval": 60},
}
MOST_GREETINGS = 2
"""Requests that may be made only to learn the time: it takes two if the host's clock is wrong."""

DEMO_KEY = "sk-ant-admin01-simulated"
DEMO_HISTORY = 366 * DAY
DEMO_SEED = 1
INVITATION = """
This is a simulated organisation, and the exporter reading it: no figure is real, and no key is needed.

    curl -s {url} | grep ^anthropic_usage_tokens_total

Look twice: the first look shows every counter at 0, and within half a minute they move. Ctrl-C ends it.
"""


class Meter:
    """All of the exporter but its schedule and its server: polls to run, and a page that shows what came of them.

    ``timing`` and ``transport`` are the world: tests bring their own.
    """

    def __init__(
        self, settings: Settings, credentials: Credentials, timing: Timing, transport: Transport | None = None
    ) -> None:
        self._time = ApiClock(timing.clock, timing.timer)
        self._timer = timing.timer
        self._settings = settings
        self._publication = Publication()
        self._names = Names()
        self._failing: set[Report] = set()
        self.page = Page(
            current=lambda: self._publication.current,
            served=self._publication.mark_served,
            clock=self._time.served,
            version=__version__,
            reports=REPORTS,
        )
        own = self.page.own
        api = new_api(settings, credentials, timing, Listener(self._heard, own.retry), own.drift, transport)
        self._read_usage = api.usage
        grace = MISSED_POLLS * settings.usage.poll_interval
        self._settle = max(settings.usage.settle, grace)
        self._configured = _midnight(settings.usage.anchor) if settings.usage.anchor else None
        self._met = False
        anchor = self._anchor()
        hold, reaches_back = settings.usage.hold, self._configured is not None
        self._usage: Ledger[int] = Ledger(
            Registers(anchor, TOKENS, 0),
            settle=self._settle,
            grace=grace,
            hold=hold,
            reaches_back=reaches_back,
            revision=USAGE_REVISION,
        )
        # A finished day's bill counts as soon as it is seen: no settle, and nothing to interpolate.
        self._billed: Ledger[Decimal] = Ledger(
            Registers(floor(anchor, DAY), BILLED, Decimal(0)),
            settle=0,
            grace=0,
            hold=hold,
            reaches_back=reaches_back,
            revision=COST_REVISION,
        )
        self._tiers = Tiers(anchor)
        self._bill = Bill()
        clocks = {"clock": self._time.now, "served": self._time.served}
        self.polls: dict[Report, Poll] = {
            "usage": self._poll(usage_source(api.usage, self._usage, self._tiers, begin=self._begin, **clocks)),
            "cost": self._poll(cost_source(api.cost, self._billed, self._bill, anchor, **clocks)),
            "names": self._poll(names_source(api.organization, api.workspaces, api.api_keys, self._rename)),
        }

    def tasks(self) -> dict[str, Task]:
        """Return the polls with their pace, for the schedule."""
        return {
            report: Task(poll.run, poll_interval(self._settings, report), RANKS[report])
            for report, poll in self.polls.items()
        }

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
        anchor = self._anchor()
        anew = self._usage.begin(anchor)
        if anew:
            self._tiers.anchor = anchor
        self._billed.begin(floor(anchor, DAY))
        self._met = self._time.known or not anew

    def _heard(self, outcome: RequestOutcome) -> None:
        self._time.heard(outcome.clock_skew)
        self.page.own.request(outcome)

    def _rename(self, change: Callable[[Names], Names]) -> None:
        self._names = change(self._names)

    def _publish(self) -> None:
        now, served_at = self._time.served(), self._publication.served_at
        usage, billed = self._usage.reading(now, served_at), self._billed.reading(now, served_at)
        self._publication.put(Snapshot(usage, billed, self._bill.reading(now) if billed else None, self._names))

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


def serve(settings: Settings) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit status."""
    _hold_signals()
    credentials = new_credentials(settings)
    log.configure(settings.log.level, settings.log.format, secrets=lambda: (credentials.current,))
    _warn(settings, credentials)
    return _run(settings, Meter(settings, credentials, Timing()))


def demo(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve a simulated organisation with a year of history, until SIGTERM or SIGINT; return the exit status.

    ``say`` is told where to look.
    """
    _hold_signals()
    log.configure(settings.log.level, settings.log.format)
    started = int(time.time()) - DEMO_HISTORY
    simulation = SimulatedApi(SimulatedOrganization(seed=DEMO_SEED, started=started), key=DEMO_KEY, clock=time.time)
    with serve_simulation(simulation) as server:
        api = settings.api.model_copy(update={"base_url": server.url})
        settings = settings.model_copy(update={"api": api})
        logger.info("SIMULATED DATA: no real organisation is read", extra={"fields": {"api": server.url}})
        return _run(
            settings,
            Meter(settings, Credentials(DEMO_KEY, None), Timing()),
            lambda url: say(INVITATION.format(url=url)),
        )


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


def _warn(settings: Settings, credentials: Credentials) -> None:
    for name in reserved_in_use(settings):
        logger.warning("this setting has no effect in this version", extra={"fields": {"setting": name}})
    if not credentials.key().startswith("sk-ant-admin"):
        logger.warning("the key does not begin with sk-ant-admin; the Admin API may refuse it")


def _hold_signals() -> None:
    """Keep the signals that end the program for ``sigwait``: a handler could run, or wait, at any unlucky moment.

    Threads inherit this, so it comes before the first of them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _run(settings: Settings, meter: Meter, greet: Callable[[str], None] = lambda _url: None) -> int:
    schedule = Schedule(meter.tasks())
    pages = {
        "/": landing(__version__, settings.web.telemetry_path),
        settings.web.telemetry_path: meter.page.app,
        "/-/healthy": health(schedule.alive),
        "/-/ready": ready(),
    }
    server = Server(router(pages), *parse_listen_address(settings.web.listen_address))
    server.start()
    schedule.start()
    url = f"{server.url}{settings.web.telemetry_path}"
    logger.info("listening", extra={"fields": {"url": url, "version": __version__}})
    greet(url)
    signal.sigwait(STOP_SIGNALS)
    logger.info("stopping")
    schedule.stop()
    server.stop()
    return 0

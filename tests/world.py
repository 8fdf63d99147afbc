"""A world in a bottle: a simulated Admin API, a clock that only we move, and the exporter's meter between them."""

import gzip
import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from exporter.api.client import Timing
from exporter.api.credentials import Credentials
from exporter.demo.api import AdminApi
from exporter.demo.faults import Faults
from exporter.demo.organization import MINUTE, Organization
from exporter.errors import ExporterError, StateError
from exporter.families import COUNTED
from exporter.ledger.codec import Kind
from exporter.ledger.state import StateFile
from exporter.meter import Meter
from exporter.metrics.page import Rendering
from exporter.model import PollOutcome, Report
from exporter.polling.schedule import AFTER_FAILURE
from exporter.settings import load
from exporter.web.landing import Status

KEY = "sk-ant-admin01-canary"
OWN = ("anthropic_exporter_", "process_", "python_")
TOKENS = "anthropic_usage_tokens_total"
TOTALS_ONLY = ("--usage.by-api-key", "false", "--limits.poll-interval", "86400")
"""Settings for tests of many days that are not about keys."""
USAGE_LABELS = ("model", "workspace_id", "service_tier", "context_window", "inference_geo")
TOKEN_TYPES = ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


def at(text: str) -> float:
    """Return the Unix time of an ISO date or time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class World:
    """Runs the meter's polls by hand, as the schedule would, from ``now`` on.

    ``state`` is the path of the state file; ``keep`` opens it, for tests that want to see or break what is kept.
    """

    def __init__(
        self,
        organization: Organization,
        now: float,
        *flags: str,
        page_buckets: Mapping[int, int] | None = None,
        wrong: float = 0.0,
        state: Path | None = None,
        keep: Callable[[str, Mapping[str, Kind], float], StateFile] = StateFile,
    ) -> None:
        self.now = now
        self.wrong = wrong
        """Seconds that the exporter's host is ahead of the API."""
        self.organization = organization
        self.faults = Faults()
        self.api = AdminApi(organization, key=KEY, clock=self.time, page_buckets=page_buckets, faults=self.faults)
        self.key = KEY
        self.state = state
        self.keep = keep
        self.outcomes: list[PollOutcome] = []
        self.aborts: list[ExporterError] = []
        self.zero_first = False
        """Whether each counter that ``run`` meets for the first time has to be 0."""
        self.seen: dict[str, float] = {}
        """The counters as they were last scraped by ``run``, over restarts."""
        self._flags = flags
        self.start()

    def start(self, *flags: str) -> None:
        """Start the exporter, on the state file if there is one; settings stay as they were unless some are given."""
        self._flags = flags or self._flags
        today = datetime.fromtimestamp(self.now, UTC).date()
        settings = load(
            ["--api.base-url", "http://127.0.0.1", *self._flags], {"ANTHROPIC_ADMIN_API_KEY": self.key}, today=today
        )
        timing = Timing(clock=self.host_time, timer=self.time, sleep=self.sleep, spread=lambda: 0.5)
        state = self.keep(str(self.state or ":memory:"), COUNTED, self.now)
        self.meter = Meter(
            settings,
            Credentials(self.key, None),
            timing,
            state,
            transport=httpx.WSGITransport(app=self.api),
            abort=self.aborts.append,
        )
        weakref.finalize(self.meter, _let_go, state)
        self._due = dict.fromkeys(self.meter.polls, self.now)
        self._paces = {name: task.interval for name, task in self.meter.tasks().items()}

    def stop(self) -> None:
        """End the exporter as SIGTERM does."""
        self.meter.close()

    def crash(self) -> None:
        """End the exporter as SIGKILL does: go on with a copy of what is on the disk, and never let it write again."""
        assert self.state
        image = self.state.with_name(f"{self.state.name}.{len(self.outcomes)}")
        for companion in ("", "-wal"):
            if (part := Path(f"{self.state}{companion}")).exists():
                shutil.copyfile(part, f"{image}{companion}")
        self.state = image

    def time(self) -> float:
        return self.now

    def host_time(self) -> float:
        return self.now + self.wrong

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def poll(self, *reports: Report) -> list[PollOutcome]:
        """Make one attempt at each report now."""
        return [self.meter.polls[report].run() for report in reports or self.meter.polls]

    def run(self, seconds: float, scrape_every: float = 15) -> Page:
        """Let time pass, with polls when they are due and scrapes in between; return the last page."""
        end = self.now + seconds
        self.watch()
        scrape = self.now + scrape_every
        while (moment := min(scrape, *self._due.values())) <= end:
            self.now = max(self.now, moment)
            for report in [report for report, due in self._due.items() if due <= self.now]:
                self._attempt(report)
            if scrape <= self.now:
                scrape = self.now + scrape_every
                self.watch()
        self.now = max(self.now, end)
        self.watch()
        return self.page()

    def _attempt(self, report: Report) -> None:
        outcome = self.meter.polls[report].run()
        self.outcomes.append(outcome)
        wait = outcome.retry_in or 0.0
        rest = self._paces[report] if outcome.retry_in is None else min(self._paces[report], AFTER_FAILURE)
        pace = max(wait, rest) if outcome.ended else wait
        self._due[report] = max(self.now, self._due[report]) + pace

    def scrape(self, *only: str) -> str:
        """Return the page as Prometheus would get it: all of it, or ``only`` these metrics."""
        return text(self.meter.page.scrape("", frozenset(only)).result())

    def page(self) -> Page:
        """Scrape, and return the samples."""
        return parse(self.scrape())

    def status(self) -> Status:
        """Return what the landing page says."""
        return self.meter.status({report: due + self.wrong for report, due in self._due.items()})

    def watch(self) -> None:
        """Scrape; fail on what no scrape may ever see: a counter that falls, or one that is gone.

        The counters about the exporter itself begin anew when it does.
        """
        lines = (line.rpartition(" ") for line in self.scrape().splitlines() if not line.startswith("#"))
        after = {
            series: float(value)
            for series, _, value in lines
            if series.partition("{")[0].endswith("_total") and not series.startswith(OWN)
        }
        for series, value in self.seen.items():
            assert after.get(series, -1) >= value, f"{series} was {value}, is {after.get(series)} at {self.now}"
        new = {series: value for series, value in after.items() if value and series not in self.seen}
        assert not (self.zero_first and new), f"first seen above 0: {new} at {self.now}"
        self.seen = after

    def truth(self, start: float, end: float, as_of: float | None = None) -> Counter[tuple[str, ...]]:
        """Return what the organisation used, by the labels of the token counters."""
        counts: Counter[tuple[str, ...]] = Counter()
        known = self.now if as_of is None else as_of
        report = self.organization.usage(MINUTE, int(start), int(end), known)
        for rows in report.values():
            for dimensions, tokens in rows.items():
                labels = (
                    dimensions.model,
                    dimensions.workspace_id or "default",
                    dimensions.service_tier,
                    dimensions.context_window,
                    dimensions.inference_geo,
                )
                for token_type in TOKEN_TYPES:
                    counts[*labels, token_type] += getattr(tokens, token_type)
        return +counts


def _let_go(state: StateFile) -> None:
    """Close what a test has left open."""
    with suppress(StateError):
        state.close({})


def text(rendering: Rendering) -> str:
    """Return what a rendering of the page holds."""
    return gzip.decompress(b"".join(rendering.gzip)).decode()


def parse(text: str) -> Page:
    """Return the samples of a page; no series may come twice, and no label may be empty."""
    page: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in page, f"{key} comes twice"
            assert all(sample.labels.values()), f"{key} has an empty label"
            page[key] = sample.value
    return page


def tokens(page: Page) -> Counter[tuple[str, ...]]:
    """Return the token counters that are not 0, by their labels."""
    names = (*USAGE_LABELS, "token_type")
    counts = {
        tuple(dict(labels)[name] for name in names): value
        for (family, labels), value in page.items()
        if family == TOKENS
    }
    return +Counter(counts)


def value(page: Page, name: str, **labels: str) -> float:
    """Return the one sample of ``name`` with exactly these labels."""
    return page[name, frozenset(labels.items())]


def total(page: Page, name: str, **labels: str) -> float:
    """Return the sum of the samples of ``name`` that carry these labels."""
    return sum(sample for (family, carried), sample in page.items() if family == name and labels.items() <= carried)


def by(page: Page, name: str, labels: Iterable[str]) -> dict[tuple[str, ...], float]:
    """Return the samples of ``name`` by the values of ``labels``."""
    return {
        tuple(dict(carried)[label] for label in labels): sample
        for (family, carried), sample in page.items()
        if family == name
    }


def watermark(page: Page) -> float:
    """Return the usage time that the counters have reached."""
    return value(page, "anthropic_usage_watermark_timestamp_seconds", report="usage")

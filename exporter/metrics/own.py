"""The metrics about ourselves: direct instrumentation, there from the first second."""

from collections import Counter as Counts
from collections.abc import Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from exporter.families import ODOMETERS
from exporter.metrics.catalog import BY_NAME
from exporter.model import PollOutcome, Report, RequestOutcome, Series

REASONS = (
    "auth",
    "bad_request",
    "bad_response",
    "connection",
    "permission",
    "rate_limited",
    "server",
    "state",
    "timeout",
)
RETRIED = ("connection", "rate_limited", "server", "timeout")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Histogram bounds: a request may take half a minute, a poll two."""
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ENDPOINTS = ("usage", "cost", "organization", "workspaces", "api_keys", "rate_limits")


class OwnMetrics:
    """Hears of requests, retries, polls and schema drift, and keeps count in ``registry``.

    Counters over closed sets exist from the start; what has a time or a success only once there was one.
    """

    def __init__(self, registry: CollectorRegistry, version: str, reports: Iterable[Report]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._registry = registry
        self._gauge("anthropic_exporter_build_info").labels(version).set(1)
        self._up = self._gauge("anthropic_up")
        self._last_success = self._gauge("anthropic_exporter_last_success_timestamp_seconds")
        self._skew: Gauge | None = None
        self._web_config: Gauge | None = None
        self._requests = self._counter("anthropic_exporter_api_requests_total")
        self._retries = self._counter("anthropic_exporter_api_retries_total")
        self._polls = self._counter("anthropic_exporter_polls_total")
        self._failures = self._counter("anthropic_exporter_poll_failures_total")
        self._drift = self._counter("anthropic_exporter_schema_drift_total")
        self._request_seconds = self._histogram("anthropic_exporter_api_request_duration_seconds")
        self._poll_seconds = self._histogram("anthropic_exporter_poll_duration_seconds")
        self._loaded = self._gauge("anthropic_exporter_state_loaded")
        self._commit_seconds = self._histogram("anthropic_exporter_state_commit_duration_seconds", COMMIT_SECONDS)
        self._folded = self._counter("anthropic_exporter_series_folded_total")
        self._folds: Counts[str] = Counts()
        self._rejected = self._counter("anthropic_exporter_prices_rejected_total")
        self._rejections = 0
        for report in reports:
            self._polls.labels(report)
            self._poll_seconds.labels(report)
            for reason in REASONS:
                self._failures.labels(report, reason)
        for family in ODOMETERS:
            self._folded.labels(family)
        for endpoint in ENDPOINTS:
            self._request_seconds.labels(endpoint)
            for reason in RETRIED:
                self._retries.labels(endpoint, reason)

    def request(self, outcome: RequestOutcome) -> None:
        """Count one request to the API."""
        self._requests.labels(outcome.endpoint, outcome.code).inc()
        self._request_seconds.labels(outcome.endpoint).observe(outcome.seconds)
        if outcome.clock_skew is not None:
            self._skew = self._skew or self._gauge("anthropic_exporter_clock_skew_seconds")
            self._skew.set(outcome.clock_skew)

    def retry(self, endpoint: str, reason: str) -> None:
        """Count one repeated request."""
        self._retries.labels(endpoint, reason).inc()

    def drift(self, field: str, rows: int) -> None:
        """Count ``rows`` whose ``field`` is not what this version knows."""
        self._drift.labels(field).inc(rows)

    def poll(self, outcome: PollOutcome) -> None:
        """Count a poll, once it has ended."""
        if not outcome.ended:
            return
        self._polls.labels(outcome.report).inc()
        self._poll_seconds.labels(outcome.report).observe(outcome.seconds)
        self._up.labels(outcome.report).set(outcome.reason is None)
        if outcome.reason is None:
            self._last_success.labels(outcome.report).set(outcome.started + outcome.seconds)
        else:
            self._failures.labels(outcome.report, outcome.reason).inc()

    def state(self, *, loaded: bool) -> None:
        """Say whether the counters go on from a state file."""
        self._loaded.set(loaded)

    def web_config(self, loaded: bool) -> None:  # noqa: FBT001 - what a door tells
        """Say whether the web config file could be used when it was last read."""
        self._web_config = self._web_config or self._gauge("anthropic_exporter_web_config_last_reload_successful")
        self._web_config.set(loaded)

    def commit(self, seconds: float) -> None:
        """Count one attempt to write the state file."""
        self._commit_seconds.observe(seconds)

    def folded(self, series: Iterable[Series]) -> None:
        """Take note of all label sets that have no series of their own; there are never fewer of them."""
        now = Counts(one.family for one in series)
        for family, more in (now - self._folds).items():
            self._folded.labels(family).inc(more * ODOMETERS[family].samples)
        self._folds = now

    def rejected_prices(self, count: int) -> None:
        """Take note of how many unit prices were rejected so far."""
        self._rejected.inc(count - self._rejections)
        self._rejections = count

    def _gauge(self, name: str) -> Gauge:
        metric = BY_NAME[name]
        return Gauge(name, metric.help, metric.labels, registry=self._registry)

    def _counter(self, name: str) -> Counter:
        metric = BY_NAME[name]
        return Counter(name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, name: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        metric = BY_NAME[name]
        return Histogram(name, metric.help, metric.labels, buckets=bounds, registry=self._registry)

"""Whether the exporter itself is well: for whoever runs it."""

from grafana.builder import Column, dashboard, line, now, stat, table, target, timeseries
from grafana.clocks import OWN, POLLED, USAGE
from grafana.looks import COUNT, DAYS, SECONDS, override
from grafana.queries import ANY, BEHIND, SILENT, total
from grafana.variables import DATA_SOURCE, JOB

FRESH = ((None, "green"), (1200, "orange"), (3600, "red"))
SERIES = ((None, "green"), (1, "orange"))
UP = [{"type": "value", "options": {"0": {"text": "failing", "color": "red"}, "1": {"text": "ok", "color": "green"}}}]


def _rate(counter: str, by: str) -> str:
    return total(f"rate({counter}{{{ANY}}}[$__rate_interval])", by)


def _quantile(quantile: float, histogram: str, by: str = "") -> str:
    """Return a quantile of an hour of observations; an hour without any has none."""
    buckets = total(f"increase({histogram}_bucket{{{ANY}}}[1h])", ", ".join(filter(None, ("le", by))))
    return f"histogram_quantile({quantile}, {buckets}) >= 0"


HEAD = line(
    4,
    (
        8,
        stat(
            1, "Reports",
            "Whether the last poll of each report succeeded. One that fails keeps its last values and hides no other: "
            f"see the failures below, then the log. {POLLED}",
            now(f"min by (report) (anthropic_up{{{ANY}}})", "{{report}}"), unit="none", mappings=UP,
            options={"colorMode": "background", "text": {"titleSize": 12, "valueSize": 18}},
        ),
    ),
    (
        4,
        stat(
            2, "Usage is behind by",
            "Age of the newest minute that the counters have reached. Five to seven minutes is normal; more means that "
            f"polls fail. {USAGE}",
            target(BEHIND),
            unit=SECONDS, decimals=0, steps=FRESH,
        ),
    ),
    (
        4,
        stat(
            3, "Bill is behind by",
            "Age of the newest billed day's end. A day or two is normal; more means that the cost report fails or that "
            f"the bill is late. {POLLED}",
            now(f"(time() - min(anthropic_cost_last_day_start_timestamp_seconds{{{ANY}}})) / 86400 - 1"),
            unit=DAYS, decimals=1, steps=((None, "green"), (2, "orange"), (4, "red")),
        ),
    ),
    (
        3,
        stat(
            4, "Restarts, 24 h",
            "Starts of the exporter. Counters go on from the state file, so a restart costs nothing; many of them are "
            f"a reason to read the log. {OWN}",
            now(f"sum(changes(process_start_time_seconds{{{ANY}}}[1d]))"), unit=COUNT, decimals=0,
            steps=((None, "green"), (3, "orange")),
        ),
    ),
    (
        3,
        stat(
            5, "Clock skew",
            "Seconds that the host's clock is ahead of the API's. The exporter corrects for it; set the clock anyway. "
            f"{OWN}",
            now(f"max(anthropic_exporter_clock_skew_seconds{{{ANY}}})"), unit=SECONDS, decimals=1,
            steps=((None, "orange"), (-60, "green"), (60, "orange")),
        ),
    ),
    (
        2,
        stat(
            6, "Version",
            f"The version that runs. Two of them at once are two writers: stop one. {OWN}",
            now(f"count by (version) (anthropic_exporter_build_info{{{ANY}}})", "{{version}}"), unit="none",
            options={"textMode": "name"},
        ),
    ),
)  # fmt: skip
FRESHNESS = line(
    8,
    timeseries(
        7, "Time since the last good poll",
        "By report. A line that climbs past its poll interval is a report that fails; a saw is normal. "
        f"{OWN}",
        target(f"time() - min by (report) (anthropic_exporter_last_success_timestamp_seconds{{{ANY}}})", "{{report}}",
               min_step="1m"),
        unit=SECONDS,
    ),
    timeseries(
        8, "Failed polls and retried requests per hour",
        "Polls by report and reason, and requests that were repeated. `auth` and `permission`: check the key. "
        f"`rate_limited`, `server`, `timeout`: the API; wait. `state`: the disk. {OWN}",
        target(f"{_rate('anthropic_exporter_poll_failures_total', 'report, reason')} * 3600 > 0",
               "{{report}}: {{reason}}"),
        target(f"{_rate('anthropic_exporter_api_retries_total', 'endpoint, reason')} * 3600 > 0",
               "retried {{endpoint}}: {{reason}}"),
        target(f"{_rate('anthropic_exporter_poll_failures_total', '')} * 3600", "all failed polls"),
        unit=COUNT,
    ),
)  # fmt: skip
REQUESTS = line(
    8,
    timeseries(
        9, "Requests to the Admin API per minute",
        "By endpoint and HTTP status; `none` is no answer. About one a minute is normal. Anything but 200 is explained "
        f"in the log. {OWN}",
        target(f"{_rate('anthropic_exporter_api_requests_total', 'endpoint, code')} * 60", "{{endpoint}} {{code}}"),
        unit=COUNT, stacked=True,
    ),
    timeseries(
        10, "Slowest requests and polls",
        "The 95th percentile of an hour: requests by endpoint, and whole polls of usage. Polls that take longer than "
        f"their interval make the figures late. {OWN}",
        target(_quantile(0.95, "anthropic_exporter_api_request_duration_seconds", "endpoint"), "{{endpoint}}"),
        target(_quantile(0.95, "anthropic_exporter_poll_duration_seconds", "report"), "poll of {{report}}"),
        unit=SECONDS,
    ),
)  # fmt: skip
COUNTING = line(
    8,
    (
        7,
        timeseries(
            11, "Late and overcounted tokens",
            "Tokens per hour that came after the watermark (they still count), and tokens that the API has taken back. "
            f"If much is late, raise usage.settle. {USAGE}",
            target(f"{_rate('anthropic_usage_late_tokens_total', 'report')} * 3600", "late, {{report}}"),
            target(f"max by (report) (anthropic_usage_overcounted_tokens{{{ANY}}})", "overcounted, {{report}}"),
            unit=COUNT,
        ),
    ),
    (
        7,
        timeseries(
            12, "Age of tokens when first seen",
            "How long the API takes to tell of tokens: the median, and what 99 % are under. usage.settle should be "
            f"above the upper line. {USAGE}",
            target(_quantile(0.5, "anthropic_usage_arrival_delay_seconds"), "median"),
            target(_quantile(0.99, "anthropic_usage_arrival_delay_seconds"), "99 %"),
            unit=SECONDS,
        ),
    ),
    (
        10,
        table(
            13, "Series by family",
            "Series that are shown, by counter family, and those that came in 24 hours when it was full "
            f"(metrics.max_series) and are summed in `other`; totals stay exact. {POLLED}",
            Column("Family", label="family"),
            Column(
                "Shown", expr=f"max by (family) (anthropic_exporter_series{{{ANY}}})", unit=COUNT,
                style={"custom_width": 75},
            ),
            Column(
                "Folded",
                expr=f"sum by (family) (increase(anthropic_exporter_series_folded_total{{{ANY}}}[1d]))", unit=COUNT,
                style={"custom_width": 75},
            ),
            by="Shown",
        ),
    ),
)  # fmt: skip
STATE = line(
    6,
    (
        12,
        timeseries(
            14, "State commits",
            "The 95th percentile of an hour of writing the state file; a slow disk delays polls, never scrapes. "
            f"{OWN}",
            target(_quantile(0.95, "anthropic_exporter_state_commit_duration_seconds"), "95 %"),
            unit=SECONDS,
        ),
    ),
    (
        12,
        stat(
            15, "Anything odd",
            "Counts of a day that should be 0: exporters that fell silent, figures that this version does not know "
            "(upgrade), series beyond the cap, absurd unit prices on the bill. And whether the counters went on from a "
            f"state file. {OWN}",
            now(SILENT, "exporters silent"),
            now(f"sum(increase(anthropic_exporter_schema_drift_total{{{ANY}}}[1d])) or vector(0)", "unknown figures"),
            now(f"sum(increase(anthropic_exporter_series_folded_total{{{ANY}}}[1d]))", "series folded"),
            now(f"sum(increase(anthropic_exporter_prices_rejected_total{{{ANY}}}[1d]))", "prices rejected"),
            now(f"min(anthropic_exporter_state_loaded{{{ANY}}})", "state resumed"),
            unit=COUNT, decimals=0, steps=SERIES,
            overrides=(
                override("state resumed", mappings=[{"type": "value", "options": {"0": {"text": "new", "color": "text"},
                         "1": {"text": "yes", "color": "green"}}}]),
            ),
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-exporter",
    "Anthropic / Exporter health",
    "Whether the exporter polls, keeps and counts as it should, and how fresh its figures are.",
    [HEAD, FRESHNESS, REQUESTS, COUNTING, STATE],
    [DATA_SOURCE, JOB],
    "now-3h",
)

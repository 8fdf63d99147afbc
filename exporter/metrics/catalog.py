"""The single table of every metric: name, type, labels, help; whatever repeats it is checked against it."""

from dataclasses import dataclass
from typing import Literal

from exporter.model import BILLED, SERVER_TOOL_REQUESTS, TOKENS, USAGE_DIMENSIONS

COST_LABELS = (*USAGE_DIMENSIONS, "cost_type", "token_type")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family; ``labels`` in the order in which series carry them."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


USAGE = (
    Metric(
        TOKENS,
        "counter",
        (*USAGE_DIMENSIONS, "token_type"),
        "Tokens used, by the time of use, up to the usage watermark; token types are disjoint. "
        "Cached, refreshed every poll.",
    ),
    Metric(
        SERVER_TOOL_REQUESTS,
        "counter",
        (*USAGE_DIMENSIONS, "tool"),
        "Requests to server tools, by the time of use, up to the usage watermark. Cached, refreshed every poll.",
    ),
)
USAGE_STATE = (
    Metric(
        "anthropic_usage_watermark_timestamp_seconds",
        "gauge",
        ("report",),
        "Unix time of use that the counters of a report have reached; stands still when polls fail.",
    ),
    Metric(
        "anthropic_usage_late_tokens_total",
        "counter",
        ("report",),
        "Tokens that were counted after the watermark had passed their time of use (they arrived later than settle).",
    ),
    Metric(
        "anthropic_usage_overcounted_tokens",
        "gauge",
        ("report",),
        "Tokens by which the counters exceed what the API says now; a counter is never lowered. "
        "Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_usage_arrival_delay_seconds",
        "histogram",
        (),
        "Age of tokens, from the end of their bucket, when first seen, weighted by tokens; choose settle by it.",
    ),
)
COST = (
    Metric(
        BILLED,
        "counter",
        COST_LABELS,
        "Billed cost in USD of finished UTC days, from the anchor's day on, organisation-wide; without Priority Tier. "
        "Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_cost_last_day_usd",
        "gauge",
        COST_LABELS,
        "Billed cost in USD of the newest UTC day that has a bill, organisation-wide. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_cost_last_day_start_timestamp_seconds",
        "gauge",
        (),
        "Unix time at which the newest UTC day that has a bill began. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_cost_month_to_date_usd",
        "gauge",
        COST_LABELS,
        "Billed cost in USD of the days of this UTC month that have a bill, organisation-wide. "
        "Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_cost_previous_month_usd",
        "gauge",
        COST_LABELS,
        "Billed cost in USD of the UTC month before this one, organisation-wide. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_cost_overcounted_usd",
        "gauge",
        (),
        "USD by which the billed counters exceed what the API says now; a counter is never lowered. "
        "Cached, refreshed every poll.",
    ),
)
NAMES = (
    Metric(
        "anthropic_organization_info",
        "gauge",
        ("organization_id", "organization_name"),
        "The organisation that the key belongs to; always 1. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_workspace_info",
        "gauge",
        ("workspace_id", "workspace_name", "state"),
        "What a workspace is called, for every id on a series; always 1. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_api_key_info",
        "gauge",
        ("api_key_id", "api_key_name", "workspace_id", "status"),
        "What an API key is called; always 1. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_api_key_expires_timestamp_seconds",
        "gauge",
        ("api_key_id",),
        "Unix time at which an API key expires; absent for keys that do not. Cached, refreshed every poll.",
    ),
)
SERIES = Metric(
    "anthropic_exporter_series",
    "gauge",
    ("family",),
    "Series of a counter family that are shown.",
)
OWN = (
    Metric(
        "anthropic_up",
        "gauge",
        ("report",),
        "Whether the last poll of a report succeeded (1) or failed (0); absent before its first poll.",
    ),
    Metric(
        "anthropic_exporter_build_info",
        "gauge",
        ("version",),
        "The version that runs; always 1.",
    ),
    Metric(
        "anthropic_exporter_api_requests_total",
        "counter",
        ("endpoint", "code"),
        "Requests to the Admin API by HTTP status, or code none when no answer came.",
    ),
    Metric(
        "anthropic_exporter_api_request_duration_seconds",
        "histogram",
        ("endpoint",),
        "Seconds that requests to the Admin API took.",
    ),
    Metric(
        "anthropic_exporter_api_retries_total",
        "counter",
        ("endpoint", "reason"),
        "Requests that were repeated within a poll after a passing failure.",
    ),
    Metric(
        "anthropic_exporter_polls_total",
        "counter",
        ("report",),
        "Polls that have ended, failed ones included.",
    ),
    Metric(
        "anthropic_exporter_poll_failures_total",
        "counter",
        ("report", "reason"),
        "Polls that failed for good.",
    ),
    Metric(
        "anthropic_exporter_poll_duration_seconds",
        "histogram",
        ("report",),
        "Seconds from the begin of a poll to its end, waits between attempts included.",
    ),
    Metric(
        "anthropic_exporter_last_success_timestamp_seconds",
        "gauge",
        ("report",),
        "Unix time at which the last successful poll of a report ended; absent before it.",
    ),
    Metric(
        "anthropic_exporter_schema_drift_total",
        "counter",
        ("field",),
        "Usage rows with a figure that this version does not count, or without one that it should have; "
        "a row counts at each read.",
    ),
    Metric(
        "anthropic_exporter_state_loaded",
        "gauge",
        (),
        "Whether the counters go on from a state file (1) or began anew at this start (0).",
    ),
    Metric(
        "anthropic_exporter_state_commit_duration_seconds",
        "histogram",
        (),
        "Seconds that writing the state file took, failed attempts included; one for each attempt at a poll.",
    ),
    Metric(
        "anthropic_exporter_series_folded_total",
        "counter",
        ("family",),
        "Series that came after a family was full (metrics.max_series) and are counted in the label set `other`.",
    ),
    Metric(
        "anthropic_exporter_clock_skew_seconds",
        "gauge",
        (),
        "Seconds that this host's clock is ahead of the API's Date header.",
    ),
)
CATALOG = (*USAGE, *USAGE_STATE, *COST, *NAMES, *OWN, SERIES)
BY_NAME = {metric.name: metric for metric in CATALOG}

"""The single table of every metric: name, type, labels, help; whatever repeats it is checked against it."""

from dataclasses import dataclass
from typing import Literal

from exporter.families import (
    API_KEY_ESTIMATED,
    API_KEY_TOKENS,
    API_KEY_TOOL_REQUESTS,
    BILLED,
    COST_LABELS,
    ESTIMATE_LABELS,
    ESTIMATED,
    ODOMETERS,
    SERVER_TOOL_REQUESTS,
    TOKENS,
    UNPRICED,
)
from exporter.model import PriceKey

CACHED = "Cached, refreshed every poll."


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family; ``labels`` in the order in which series carry them."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


def _odometer(name: str, meaning: str) -> Metric:
    """Return the row of a counter family whose labels are told in the model."""
    odometer = ODOMETERS[name]
    labels = (*odometer.labels, odometer.lane) if odometer.lane else odometer.labels
    return Metric(name, "counter", labels, f"{meaning} {CACHED}")


COUNTERS = (
    _odometer(TOKENS, "Tokens used, by the time of use, up to the usage watermark; token types are disjoint."),
    _odometer(SERVER_TOOL_REQUESTS, "Requests to server tools, by the time of use, up to the usage watermark."),
    _odometer(
        API_KEY_TOKENS,
        "Tokens used by API key, by the time of use, up to the watermark of report api_key_usage; the same tokens as "
        "in the usage counters.",
    ),
    _odometer(
        API_KEY_TOOL_REQUESTS,
        "Requests to server tools by API key, by the time of use; the same requests as in the usage counters.",
    ),
    _odometer(
        ESTIMATED,
        "Estimated cost in USD: usage times the price in force at the time of use, never repriced, since the first "
        "start; without Priority Tier.",
    ),
    _odometer(
        API_KEY_ESTIMATED,
        "Estimated cost in USD by API key, web search included; the same dollars as in the estimated cost counters.",
    ),
    _odometer(UNPRICED, "Tokens that no estimate covers, because their model and tier have no price."),
    _odometer(
        BILLED,
        "Billed cost in USD of finished UTC days, from the anchor's day on, organisation-wide; without Priority Tier.",
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
MONEY = (
    Metric(
        "anthropic_cost_unbilled_estimate_usd",
        "gauge",
        ESTIMATE_LABELS,
        "Estimated cost in USD of this UTC month's days that have no bill, up to the usage watermark, "
        "organisation-wide; adds to month to date. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_price_usd_per_token",
        "gauge",
        (*PriceKey._fields, "basis"),
        "Price of a token in USD that is in use; basis says whether it is learned from the bill, listed, or an "
        "override. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_price_usd_per_request",
        "gauge",
        ("tool", "basis"),
        "Price of a request to a server tool in USD that is in use. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_estimate_to_bill_ratio",
        "gauge",
        (),
        "Estimate that was made in time by the bill, of the newest UTC day that has both; 1 is a perfect estimate. "
        "Cached, refreshed every poll.",
    ),
)
BUDGETS = (
    Metric(
        "anthropic_budget_usd",
        "gauge",
        (),
        "Monthly budget of the organisation in USD, from the settings; absent when unset.",
    ),
    Metric(
        "anthropic_workspace_budget_usd",
        "gauge",
        ("workspace_id",),
        "Monthly budget of a workspace in USD, from the settings; absent when unset.",
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
LIMITS = (
    Metric(
        "anthropic_rate_limit",
        "gauge",
        ("model_group", "limit"),
        "Rate limit of the organisation, in what its name says, for a group of models. Cached, refreshed every poll.",
    ),
    Metric(
        "anthropic_model_group_info",
        "gauge",
        ("model", "model_group"),
        "Which models share the rate limits of a group; always 1. Cached, refreshed every poll.",
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
        "anthropic_exporter_web_config_last_reload_successful",
        "gauge",
        (),
        "Whether the web config file could be used when it was last read (1) or the one before stays in force (0).",
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
        "anthropic_exporter_prices_rejected_total",
        "counter",
        (),
        "Unit prices of a billed day that were absurd (zero, negative, or over 20 times the list) and not used.",
    ),
    Metric(
        "anthropic_exporter_clock_skew_seconds",
        "gauge",
        (),
        "Seconds that this host's clock is ahead of the API's Date header.",
    ),
)
SNAPSHOT = (*COUNTERS, *USAGE_STATE, *COST, *MONEY, *BUDGETS, *LIMITS, *NAMES, SERIES)
"""What a snapshot has something for; the rest is instrumented directly."""
CATALOG = (*SNAPSHOT, *OWN)
BY_NAME = {metric.name: metric for metric in CATALOG}

"""Moments, amounts and failures in plain words."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from exporter.model import DAY, HOUR, MINUTE, Report

CENT = Decimal("0.01")

SPANS = ((100, 1, "s"), (100 * MINUTE, MINUTE, "min"), (48 * HOUR, HOUR, "h"), (float("inf"), DAY, "days"))
"""Up to how many seconds a span is told in which unit."""


class Failure(NamedTuple):
    """What a failure's reason means, what to do about it, and the runbook that says more."""

    meaning: str
    remedy: str
    runbook: str = "AnthropicApiErrors"


FAILURES = {
    "auth": Failure(
        "The Admin API does not accept the key",
        "See whether it is an Admin API key and not an ordinary one, and whether it has been revoked or has expired. "
        "A new key in the key file is taken up without a restart.",
        "AnthropicAuthRefused",
    ),
    "bad_request": Failure(
        "The Admin API does not understand what it is asked",
        "See whether the filters of the settings name what exists, then whether there is a newer version of the "
        "exporter. The log has the details.",
    ),
    "bad_response": Failure(
        "The answer is not what the Admin API promises, and nothing of it is used",
        "See whether something on the way answers in its place (a proxy, a login page), then whether there is a newer "
        "version of the exporter. The log has the details.",
    ),
    "connection": Failure(
        "The Admin API cannot be reached",
        "See whether this host may connect to it: network, DNS, proxy and certificate variables, api.base_url.",
    ),
    "permission": Failure(
        "The key may not read this",
        "Give it the right to, or use another Admin API key. The other reports do not suffer.",
        "AnthropicAuthRefused",
    ),
    "rate_limited": Failure(
        "The Admin API answers that it is asked too often",
        "It is asked again when it says so. If this stays, see what else uses the Admin API of this organisation, or "
        "let this report be polled less often.",
        "AnthropicRateLimited",
    ),
    "server": Failure(
        "The Admin API has a fault of its own",
        "There is nothing to do: it is asked again, and what is missing is read then.",
    ),
    "state": Failure(
        "What was read cannot be written to the state file, and so it is not served",
        "See whether the disk of state.path is full or read-only. Nothing is lost: it is read again.",
        "AnthropicStateNotPersisted",
    ),
    "timeout": Failure(
        "The Admin API does not answer in time",
        "It is asked again. If this stays, see whether a proxy or the network is slow, or allow more with api.timeout.",
    ),
}
"""By the reasons of ``anthropic_exporter_poll_failures_total``."""

REPORTS: dict[Report, tuple[str, str]] = {
    "usage": ("Usage", "Tokens and server tool requests by model and workspace, and what they cost by estimate"),
    "api_key_usage": ("Usage by API key", "The same tokens and dollars, by the API key that used them"),
    "cost": ("Cost", "The bill: what finished days cost, to the cent"),
    "names": ("Names", "What the organisation, its workspaces and its API keys are called"),
    "limits": ("Rate limits", "How much each group of models may be used"),
}
"""What a report is called, and what it brings."""


def failure(reason: str) -> Failure:
    """Return what a reason means; there is something to say of one that nobody has described, too."""
    return FAILURES.get(reason) or Failure(f"It fails ({reason})", "The log has the details.")


def ago(time: float, now: float) -> str:
    """Say how long ago something was."""
    return f"{_span(now - time)} ago"


def ahead(time: float, now: float) -> str:
    """Say when something will be."""
    return "due now" if time <= now else f"in {_span(time - now)}"


def minutes(seconds: float) -> str:
    """Say a span of less than an hour in whole minutes."""
    count = min(59, round(seconds / MINUTE))
    return "minute" if count == 1 else f"{count} minutes"


def clock(time: float, now: float) -> str:
    """Say a UTC time of day, and the day unless it is today."""
    at, today = _utc(time), _utc(now).date()
    return f"{at:%H:%M} UTC" if at.date() == today else f"{at.day} {at:%b %H:%M} UTC"


def moment(time: float) -> str:
    """Say a UTC time to the second."""
    return f"{day(time)}, {_utc(time):%H:%M:%S} UTC"


def day(time: float) -> str:
    """Say a UTC day."""
    at = _utc(time)
    return f"{at.day} {at:%B %Y}"


def month(time: float) -> str:
    """Say a UTC month."""
    return f"{_utc(time):%B %Y}"


def usd(amount: Decimal) -> str:
    """Say an amount to the cent."""
    if 0 < amount < CENT:
        return "< $0.01"
    return f"${amount.quantize(CENT, ROUND_HALF_UP):,}"


def _span(seconds: float) -> str:
    for most, unit, word in SPANS:
        if seconds < most:
            return f"{max(0, int(seconds // unit))} {word}"
    raise AssertionError


def _utc(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)

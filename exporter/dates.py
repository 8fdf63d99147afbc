"""Unix times and UTC days, and how both are written."""

from datetime import UTC, date, datetime
from datetime import time as time_of_day


def day_of(time: float) -> date:
    """Return the UTC day that a Unix time lies in."""
    return datetime.fromtimestamp(time, UTC).date()


def midnight(day: date) -> int:
    """Return the Unix time at which a UTC day begins."""
    return int(datetime.combine(day, time_of_day(), UTC).timestamp())


def moment(time: float) -> str:
    """Return a Unix time as people read it, to the minute."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rfc3339(time: float) -> str:
    """Return a Unix time as the Admin API writes it, to the second."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

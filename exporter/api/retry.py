"""How long to wait before asking again; pure.

The API asks for exponential backoff and sends ``Retry-After`` with most 429s (Admin API reference, errors).
"""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 0.5, 30.0
LONGEST_WISH = 3600.0


def pause(attempt: int, retry_after: float | None, spread: float) -> float:
    """Return the seconds to wait after the ``attempt``-th failure (from 1), never less than the server's wish.

    ``spread`` in [0, 1) is the jitter: clients that failed together must not return together.
    """
    backoff = min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 16)) * (0.5 + spread)
    return backoff if retry_after is None else max(backoff, retry_after + backoff * 0.1)


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110: seconds or a date), or None.

    Wishes are believed up to an hour.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).replace(tzinfo=UTC).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), LONGEST_WISH)

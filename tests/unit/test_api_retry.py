from email.utils import formatdate
from itertools import pairwise

import pytest

from exporter.api.retry import FIRST, LONGEST, LONGEST_WISH, parse_retry_after, pause

NOW = 1_793_577_600.0
SPREADS = (0.0, 0.25, 0.5, 0.999)


@pytest.mark.parametrize("spread", SPREADS)
def test_the_backoff_doubles_up_to_its_longest(spread: float) -> None:
    waits = [pause(attempt, None, spread) for attempt in range(1, 12)]
    assert waits[0] == FIRST * (0.5 + spread)
    for before, after in pairwise(waits):
        assert after == pytest.approx(min(2 * before, LONGEST * (0.5 + spread)))


def test_clients_that_failed_together_do_not_return_together() -> None:
    assert len({pause(3, None, spread) for spread in SPREADS}) == len(SPREADS)
    assert len({pause(3, 60.0, spread) for spread in SPREADS}) == len(SPREADS)


@pytest.mark.parametrize("attempt", [1, 2, 17, 10_000])
@pytest.mark.parametrize("wish", [0.0, 0.1, 3.0, 59.5, LONGEST_WISH])
def test_a_pause_undercuts_neither_the_wish_nor_the_backoff(attempt: int, wish: float) -> None:
    for spread in SPREADS:
        wait = pause(attempt, wish, spread)
        assert wait >= wish
        assert wait >= pause(attempt, None, spread)
        assert wait <= wish + 1.5 * LONGEST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("30", 30), ("2.5", 2.5), (" 7 ", 7), ("3600", 3600)],
)
def test_retry_after_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW) == seconds


def test_retry_after_is_read_as_an_http_date() -> None:
    assert parse_retry_after(formatdate(NOW + 90, usegmt=True), NOW) == 90
    assert parse_retry_after("Wednesday, 21-Oct-15 07:28:00 GMT", 1_445_412_480.0 - 8) == 8


@pytest.mark.parametrize("text", ["-5", "-1e9", "-inf", formatdate(NOW - 90, usegmt=True)])
def test_a_wish_for_the_past_is_a_wish_for_now(text: str) -> None:
    assert parse_retry_after(text, NOW) == 0


@pytest.mark.parametrize(
    "text", ["3601", "1e10", "9" * 400, "inf", "1e400", formatdate(NOW + 86400, usegmt=True), formatdate(2**37)]
)
def test_an_absurd_wish_is_believed_up_to_an_hour(text: str) -> None:
    assert parse_retry_after(text, NOW) == LONGEST_WISH


@pytest.mark.parametrize(
    "text",
    [None, "", " ", "nan", "-nan", "soon", "5, 5", "5s", "\xff\xfe", "Wed, 99 Oct 2026 07:28:00 GMT", ",", "1 2 3 4 5",
     "Wed, 21 Oct 99999 07:28:00 GMT", "0x10", "\x00"],
)  # fmt: skip
def test_what_is_neither_seconds_nor_a_date_is_no_wish(text: str | None) -> None:
    assert parse_retry_after(text, NOW) is None

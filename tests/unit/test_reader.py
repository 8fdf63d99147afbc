"""The Admin API for commands: how patient it is, how polite, and what it says."""

from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest

from exporter.api.client import Timing
from exporter.api.credentials import Credentials
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import Tokens
from exporter.errors import BadResponseError, StartError
from exporter.model import DAY, HOUR, Window
from exporter.reader import HELLO, LONGEST_WAIT, PATIENCE, Reader
from exporter.settings import load
from tests.events import SONNET, Use, WrittenOrganization
from tests.world import KEY, at

NOW = at("2026-11-19T10:00:00")
TODAY = int(at("2026-11-19"))
LOOPBACK, FAR = "http://127.0.0.1", "https://api.anthropic.com"
ONE_HOUR = Window(HOUR, TODAY, TODAY + HOUR)


class Desk:
    """A reader of a simulated API whose clock moves only while somebody waits, or with an answer's ``seconds``."""

    def __init__(self, base_url: str = LOOPBACK, *, seconds: float = 0.0) -> None:
        self.now = NOW
        self.seconds = seconds
        organization = WrittenOrganization([Use(TODAY + 60, SONNET, Tokens(output=7))])
        self.api = AdminApi(organization, key=KEY, clock=self.time)
        self.said: list[str] = []
        self.is_down = False
        self.changed = b"", b""
        """What each answer has in place of something."""
        settings = load(
            ["--api.base-url", base_url],
            {"ANTHROPIC_ADMIN_API_KEY": KEY},
            today=datetime.fromtimestamp(NOW, UTC).date(),
        )
        timing = Timing(clock=self.time, timer=self.time, sleep=self.sleep, spread=lambda: 0.5)
        transport = httpx.MockTransport(self._answer)
        self.reader = Reader(settings, Credentials(KEY, None), say=self.said.append, timing=timing, transport=transport)
        self._inner = httpx.WSGITransport(app=self.api)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.now += self.seconds
        if self.is_down:
            raise httpx.ConnectError("refused")
        answer = self._inner.handle_request(request)
        if not all(self.changed):
            return answer
        return httpx.Response(answer.status_code, content=answer.read().replace(*self.changed))

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def fail(
        self, kind: int, endpoint: str = "usage", times: int | None = None, retry_after: str | None = None
    ) -> None:
        self.api.faults.add(Fault(kind=kind, endpoint=endpoint, times=times, retry_after=retry_after))

    def read(self, window: Window = ONE_HOUR) -> int:
        """Return the output tokens of a window."""
        buckets = self.reader.get(lambda: self.reader.api.usage(window))
        return sum(counts[-1] for bucket in buckets for series, counts in bucket.counts.items() if len(counts) > 1)


def test_what_is_well_is_read_at_once_and_nothing_is_said() -> None:
    desk = Desk()
    assert (desk.read(), desk.now, desk.said) == (7, NOW, [])


def test_it_waits_as_the_api_wishes_and_says_so_each_time() -> None:
    desk = Desk()
    desk.fail(429, times=3, retry_after="45")
    assert desk.read() == 7
    times = [seen.time for seen in desk.api.log]
    assert len(times) == 4
    assert all(after - before >= 45 for before, after in pairwise(times))
    assert desk.now - NOW < 3 * 60
    assert len(desk.said) == 3
    assert all(told.startswith("usage: the API answered 429") for told in desk.said)
    assert all(told.endswith("; waiting 45 s") for told in desk.said)


def test_a_wish_may_be_longer_than_what_it_waits_on_its_own() -> None:
    desk = Desk()
    desk.fail(429, times=1, retry_after="300")
    assert desk.read() == 7
    assert 300 <= desk.now - NOW < 302


def test_without_a_wish_it_waits_twice_as_long_each_time() -> None:
    desk = Desk()
    desk.fail(500, times=1000)
    with pytest.raises(StartError):
        desk.read()
    waits = [int(told.rpartition("waiting ")[2].removesuffix(" s")) for told in desk.said]
    # The client's own three attempts in between take some seconds, too.
    assert waits[3:7] == [8, 16, 32, LONGEST_WAIT]
    assert max(waits[:3]) <= 4
    assert set(waits[6:]) == {LONGEST_WAIT}


@pytest.mark.parametrize(("kind", "wish"), [(500, None), (529, None), (429, "90"), (429, "3600")])
def test_it_gives_up_when_its_patience_is_at_its_end(kind: int, wish: str | None) -> None:
    desk = Desk()
    desk.fail(kind, retry_after=wish)
    with pytest.raises(StartError) as error:
        desk.read()
    waited = sum(int(told.rpartition("waiting ")[2].removesuffix(" s")) for told in desk.said)
    next_wait = int(wish or LONGEST_WAIT)
    assert waited <= PATIENCE < waited + next_wait + 1
    assert str(error.value).startswith(f"usage: the API answered {kind}")
    assert str(error.value).endswith(f"; tried for {waited} s, try again later")
    assert waited + next_wait > PATIENCE
    assert desk.now - NOW < PATIENCE + 120


def test_patience_begins_anew_with_each_answer() -> None:
    desk = Desk()
    for _ in range(3):
        desk.fail(429, times=1, retry_after="400")
        assert desk.read() == 7
        desk.api.faults.clear()
    assert desk.now - NOW >= 1200


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (401, "; is this an Admin API key, and has it not expired?"),
        (403, "; give the key the right to read it, or use a key that has it"),
    ],
)
def test_a_key_that_is_refused_is_told_with_the_remedy_at_once(kind: int, remedy: str) -> None:
    desk = Desk()
    desk.fail(kind)
    with pytest.raises(StartError) as error:
        desk.read()
    assert str(error.value).startswith(f"usage: the API answered {kind}")
    assert str(error.value).endswith(remedy)
    assert (len(desk.api.log), desk.said, desk.now) == (1, [], NOW)


def test_an_answer_that_is_none_is_not_asked_for_again() -> None:
    desk = Desk()
    desk.api.faults.add(Fault(kind="html", endpoint="usage"))
    with pytest.raises(BadResponseError):
        desk.read()
    assert len(desk.api.log) == 1


def test_what_may_not_be_read_is_none_and_said() -> None:
    desk = Desk()
    name = desk.reader.readable("the name", desk.reader.api.organization)
    assert (name and name.name, desk.said) == ("Written Organisation", [])
    desk.fail(403, "organization")
    assert desk.reader.readable("the name", desk.reader.api.organization) is None
    (told,) = desk.said
    assert told.startswith("organization: the API answered 403")
    assert told.endswith("; going on without the name: give the key the right to read it")


def test_what_may_be_read_is_waited_for_and_a_bad_key_is_still_one() -> None:
    desk = Desk()
    desk.fail(429, "organization", times=2, retry_after="30")
    name = desk.reader.readable("the name", desk.reader.api.organization)
    assert name
    assert (name.name, len(desk.said), desk.now - NOW >= 60) == ("Written Organisation", 2, True)
    desk.fail(401, "organization")
    with pytest.raises(StartError, match="is this an Admin API key"):
        desk.reader.readable("the name", desk.reader.api.organization)


@pytest.mark.parametrize(
    ("base_url", "seconds", "pace"), [(FAR, 0.0, 1.0), (FAR, 0.4, 1.0), (FAR, 2.5, 2.5), (LOOPBACK, 0.4, 0.4)]
)
def test_a_real_api_is_asked_once_a_second_at_most(base_url: str, seconds: float, pace: float) -> None:
    desk = Desk(base_url, seconds=seconds)
    for _ in range(5):
        desk.read()
    times = [seen.time for seen in desk.api.log]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([pace] * 4)


def test_a_range_is_read_page_by_page() -> None:
    desk = Desk()
    days = Window(DAY, TODAY - 39 * DAY, TODAY + DAY)
    parts = list(desk.reader.buckets(desk.reader.api.usage, days))
    assert [(part.start, part.end) for part, _ in parts] == [
        (days.start, days.start + 31 * DAY),
        (days.start + 31 * DAY, days.end),
    ]
    read = [bucket for _, buckets in parts for bucket in buckets]
    assert [bucket.start for bucket in read] == list(range(days.start, days.end, DAY))
    assert [bucket.start for bucket in read if bucket.counts] == [TODAY]


def test_a_figure_that_is_new_or_missing_is_said_once() -> None:
    desk = Desk()
    desk.changed = b'"output_tokens"', b'"exit_tokens"'
    assert [desk.read(), desk.read()] == [0, 0]
    assert sorted(desk.said) == [
        f"the API's figure {name!r} is new or missing; a newer version may know it"
        for name in ("exit_tokens", "output_tokens")
    ]


def test_an_api_that_has_never_answered_is_given_up_soon() -> None:
    desk = Desk()
    desk.is_down = True
    told = r"^http://127\.0\.0\.1 does not answer: usage: refused; correct --api\.base-url, or the network$"
    with pytest.raises(StartError, match=told):
        desk.read()
    assert desk.now - NOW < 10 * HELLO


def test_an_api_that_has_answered_is_waited_for() -> None:
    desk = Desk()
    desk.read()
    desk.is_down = True
    with pytest.raises(StartError, match="usage: refused; tried for"):
        desk.read()
    assert desk.now - NOW > PATIENCE - LONGEST_WAIT

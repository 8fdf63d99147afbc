"""One poll: what it does with failures, and when it comes back."""

from collections.abc import Callable, Sequence

import pytest

from exporter.errors import ApiError, AuthError, BadResponseError, RateLimitedError, ServerError
from exporter.model import PollOutcome
from exporter.polling.poll import Poll, Source, Step


class Bench:
    """A poll of scripted steps, with a clock that only we move."""

    def __init__(self, *script: list[ApiError | Exception | None], independent: bool = False) -> None:
        self.now = 1000.0
        self.done: list[object] = []
        self.reported: list[PollOutcome] = []
        self._script = list(script)
        source = Source("cost", self._steps, lambda now: self.done.append(("complete", now)), independent)
        self.poll = Poll(
            source,
            publish=lambda: self.done.append("publish"),
            report=self.reported.append,
            clock=lambda: self.now + 1e9,
            timer=lambda: self.now,
            deadline=60,
        )

    def _steps(self, _now: float) -> Sequence[Step]:
        return [self._step(number, failure) for number, failure in enumerate(self._script.pop(0))]

    def _step(self, number: int, failure: Exception | None) -> Callable[[], None]:
        def step() -> None:
            if failure:
                raise failure
            self.done.append(number)

        return step


def test_all_steps_then_complete_then_publish() -> None:
    bench = Bench([None, None])
    outcome = bench.poll.run()
    assert bench.done == [0, 1, ("complete", 1000.0 + 1e9), "publish"]
    assert (outcome.ended, outcome.reason) == (True, None)
    assert bench.reported == [outcome]


def test_a_failure_stops_the_poll_and_completes_nothing_but_publishes_what_there_is() -> None:
    bench = Bench([None, AuthError("no"), None])
    outcome = bench.poll.run()
    assert bench.done == [0, "publish"]
    assert (outcome.ended, outcome.reason, outcome.retry_in) == (True, "auth", None)


def test_independent_steps_do_not_hide_each_other() -> None:
    bench = Bench([AuthError("no"), None, ServerError("down")], independent=True)
    outcome = bench.poll.run()
    assert bench.done == [1, "publish"]
    assert outcome.reason in {"auth", "server"}


def test_a_passing_failure_is_taken_up_again_within_the_deadline() -> None:
    bench = Bench([ServerError("down")], [ServerError("down")], [None])
    waits = []
    for _ in range(2):
        outcome = bench.poll.run()
        assert not outcome.ended
        assert outcome.retry_in
        waits.append(outcome.retry_in)
        bench.now += outcome.retry_in
    assert waits == [2, 4]
    outcome = bench.poll.run()
    assert (outcome.ended, outcome.reason, outcome.started, outcome.seconds) == (True, None, 1e9 + 1000.0, 6.0)


def test_beyond_the_deadline_the_poll_has_failed_and_the_wish_of_the_server_stands() -> None:
    bench = Bench([RateLimitedError("slow down", retry_after=90)])
    outcome = bench.poll.run()
    assert (outcome.ended, outcome.reason, outcome.retry_in) == (True, "rate_limited", 90)


def test_the_next_poll_begins_anew() -> None:
    bench = Bench([ServerError("down", retry_after=100)], [ServerError("down")])
    bench.poll.run()
    bench.now += 3600
    assert bench.poll.run().started == 1e9 + 4600.0


def test_something_urgent_goes_first() -> None:
    bench = Bench([None, None, None])
    outcome = bench.poll.run(lambda: True)
    assert bench.done == [0, "publish"]
    assert (outcome.ended, outcome.reason, outcome.retry_in) == (False, None, 0.0)
    assert not bench.poll.run(lambda: True).ended
    assert bench.poll.run(lambda: True).ended
    assert bench.done == [0, "publish", 1, "publish", 2, ("complete", 1e9 + 1000.0), "publish"]


def test_the_longest_wish_of_the_server_is_heard_and_a_rate_limit_ends_the_attempt() -> None:
    bench = Bench([ServerError("down"), RateLimitedError("slow down", retry_after=50), None], independent=True)
    outcome = bench.poll.run()
    assert (outcome.reason, outcome.retry_in) == ("rate_limited", 50)
    assert bench.done == ["publish"]


def test_our_own_mistake_is_a_failed_poll_not_a_dead_meter(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench([KeyError("oops")])
    outcome = bench.poll.run()
    assert outcome.reason == BadResponseError.reason
    assert "oops" in outcome.message
    assert "oops" in caplog.text

"""The schedule: one worker, usage first, nothing dropped for being late."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from exporter.model import PollOutcome
from exporter.polling.schedule import Schedule, Task, _Pace

WAIT = 5.0


def outcome(*, ended: bool = True, retry_in: float | None = None) -> PollOutcome:
    return PollOutcome("usage", 0.0, 0.0, ended=ended, retry_in=retry_in)


class Recorder:
    """Tasks that write down when they ran, and fail the test if two ever overlap."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.changed = threading.Condition()
        self._busy = threading.Lock()

    def task(self, name: str, work: Callable[[int], PollOutcome], interval: float = 3600, rank: int = 1) -> Task:
        def run(_give_way: Callable[[], bool]) -> PollOutcome:
            assert self._busy.acquire(blocking=False), "two polls at once"
            try:
                with self.changed:
                    self.ran.append(name)
                    self.changed.notify_all()
                return work(self.ran.count(name))
            finally:
                self._busy.release()

        return Task(run, interval, rank)

    def wait_for(self, count: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.ran) >= count, WAIT), self.ran
            return self.ran[:count]


def test_every_task_runs_at_once_the_urgent_one_first() -> None:
    record = Recorder()
    schedule = Schedule(
        {
            "names": record.task("names", lambda _n: outcome()),
            "usage": record.task("usage", lambda _n: outcome(), rank=0),
        }
    )
    schedule.start()
    try:
        assert record.wait_for(2) == ["usage", "names"]
        assert schedule.alive()
    finally:
        schedule.stop()
    assert not schedule.alive()


def test_what_becomes_due_while_the_worker_is_busy_runs_by_rank() -> None:
    record = Recorder()

    def slow(_number: int) -> PollOutcome:
        time.sleep(1.2)
        return outcome()

    schedule = Schedule(
        {
            "cost": record.task("cost", slow),
            "names": record.task("names", lambda _n: outcome(), rank=2),
            "usage": record.task("usage", lambda _n: outcome(), interval=1, rank=0),
        }
    )
    schedule.start()
    try:
        assert record.wait_for(4) == ["usage", "cost", "usage", "names"]
    finally:
        schedule.stop()


def test_a_poll_that_has_not_ended_comes_back_when_it_asked_to() -> None:
    record = Recorder()
    work = record.task("cost", lambda number: outcome(ended=number > 1, retry_in=0.2 if number == 1 else None))
    schedule = Schedule({"cost": work})
    schedule.start()
    try:
        assert record.wait_for(2) == ["cost", "cost"]
    finally:
        schedule.stop()


def test_giving_way_at_once_does_not_lose_the_poll() -> None:
    record = Recorder()
    schedule = Schedule(
        {"cost": record.task("cost", lambda number: outcome(ended=number > 3, retry_in=0.0 if number <= 3 else None))}
    )
    schedule.start()
    try:
        assert record.wait_for(4) == ["cost"] * 4
    finally:
        schedule.stop()


def test_a_failed_poll_waits_as_long_as_the_server_wished_even_past_its_tick() -> None:
    record = Recorder()
    schedule = Schedule({"usage": record.task("usage", lambda _n: outcome(retry_in=3.0), interval=1)})
    schedule.start()
    try:
        record.wait_for(1)
        time.sleep(2.0)
        assert record.ran == ["usage"]
    finally:
        schedule.stop()


def test_a_task_that_raises_runs_again() -> None:
    record = Recorder()

    def broken(_number: int) -> PollOutcome:
        raise RuntimeError("broken")

    schedule = Schedule({"usage": record.task("usage", broken, interval=1)})
    schedule.start()
    try:
        record.wait_for(2)
        assert schedule.alive()
    finally:
        schedule.stop()


def test_a_clock_that_jumps_a_year_ahead_costs_one_tick_not_millions() -> None:
    pace = _Pace(1.0)
    now = datetime(2026, 11, 23, tzinfo=UTC)
    ticks = [now - timedelta(days=365)]
    while ticks[-1] <= now:
        ticks.append(pace.get_next_fire_time(ticks[-1], now))
    assert len(ticks) == 3

"""When polls run: apscheduler with one worker, and what is urgent goes first.

Everything about overlap, misfires and the first run is set here: a poll never overlaps another one, a late poll runs
once however many ticks it missed, none is dropped for being late, and the first runs at once.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from apscheduler.events import EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.model import PollOutcome

logger = logging.getLogger(__name__)

LIBRARY_LOG = "apscheduler.executors.default"

AFTER_FAILURE = 300.0
"""Seconds after which a poll that a passing failure has ended is tried again, if its interval is longer."""

LAST_MOMENT = 0.5
"""Seconds that a poll has to end in, so that what it says is in the log before what the program ends with."""
CLOCK_CHECK = 5.0
"""Seconds between two looks at the host's clock; also the step back that is taken for one."""

Run = Callable[[Callable[[], bool]], PollOutcome]


@dataclass(frozen=True, slots=True)
class Task:
    """A poll and its pace in seconds; a smaller ``rank`` goes first when several are due."""

    run: Run
    interval: float
    rank: int


class _Pace(BaseTrigger):  # type: ignore[misc]
    """Every ``interval`` seconds; however many ticks a clock that jumped ahead has skipped, they count as one."""

    def __init__(self, interval: float) -> None:
        self._interval = timedelta(seconds=interval)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now if previous_fire_time is None else max(previous_fire_time + self._interval, now)


class _OneWorker(BaseExecutor):  # type: ignore[misc]
    """One thread for all jobs, by rank.

    It is a daemon: at the end of the program a request in flight is dropped, not waited for. All that a poll has
    done is published by then, and what it has not done changes nothing.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        super().__init__()
        self._ranks = ranks
        self._queue: list[tuple[int, int, Any, list[datetime]]] = []
        self._numbers = count()
        self._waiting = threading.Condition()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._work, name="polling", daemon=True)

    def start(self, scheduler: BackgroundScheduler, alias: str) -> None:
        super().start(scheduler, alias)
        self._thread.start()

    def urgent(self, rank: int) -> bool:
        """Tell whether something that goes before ``rank`` waits."""
        with self._waiting:
            return bool(self._queue) and self._queue[0][0] < rank

    def alive(self) -> bool:
        """Tell whether the worker still works."""
        return self._thread.is_alive()

    def finish(self, seconds: float) -> None:
        """Begin nothing more, and give what is under way some seconds to end."""
        with self._waiting:
            self._queue.clear()
        self._idle.wait(seconds)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        with self._waiting:
            heapq.heappush(self._queue, (self._ranks[job.id], next(self._numbers), job, run_times))
            self._waiting.notify()

    def _work(self) -> None:
        while True:
            with self._waiting:
                while not self._queue:
                    self._idle.set()
                    self._waiting.wait()
                self._idle.clear()
                _, _, job, run_times = heapq.heappop(self._queue)
            events = run_job(job, job._jobstore_alias, run_times, LIBRARY_LOG)  # noqa: SLF001 - as executors do
            self._run_job_success(job.id, events)


class Schedule:
    """Runs tasks at their pace, by name, until stopped."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self._stopped = threading.Event()
        self._worker = _OneWorker({name: task.rank for name, task in tasks.items()})
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": self._worker},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._return, EVENT_JOB_EXECUTED)

    def start(self) -> None:
        """Run each task now, and then at its interval."""
        now = datetime.now(UTC)
        for name, task in self._tasks.items():
            first = now + timedelta(milliseconds=task.rank)
            self._scheduler.add_job(self._run, _Pace(task.interval), (name,), id=name, next_run_time=first)
        self._scheduler.start()
        threading.Thread(target=self._watch_clock, name="clock", daemon=True).start()

    def stop(self) -> None:
        """Start no more polls; one that is under way is not waited for longer than a moment."""
        self._stopped.set()
        self._scheduler.shutdown(wait=False)
        self._worker.finish(LAST_MOMENT)

    def alive(self) -> bool:
        """Tell whether polls still run when they are due."""
        return self._scheduler.running and self._worker.alive()

    def next_runs(self) -> dict[str, float]:
        """Return when each task is due next, in Unix seconds by the host's clock."""
        due = {job.id: job.next_run_time for job in self._scheduler.get_jobs() if self._scheduler.running}
        return {name: moment.timestamp() for name, moment in due.items() if moment is not None}

    def _run(self, name: str) -> PollOutcome:
        task = self._tasks[name]
        return task.run(lambda: self._worker.urgent(task.rank))

    def _watch_clock(self) -> None:
        """Run what is planned for a time that a clock set back has put far away."""
        ahead = time.time() - time.monotonic()
        while not self._stopped.wait(CLOCK_CHECK):
            before, ahead = ahead, time.time() - time.monotonic()
            if ahead < before - CLOCK_CHECK:
                logger.warning("the clock was set back", extra={"fields": {"seconds": round(before - ahead)}})
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))

    def _return(self, event: JobExecutionEvent) -> None:
        """Let a poll run again when its outcome asks for it; by now its last run no longer counts as under way."""
        outcome: PollOutcome = event.retval
        job = self._scheduler.get_job(event.job_id)
        if outcome.retry_in is not None and job:
            rest = min(self._tasks[event.job_id].interval, AFTER_FAILURE) if outcome.ended else 0.0
            job.modify(next_run_time=datetime.now(UTC) + timedelta(seconds=max(outcome.retry_in, rest)))

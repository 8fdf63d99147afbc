"""One poll of one report, as a resumable list of steps; it knows neither HTTP nor metrics nor the schedule."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from exporter.errors import BadResponseError, PollError, RateLimitedError, StateError, TransientError
from exporter.model import PollOutcome, Report

logger = logging.getLogger(__name__)

FIRST_RETURN = 2.0

Step = Callable[[], None]


def never() -> bool:
    """Nothing more urgent waits."""
    return False


@dataclass(frozen=True, slots=True)
class Source:
    """What a poll of one report does.

    ``steps(now)`` are the reads that are due: each merges what it read, or raises and changes nothing. ``complete``
    runs when all are done. With ``independent`` steps the failure of one does not stop the others.
    """

    report: Report
    steps: Callable[[float], Sequence[Step]]
    complete: Callable[[float], None]
    independent: bool = False


class Poll:
    """Runs a source; what fails in passing is taken up again within ``deadline`` seconds of the poll's begin.

    ``publish`` runs after each attempt, whatever came of it, and raises StateError if what is new cannot be kept;
    ``report`` hears how it went.
    """

    def __init__(
        self,
        source: Source,
        *,
        publish: Callable[[], None],
        report: Callable[[PollOutcome], None],
        clock: Callable[[], float],
        timer: Callable[[], float],
        deadline: float,
    ) -> None:
        self._source = source
        self._publish = publish
        self._report = report
        self._clock = clock
        self._timer = timer
        self._deadline = deadline
        self._begun: _Begun | None = None

    def run(self, give_way: Callable[[], bool] = never) -> PollOutcome:
        """Make one attempt; the outcome says when to run again.

        Between two steps ``give_way`` is asked whether something more urgent waits; what was done stays done.
        """
        begun = self._begun or _Begun(self._clock(), self._timer())
        outcome = self._published(self._attempt(begun, give_way))
        self._begun = None if outcome.ended else begun
        self._report(outcome)
        return outcome

    def _published(self, outcome: PollOutcome) -> PollOutcome:
        """Publish; what was read but cannot be kept is as good as not read, and is tried again soon."""
        try:
            self._publish()
        except StateError as error:
            return replace(outcome, reason=error.reason, message=str(error), retry_in=outcome.retry_in or 0.0)
        return outcome

    def _attempt(self, begun: "_Begun", give_way: Callable[[], bool]) -> PollOutcome:
        timer = self._timer
        ended = partial(PollOutcome, self._source.report, begun.at)
        if not begun.left:
            begun.attempts += 1
            begun.planned = self._clock()
            begun.failure = _take(partial(self._plan, begun))
        if self._works_off(begun, give_way):
            return ended(timer() - begun.timer, ended=False, retry_in=0.0)
        # The plan was made by the host's clock if it was the first; by now the API's time is known.
        complete = partial(self._source.complete, min(begun.planned, self._clock()))
        failure, begun.left = begun.failure or _take(complete), []
        if failure is None:
            return ended(timer() - begun.timer)
        outcome = ended(timer() - begun.timer, reason=failure.reason, message=str(failure))
        if not isinstance(failure, TransientError):
            return outcome
        wait = max(failure.retry_after or 0.0, FIRST_RETURN * 2.0 ** (begun.attempts - 1))
        return replace(outcome, retry_in=wait, ended=timer() + wait > begun.timer + self._deadline)

    def _plan(self, begun: "_Begun") -> None:
        begun.left = list(self._source.steps(begun.planned))

    def _works_off(self, begun: "_Begun", give_way: Callable[[], bool]) -> bool:
        """Take the steps that are left; return whether it has to give way before all are taken."""
        while begun.left:
            begun.failure = _graver(begun.failure, _take(begun.left.pop(0)))
            if isinstance(begun.failure, RateLimitedError) or (begun.failure and not self._source.independent):
                return False
            if begun.left and give_way():
                return True
        return False


@dataclass(slots=True)
class _Begun:
    """A poll that is under way: when it began, on both clocks, and how far it has come."""

    at: float
    timer: float
    attempts: int = 0
    planned: float = 0.0
    left: list[Step] = field(default_factory=list)
    failure: PollError | None = None


def _graver(known: PollError | None, new: PollError | None) -> PollError | None:
    """Return the failure that decides when to come back: of two the later one only if it has a longer wish."""
    if known is None or new is None:
        return new or known
    wishes = [failure.retry_after or 0.0 if isinstance(failure, TransientError) else -1.0 for failure in (known, new)]
    return new if wishes[1] > wishes[0] else known


def _take(step: Step) -> PollError | None:
    """Run one step; whatever else than an ``PollError`` it raises is our mistake, and must not stop the meter."""
    try:
        step()
    except PollError as error:
        return error
    except Exception as error:
        logger.exception("a poll met what it was not made for")
        return BadResponseError(f"unexpected: {error!r}")
    return None

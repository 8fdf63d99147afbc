"""One poll of one report, as a resumable list of steps; it knows neither HTTP nor metrics nor the schedule."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from exporter.errors import ApiError, BadResponseError, TransientError
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

    ``publish`` runs after each attempt, whatever came of it; ``report`` hears how it went.
    """

    def __init__(
        self,
        source: Source,
        *,
        publish: Callable[[], None],
        report: Callable[[PollOutcome], None],
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self._source = source
        self._publish = publish
        self._report = report
        self._clock = clock
        self._deadline = deadline
        self._begun: float | None = None
        self._attempts = 0

    def run(self, give_way: Callable[[], bool] = never) -> PollOutcome:
        """Make one attempt; the outcome says when to run again.

        Between two steps ``give_way`` is asked whether something more urgent waits.
        """
        now = self._clock()
        if self._begun is None:
            self._begun, self._attempts = now, 0
        self._attempts += 1
        outcome = self._attempt(now, self._begun, give_way)
        if outcome.ended:
            self._begun = None
        self._publish()
        self._report(outcome)
        return outcome

    def _attempt(self, now: float, begun: float, give_way: Callable[[], bool]) -> PollOutcome:
        ended = partial(PollOutcome, self._source.report, begun)
        failure: ApiError | None = None
        for step in self._source.steps(now):
            if give_way():
                return ended(self._clock() - begun, ended=False, retry_in=0.0)
            failure = _take(step) or failure
            if failure and not self._source.independent:
                break
        if failure is None:
            self._source.complete(now)
            return ended(self._clock() - begun)
        outcome = ended(self._clock() - begun, reason=failure.reason, message=str(failure))
        if not isinstance(failure, TransientError):
            return outcome
        wait = max(failure.retry_after or 0.0, FIRST_RETURN * 2.0 ** (self._attempts - 1))
        return replace(outcome, retry_in=wait, ended=self._clock() + wait > begun + self._deadline)


def _take(step: Step) -> ApiError | None:
    """Run one step; whatever else than an ``ApiError`` it raises is our mistake, and must not stop the meter."""
    try:
        step()
    except ApiError as error:
        return error
    except Exception as error:
        logger.exception("a poll met what it was not made for")
        return BadResponseError(f"unexpected: {error!r}")
    return None

"""What the log says of polls and of money: failures when they begin and end, the rest once."""

import logging
from datetime import UTC, datetime

from exporter.model import PollOutcome, Report
from exporter.money.reconciliation import Verdict

logger = logging.getLogger(__name__)


class Reporter:
    """Writes to the log, and remembers what it has written."""

    def __init__(self) -> None:
        self._failing: set[Report] = set()
        self._verdict: Verdict | None = None
        self._budgets = ""

    def poll(self, outcome: PollOutcome) -> None:
        """Say how an attempt at a poll went."""
        fields: dict[str, object] = {"report": outcome.report, "seconds": round(outcome.seconds, 3)}
        if outcome.reason is None:
            again = outcome.ended and outcome.report in self._failing
            self._failing -= {outcome.report} if outcome.ended else set()
            text = "poll succeeds again" if again else "poll succeeded" if outcome.ended else "poll gives way"
            logger.log(logging.INFO if again else logging.DEBUG, text, extra={"fields": fields})
            return
        first = outcome.report not in self._failing
        self._failing |= {outcome.report}
        fields |= {"reason": outcome.reason, "error": outcome.message}
        if not outcome.ended and outcome.retry_in is not None:
            fields["retry_in"] = round(outcome.retry_in, 1)
        text = "poll failed" if outcome.ended else "poll goes on later"
        logger.log(logging.WARNING if outcome.ended or first else logging.INFO, text, extra={"fields": fields})

    def verdict(self, verdict: Verdict | None) -> None:
        """Say once for each day how its estimate met its bill, and what is farthest off."""
        if verdict and verdict != self._verdict:
            model, token_type = verdict.worst
            day, ratio, usd = datetime.fromtimestamp(verdict.day, UTC), float(verdict.ratio), float(verdict.worst_usd)
            fields = {
                "day": f"{day:%Y-%m-%d}",
                "ratio": ratio,
                "model": model,
                "token_type": token_type,
                "usd_off": usd,
            }
            logger.debug("estimate by bill, and the part of it that drifts most", extra={"fields": fields})
        self._verdict = verdict

    def budgets(self, problem: str) -> None:
        """Say once what is wrong with the budgets; nothing if ``problem`` is empty."""
        if problem and problem != self._budgets:
            logger.warning(problem, extra={"fields": {"setting": "budget.workspaces"}})
        self._budgets = problem

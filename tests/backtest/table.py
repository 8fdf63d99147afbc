"""What was measured, as a Markdown table."""

from collections.abc import Callable, Sequence
from math import ceil

from exporter.demo import traffic
from exporter.demo.traffic import WEEK, Spike
from exporter.model import DAY, HOUR, MINUTE
from exporter.polling.windows import floor
from tests.backtest.incidents import INCIDENTS, SPIKY, Incident
from tests.backtest.measure import QUIET, RIVALS, Measured, Told
from tests.backtest.past import NOON, POPULATION
from tests.backtest.rules import Firing
from tests.world import at

ROLLOVER = int(at("2026-11-01T00:00:00"))
AFTERMATH = HOUR
"""Seconds after a spike in which an alert is still about it."""
HEAD = (
    "what happens",
    "what should happen",
    "these rules",
    "R1: a day costs 50 % more than the one before",
    "R2: tokens are three times the mean of seven days",
)
Cell = Callable[[Sequence[Firing]], str]
_WORKSPACES = {stream.dimensions.api_key_id: stream.dimensions.workspace_id for stream in POPULATION.streams}


def table(measured: Measured) -> str:
    """Return the table; times are after the API showed it and, in brackets, after the use itself."""
    days = (NOON - QUIET) / DAY
    rows = [
        HEAD,
        ("---",) * len(HEAD),
        _row(f"a quiet month ({days:.1f} days)", "silence", measured.quiet, _false_alarms),
        _row("a month begins", "silence", _around(measured.quiet, ROLLOVER), _false_alarms),
    ]
    for incident in INCIDENTS:
        told = measured.incidents[incident.name]
        rows.append(_row(incident.name, incident.should, told, _cell(incident)))
    rows.append(_row(SPIKY.name, SPIKY.should, measured.incidents[SPIKY.name], _hits))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, should: str, told: Told, cell: Cell) -> tuple[str, ...]:
    return name, should, *(cell(fired) for fired in (told.ours, *(told.by(rival.name) for rival in RIVALS)))


def _around(told: Told, time: int) -> Told:
    """Return what began to fire within a day of ``time``."""
    return told._replace(fired=[firing for firing in told.fired if abs(firing.start - time) < DAY])


def _false_alarms(fired: Sequence[Firing]) -> str:
    return f"{len(fired)} false alarm{'s' * (len(fired) > 1)}" if fired else "silent"


def _cell(incident: Incident) -> Cell:
    """Return how the alerts on an incident are told: each name and severity once."""

    def cell(fired: Sequence[Firing]) -> str:
        if fired and not incident.api_key_ids and not fired[0].severity:
            return _false_alarms(fired)
        first: dict[tuple[str, str], int] = {}
        for firing in fired:
            first.setdefault((firing.name, firing.severity), firing.start)
        listed = [f"{_title(*what)}{_delay(incident, time)}" for what, time in first.items()]
        return ", ".join(listed) or ("missed" if incident.api_key_ids and incident.finds else "silent")

    return cell


def _title(name: str, severity: str) -> str:
    return f"`{name}` {severity} " if severity else ""


def _delay(incident: Incident, time: int) -> str:
    used = _duration(time - incident.begin)
    return f"{_duration(time - incident.visible())} ({used})" if incident.api_key_ids else used


def _duration(seconds: int) -> str:
    return f"{ceil(seconds / MINUTE)} min" if seconds < 3 * HOUR else f"{seconds / HOUR:.0f} h"


def drawn() -> list[Spike]:
    """Return the random spikes that begin while they are looked for."""
    weeks = range(floor(SPIKY.begin, WEEK), SPIKY.end, WEEK)
    spikes = [spike for week in weeks for spike in traffic.spikes(1, week, POPULATION.streams)]
    return [spike for spike in spikes if SPIKY.begin <= spike.start < SPIKY.end]


def is_about(firing: Firing, spike: Spike) -> bool:
    """Tell whether an alert began to fire because of a spike."""
    place = {"api_key_id": spike.api_key_id, "workspace_id": _WORKSPACES[spike.api_key_id]}
    is_there = all(place[label] == value for label, value in firing.labels.items() if label in place)
    return is_there and spike.start <= firing.start <= spike.end + AFTERMATH


def _hits(fired: Sequence[Firing]) -> str:
    spikes = drawn()
    found = [spike for spike in spikes if any(is_about(firing, spike) for firing in fired)]
    false = [firing for firing in fired if not any(is_about(firing, spike) for spike in spikes)]
    return f"{len(found)} of {len(spikes)} found, {_false_alarms(false) if false else 'no false alarm'}"

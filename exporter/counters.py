"""The odometers as the settings want them: taken over from the state file, begun, read and kept together."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from exporter.dates import midnight, moment
from exporter.errors import SettingsError
from exporter.families import COUNTED, FAMILIES, TOKEN_TYPES, USAGE_DIMENSIONS
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import Record, Standstill
from exporter.ledger.registers import Registers
from exporter.ledger.state import StateFile
from exporter.model import DAY, MINUTE, Bucket, Reading, Report, Series, Snapshot, Window
from exporter.polling.sources import COST_REVISION, USAGE_REVISION
from exporter.polling.windows import floor
from exporter.settings import Settings

MISSED_POLLS = 1.5
"""Poll intervals after which the watermark stands still: a late poll is normal, a missed one is not."""

PRICED: Mapping[Report, str] = {"usage": "estimate", "api_key_usage": "api_key_estimate"}
"""What counts the dollars of which tokens."""

REACHING_BACK = ("usage", "api_key_usage", "cost")
"""What counts from a configured anchor on; estimates begin with the first start."""


Estimate = Callable[[Window, list[Bucket[int]], int], list[Bucket[Decimal]]]
"""Prices what is new in a window, from a usage time on."""


class Counters:
    """The ledgers by name, as in ``COUNTED``, begun at ``made`` (Unix seconds) unless ``state`` has them already.

    What the state file has must be what the settings want; SettingsError names what differs.
    """

    def __init__(self, settings: Settings, state: StateFile, made: float) -> None:
        self._settings = settings
        self._paces = {"usage": settings.usage.poll_interval, "estimate": settings.usage.poll_interval}
        if settings.usage.by_api_key:
            pace = settings.usage.api_key_poll_interval
            self._paces |= {"api_key_usage": pace, "api_key_estimate": pace}
        state.claim(scope(settings))
        self._configured = configured_anchor(settings)
        anchors = self._anchors(made)
        self.ledgers: dict[str, Ledger[Any]] = {name: self._ledger(name, anchor) for name, anchor in anchors.items()}
        for name, ledger in self.ledgers.items():
            record = state.records.pop(name, None)
            if record is not None:
                check_anchor(settings, name, record.facts.anchor, state.path)
                ledger.restore(record)

    @property
    def folded(self) -> list[Series]:
        """The label sets that have no series of their own."""
        return [series for ledger in self.ledgers.values() for series in ledger.folded]

    @property
    def priced_from(self) -> int:
        """The usage time from which on dollars may still change."""
        return min(ledger.open_from for name, ledger in self.ledgers.items() if name in PRICED.values())

    def begin(self, made: float) -> bool:
        """Count from the start of the program at ``made`` on where nothing was counted yet; return whether any does."""
        begun = [self.ledgers[name].begin(anchor) for name, anchor in self._anchors(made).items()]
        return any(begun)

    def views(self, estimates: Mapping[Report, Estimate]) -> dict[Report, "View"]:
        """Return the views of usage that are counted, by report, priced by ``estimates``."""
        return {
            report: View(self.ledgers[report], self.ledgers[PRICED[report]], estimate)
            for report, estimate in estimates.items()
            if report in self.ledgers
        }

    def readings(
        self, now: float, tick: float, last: Mapping[str, Reading[Any]], served_at: float | None
    ) -> dict[str, Reading[Any]]:
        """Return what there is to serve from ``now`` on, after ``last``, see ``Ledger.reading``."""
        found = {name: ledger.reading(now, tick, last.get(name), served_at) for name, ledger in self.ledgers.items()}
        return {name: reading for name, reading in found.items() if reading}

    def changes(self) -> dict[str, Record[Any]]:
        """Return what is to be kept before the last readings may be served."""
        return {name: ledger.changes() for name, ledger in self.ledgers.items()}

    def kept(self, records: Mapping[str, Record[Any]]) -> None:
        """Note that these changes are safe."""
        for name, record in records.items():
            self.ledgers[name].kept(record)

    def _anchors(self, made: float) -> dict[str, int]:
        default = floor(made - self._settle("usage"), MINUTE)
        reaching = default if self._configured is None else self._configured
        anchors = {name: reaching if name in REACHING_BACK else default for name in self._paces}
        return anchors | {"cost": floor(reaching, DAY)}

    def _settle(self, name: str) -> float:
        """Return the settle in effect; a finished day's bill counts as soon as it is seen."""
        return settle(self._settings, self._paces[name]) if name in self._paces else 0.0

    def _grace(self, name: str) -> float:
        return MISSED_POLLS * self._paces.get(name, 0.0)

    def _ledger(self, name: str, anchor: int) -> Ledger[Any]:
        return Ledger(
            Registers(anchor, FAMILIES[name][0], COUNTED[name](0)),
            settle=self._settle(name),
            grace=self._grace(name),
            hold=self._settings.usage.hold,
            reaches_back=self._configured is not None and name in REACHING_BACK,
            revision=COST_REVISION if name == "cost" else USAGE_REVISION,
            most_series=self._settings.metrics.max_series,
        )


class View:
    """A view of usage: its tokens, and what ``estimate`` says that they cost, counted side by side."""

    def __init__(self, tokens: Ledger[int], dollars: Ledger[Decimal], estimate: Estimate) -> None:
        self._tokens = tokens
        self._dollars = dollars
        self._estimate = estimate

    @property
    def anchors(self) -> tuple[int, ...]:
        """The usage times at which these counters are 0."""
        return self._tokens.anchor, self._dollars.anchor

    def take(self, window: Window, buckets: list[Bucket[int]], now: float) -> None:
        """Take in a window that was read whole at ``now``."""
        self._tokens.observe(window, buckets, now)
        self._dollars.observe(window, self._estimate(window, buckets, self._dollars.open_from), now)

    def complete(self, polled: float, now: float) -> None:
        """Let both watermarks follow a poll that began at ``polled``, see ``Ledger.complete``."""
        self._tokens.complete(polled, now)
        self._dollars.complete(polled, now)


def standing(snapshot: Snapshot, now: float) -> dict[str, Standstill[Any]]:
    """Return what all counters of a snapshot showed at ``now`` (Unix seconds)."""
    return {name: Standstill.at(reading, now) for name, reading in snapshot.counters.items()}


def configured_anchor(settings: Settings) -> int | None:
    """Return the usage time (Unix seconds) from which the settings want totals, if they do."""
    day = settings.usage.anchor
    return midnight(day) if day else None


def settle(settings: Settings, interval: float) -> float:
    """Return the settle in effect, in seconds, for a report that is polled every ``interval`` seconds."""
    return max(settings.usage.settle, MISSED_POLLS * interval)


def check_anchor(settings: Settings, name: str, anchor: int, path: str) -> None:
    """Raise SettingsError if the state file counts from another time on than the settings want."""
    if name in REACHING_BACK and configured_anchor(settings) not in (None, anchor):
        raise SettingsError(
            f"the state file {path} counts {name} from {moment(anchor)} on, but "
            f"usage.anchor is {settings.usage.anchor}; unset it, or choose another --state.path"
        )


def scope(settings: Settings) -> dict[str, str]:
    """Return what the counters count, by the settings' names: a state file is good for nothing else."""
    usage = settings.usage
    return {
        "grouping": ",".join(USAGE_DIMENSIONS),
        "token types": ",".join(TOKEN_TYPES),
        "usage.workspace_ids": ",".join(sorted({*usage.workspace_ids})),
        "usage.models": ",".join(sorted({*usage.models})),
        "usage.service_tiers": ",".join(sorted({*usage.service_tiers})),
    }

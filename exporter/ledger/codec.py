"""How records are written in the state file: exact, and readable with any SQLite shell."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from exporter.ledger.record import Facts, Record
from exporter.model import Counts, Number, Series

Kind = type[int] | type[Decimal]


def counts_text(counts: Counts[Any]) -> str:
    """Return ``1,2,3``."""
    return ",".join(map(str, counts))


def counts_of(text: str, kind: type[Number]) -> Counts[Number]:
    """Return the numbers in ``1,2,3``."""
    return tuple(map(kind, text.split(",")))


def labels_text(series: Series) -> str:
    """Return the label values as a JSON array."""
    return json.dumps(series.labels)


def series_of(family: str, labels: str) -> Series:
    """Return the series that a row names."""
    return Series(family, tuple(map(str, json.loads(labels))))


def facts_note(record: Record[Any]) -> dict[str, Any]:
    """Return what there is once for each ledger, as a JSON object."""
    facts = record.facts
    return {
        "anchor": facts.anchor,
        "boundary": facts.boundary,
        "open_from": facts.open_from,
        "late": str(facts.late),
        "frozen_excess": str(facts.frozen_excess),
        "excess": [[width, start, str(excess)] for (width, start), excess in sorted(facts.excess.items())],
        "final": sorted(facts.final),
        "reach": record.reach,
        "reaches_back": record.reaches_back,
    }


def facts_of(kept: Mapping[str, Any], kind: type[Number]) -> Facts[Number]:
    """Return the facts in such an object."""
    return Facts(
        anchor=int(kept["anchor"]),
        boundary=int(kept["boundary"]),
        open_from=int(kept["open_from"]),
        late=kind(kept["late"]),
        frozen_excess=kind(kept["frozen_excess"]),
        excess={(int(width), int(start)): kind(excess) for width, start, excess in kept["excess"]},
        final=frozenset(map(int, kept["final"])),
    )

"""The figures of a report: what was used and spent in some UTC days, by whom, and what has changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from exporter.families import TOKEN_TYPES
from exporter.history.report.spending import Cost
from exporter.model import Organization


class Used(NamedTuple):
    """Tokens by type, and requests."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    output: int = 0
    web_searches: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return sum(self[: len(TOKEN_TYPES)])

    @property
    def cache_creation(self) -> int:
        """Tokens that were written to a cache."""
        return self.cache_creation_5m + self.cache_creation_1h

    @property
    def cache_efficiency(self) -> float | None:
        """The part of all input that was read from a cache, or None without input."""
        whole = self.uncached_input + self.cache_read + self.cache_creation
        return self.cache_read / whole if whole else None


@dataclass(frozen=True, slots=True)
class Part:
    """What one model, workspace or API key used and spent (USD), and before; ``billed`` is None if no bill tells."""

    id: str
    used: Used
    before: Used
    estimated: Decimal
    estimated_before: Decimal
    billed: Decimal | None

    @property
    def usd(self) -> Decimal:
        """What was billed, or else the estimate."""
        return self.estimated if self.billed is None else self.billed

    @property
    def is_in(self) -> bool:
        """Whether there is anything of it in the days asked for, and not only before."""
        return any(self.used) or bool(self.usd)


class Move(NamedTuple):
    """How much somebody used or spent, and before."""

    id: str
    before: Decimal
    now: Decimal

    @property
    def change(self) -> Decimal:
        """The difference."""
        return self.now - self.before

    @property
    def ratio(self) -> float | None:
        """The difference by what was before, or None for what is new."""
        return float(self.change / self.before) if self.before else None


@dataclass(frozen=True, slots=True)
class About:
    """What a report is about: days with ``start`` <= time < ``end``, read at ``now`` (Unix seconds).

    ``names`` are by id, whatever has it; ``filters`` those that narrow usage down. ``missing`` says why ``cost`` or
    ``api_keys`` were not read. The ``budget`` is USD a month.
    """

    start: int
    end: int
    now: int
    organization: Organization | None
    names: Mapping[str, str]
    filters: Mapping[str, Sequence[str]]
    missing: Mapping[str, str]
    budget: Decimal | None

    def name(self, id_: str) -> str:
        """Return what an id is called."""
        return self.names.get(id_, id_)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the days asked for, by their start (Unix seconds), and of the parts, who spent most first.

    ``api_keys`` and ``cost`` are None if they cannot be read; ``unpriced`` are tokens, by model, that no estimate has.
    """

    days: Mapping[int, Used]
    models: Sequence[Part]
    workspaces: Sequence[Part]
    api_keys: Sequence[Part] | None
    cost: Cost | None
    unpriced: Mapping[str, int]

    @property
    def total(self) -> Used:
        """What was used in all."""
        return total(self.days.values())

    @property
    def parts(self) -> Mapping[str, Sequence[Part] | None]:
        """The parts by what they are."""
        return {"models": self.models, "workspaces": self.workspaces, "api_keys": self.api_keys}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was used, and nothing billed."""
        return not any(self.total) and not (self.cost and self.cost.billed)


def total(used: Iterable[Used]) -> Used:
    """Return the sums."""
    return Used(*map(sum, zip(Used(), *used, strict=True)))


def added(parts: Sequence[Part], name: str) -> Part:
    """Return parts as one."""
    billed = [part.billed for part in parts if part.billed is not None]
    return Part(
        name,
        total(part.used for part in parts),
        total(part.before for part in parts),
        sum((part.estimated for part in parts), Decimal(0)),
        sum((part.estimated_before for part in parts), Decimal(0)),
        sum(billed, Decimal(0)) if billed else None,
    )


def moves(parts: Sequence[Part]) -> tuple[str, list[Move]]:
    """Return the changes, the greatest first, in estimated ``usd``, or in ``tokens`` where nothing has a price."""
    unit = "usd" if any(part.estimated or part.estimated_before for part in parts) else "tokens"
    found = [
        Move(part.id, part.estimated_before, part.estimated)
        if unit == "usd"
        else Move(part.id, Decimal(part.before.tokens), Decimal(part.used.tokens))
        for part in parts
    ]
    return unit, sorted((move for move in found if move.change), key=lambda move: (-abs(move.change), move.id))

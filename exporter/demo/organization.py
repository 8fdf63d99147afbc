"""What an Admin API has to say about an organisation, and who can say it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

MINUTE, HOUR, DAY = 60, 3600, 86400


class Tokens(NamedTuple):
    """What one bucket counts; all disjoint, web searches are requests."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    output: int = 0
    web_search: int = 0

    def plus(self, other: "Tokens") -> "Tokens":
        """Add element by element (``+`` of a tuple would concatenate)."""
        return Tokens(
            self.uncached_input + other.uncached_input,
            self.cache_read + other.cache_read,
            self.cache_creation_5m + other.cache_creation_5m,
            self.cache_creation_1h + other.cache_creation_1h,
            self.output + other.output,
            self.web_search + other.web_search,
        )


NO_TOKENS = Tokens()


def total(rows: Iterable[Tokens]) -> Tokens:
    """Sum rows element by element."""
    return Tokens(*map(sum, zip(*rows, strict=True)))


class Dimensions(NamedTuple):
    """What usage is told apart by; None is the Console (key) or the default workspace."""

    api_key_id: str | None
    workspace_id: str | None
    model: str
    service_tier: str
    context_window: str
    inference_geo: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace other than the default one."""

    id: str
    name: str
    archived: bool


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key; ``workspace_id`` is a real id for the default workspace too, times are Unix seconds."""

    id: str
    name: str
    workspace_id: str
    status: str
    expires_at: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of a day's bill, in the API's own words; the amount is in cents."""

    workspace_id: str | None
    description: str
    cost_type: str
    model: str | None
    token_type: str | None
    context_window: str | None
    service_tier: str | None
    inference_geo: str | None
    amount_cents: Decimal


class Organization(Protocol):
    """The source of everything that the simulated API answers."""

    @property
    def id(self) -> str:
        """The organisation's UUID."""

    @property
    def name(self) -> str:
        """The organisation's name."""

    @property
    def default_workspace_id(self) -> str:
        """The real id of the default workspace, which reports leave out."""

    @property
    def workspaces(self) -> Sequence[Workspace]:
        """All workspaces without the default one."""

    @property
    def api_keys(self) -> Sequence[ApiKey]:
        """All API keys."""

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        """Return what is known at ``as_of`` of the buckets from ``start`` to ``end``, both aligned.

        Keys are bucket starts; buckets and rows without usage are left out.
        """

    def cost(self, day: int, as_of: float) -> Sequence[CostLine] | None:
        """Return the bill of the UTC day that begins at ``day``, or None while it is not out."""

"""The wire as typed structures, tolerant of what is new: unknown fields and values never fail a read.

Source: Admin API reference, ``usage_report/messages``, ``cost_report``, ``workspaces``, ``api_keys``, ``rate_limits``.
"""

from decimal import Decimal
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Item = TypeVar("Item")
Count = Annotated[int, Meta(le=2**63 - 1)] | UnsetType | None
Id = Annotated[str, Meta(min_length=1)]
Following = tuple[str, str | None]
"""The query parameter that asks for the next page, and its value; None where one is promised, but not told."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a body that is not of the wanted shape, or not JSON at all."""


class CacheCreation(Struct, gc=False):
    """Tokens written to the cache, by how long they live there."""

    ephemeral_5m_input_tokens: Count = UNSET
    ephemeral_1h_input_tokens: Count = UNSET


class ServerToolUse(Struct, gc=False):
    """Requests to tools that run at Anthropic."""

    web_search_requests: Count = UNSET


class UsageItem(Struct, gc=False):
    """One row of a usage bucket; a dimension is null when it was not asked for, or does not apply."""

    uncached_input_tokens: Count = UNSET
    cache_read_input_tokens: Count = UNSET
    cache_creation: CacheCreation | UnsetType | None = UNSET
    output_tokens: Count = UNSET
    server_tool_use: ServerToolUse | UnsetType | None = UNSET
    model: str | None = None
    workspace_id: str | None = None
    service_tier: str | None = None
    context_window: str | None = None
    inference_geo: str | None = None
    api_key_id: str | None = None
    account_id: str | None = None
    service_account_id: str | None = None
    speed: str | None = None


class KnownCacheCreation(CacheCreation, forbid_unknown_fields=True, gc=False):
    """The same, of known fields only."""


class KnownServerToolUse(ServerToolUse, forbid_unknown_fields=True, gc=False):
    """The same, of known fields only."""


class KnownUsageItem(UsageItem, forbid_unknown_fields=True, gc=False):
    """The same, of known fields only: what fails to decode as this is looked at more closely."""

    cache_creation: KnownCacheCreation | UnsetType | None = UNSET
    server_tool_use: KnownServerToolUse | UnsetType | None = UNSET


class CostItem(Struct, gc=False):
    """One row of a cost bucket; ``amount`` is in cents."""

    amount: Decimal
    currency: str = "USD"
    workspace_id: str | None = None
    description: str | None = None
    cost_type: str | None = None
    token_type: str | None = None
    model: str | None = None
    service_tier: str | None = None
    context_window: str | None = None
    inference_geo: str | None = None


class WireBucket(Struct, Generic[Item]):
    """A bucket that begins at ``starting_at`` (RFC 3339, inclusive)."""

    starting_at: str
    results: list[Item]


class AnyPage(Protocol):
    """A page of anything."""

    @property
    def following(self) -> Following | None:
        """How to ask for the next page; None after the last one."""
        ...


class Page(Struct):
    """A page of a report; its buckets are decoded one by one."""

    data: list[Raw]
    has_more: bool
    next_page: str | None = None

    @property
    def following(self) -> Following | None:
        """How to ask for the next page."""
        return ("page", self.next_page) if self.has_more else None


class ListPage(Struct, Generic[Item]):
    """A page of a list; the next one begins after ``last_id``."""

    data: list[Item]
    has_more: bool
    last_id: str | None = None

    @property
    def following(self) -> Following | None:
        """How to ask for the next page."""
        return ("after_id", self.last_id) if self.has_more else None


class CursorPage(Struct, Generic[Item]):
    """A page of a list that says only where the next one is."""

    data: list[Item]
    next_page: str | None = None

    @property
    def following(self) -> Following | None:
        """How to ask for the next page."""
        return ("page", self.next_page) if self.next_page else None


class OrganizationItem(Struct):
    """``/organizations/me``."""

    id: Id
    name: str | None = None


class WorkspaceItem(Struct):
    """A workspace."""

    id: Id
    name: str | None = None
    archived_at: str | None = None


class Scope(Struct):
    """What a key may be used for; the workspace's real id, for the default workspace too."""

    type: str | None = None
    workspace_id: str | None = None


class ApiKeyItem(Struct):
    """An API key; ``workspace_id`` is null for the default workspace."""

    id: Id
    name: str | None = None
    status: str | None = None
    workspace_id: str | None = None
    expires_at: str | None = None
    scope: Scope | None = None


class RateLimitGroup(Struct):
    """What shares a limit; ``id`` stays, while the name that people see may change."""

    id: str | None = None
    type: str | None = None


class Limit(Struct):
    """One limit of a group."""

    type: str | None = None
    value: Any = None


class RateLimitItem(Struct):
    """The limits of a group; ``group_type`` is the older place of ``group.type``."""

    id: str | None = None
    group_type: str | None = None
    group: RateLimitGroup | None = None
    models: list[str | None] | None = None
    limits: list[Limit] | None = None


USAGE_FIGURES = {
    "uncached_input_tokens",
    "cache_read_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
    "output_tokens",
    "server_tool_use.web_search_requests",
}


def unknown_figures(bucket: dict[str, Any]) -> dict[str, int]:
    """Return the numeric fields of usage rows that this program does not count, with the rows where they are not 0."""
    seen: dict[str, int] = {}
    for row in bucket.get("results", ()):
        for field, value in _figures(row):
            if field not in USAGE_FIGURES and value:
                seen[field] = seen.get(field, 0) + 1
    return seen


def _figures(row: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """List the numeric fields of a row, nested ones with dots."""
    found: list[tuple[str, float]] = []
    for field, value in row.items():
        if isinstance(value, dict):
            found += _figures(value, f"{prefix}{field}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + field, value))
    return found

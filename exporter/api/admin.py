"""The Admin API's reports and lists as the domain's values: all pages of a window, or an error."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from exporter.api.client import Client, Params
from exporter.api.rows import cost_bucket, merged, timestamp, usage_bucket
from exporter.api.wire import (
    UNREADABLE,
    ApiKeyItem,
    CostItem,
    KnownUsageItem,
    ListPage,
    OrganizationItem,
    Page,
    Scope,
    UsageItem,
    WireBucket,
    WorkspaceItem,
    unknown_figures,
)
from exporter.errors import BadRequestError, BadResponseError
from exporter.model import (
    DAY,
    DEFAULT_WORKSPACE,
    HOUR,
    MINUTE,
    MOST_BUCKETS,
    NOT_APPLICABLE,
    USAGE_DIMENSIONS,
    ApiKey,
    Bucket,
    Organization,
    Window,
    Workspace,
)

ROOT = "/v1/organizations"
WIDTHS = {MINUTE: "1m", HOUR: "1h", DAY: "1d"}
LIST_LIMIT = 1000
MOST_LIST_PAGES = 1000

T = TypeVar("T")


def _unheard(_field: str, _rows: int) -> None:
    """Nobody listens for schema drift."""


@dataclass(frozen=True)
class AdminApi:
    """Reads of one organisation.

    ``filters`` are query parameters that narrow usage down (``workspace_ids[]`` …); ``drift`` hears of usage figures
    that are new or missing, and in how many rows. With ``retry`` off each request is tried once.
    """

    client: Client
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drift: Callable[[str, int], None] = _unheard
    retry: bool = True

    def usage(self, window: Window) -> list[Bucket[int]]:
        """Return the buckets of ``window`` by model, workspace, tier, context window and geography."""
        params = [
            *_range(window),
            ("bucket_width", WIDTHS[window.width]),
            *(("group_by[]", dimension) for dimension in USAGE_DIMENSIONS),
            *((name, value) for name, values in self.filters.items() for value in values),
        ]
        path = f"{ROOT}/usage_report/messages"
        buckets = []
        for page in self._pages("usage", path, params, window, self._usage_page):
            buckets += [usage_bucket(wire, self._missing) for wire in page.data]
        return merged(window, buckets)

    def cost(self, window: Window) -> list[Bucket[Decimal]]:
        """Return the finished days of ``window`` by workspace and line item, in USD.

        A day without rows is left out: its bill is not known yet.
        """
        params = [
            *_range(window),
            ("bucket_width", "1d"),
            ("group_by[]", "workspace_id"),
            ("group_by[]", "description"),
        ]
        buckets = []
        for page in self._pages("cost", f"{ROOT}/cost_report", params, window, _cost_page):
            buckets += [cost_bucket(wire) for wire in page.data if wire.results]
        return merged(window, buckets)

    def organization(self) -> Organization:
        """Return the organisation that the key belongs to."""
        body = self.client.get("organization", f"{ROOT}/me", retry=self.retry)
        item = _decode("organization", body, OrganizationItem)
        return Organization(item.id, item.name or item.id)

    def workspaces(self) -> tuple[tuple[Workspace, ...], str | None]:
        """Return all workspaces, archived ones included, and the real id of the default one if the API tells it.

        The default workspace itself is called ``default``, as in the reports.
        """
        # In this order: a workspace that is created between the two reads must not pass for the default one.
        all_of_them = self._with_default()
        listed = self._list("workspaces", [("include_archived", "true")], WorkspaceItem)
        found = {item.id: Workspace(item.id, item.name or item.id, _state(item)) for item in listed}
        extra = [item for item in all_of_them if item.id not in found]
        name, real_id = (extra[0].name, extra[0].id) if len(extra) == 1 else (None, None)
        return (Workspace(DEFAULT_WORKSPACE, name or "Default", "active"), *found.values()), real_id

    def api_keys(self, workspaces: Collection[Workspace], default_id: str | None) -> tuple[ApiKey, ...]:
        """Return all API keys; ``workspaces`` and ``default_id`` are what the list of workspaces told, if it did."""
        known = {workspace.id for workspace in workspaces}
        keys = {
            item.id: ApiKey(
                item.id,
                item.name or item.id,
                _workspace_of(item, known, default_id),
                item.status or "unknown",
                timestamp(item.expires_at) if item.expires_at else None,
            )
            for item in self._list("api_keys", [], ApiKeyItem)
        }
        return tuple(keys.values())

    def _with_default(self) -> list[WorkspaceItem]:
        """Return the list with the default workspace; its parameter is newer than the list itself."""
        try:
            return self._list("workspaces", [("include_archived", "true"), ("include_default", "true")], WorkspaceItem)
        except BadRequestError:
            return []

    def _usage_page(self, body: bytes) -> Page[WireBucket[UsageItem]]:
        try:
            page: Page[WireBucket[UsageItem]] = msgspec.json.decode(body, type=Page[WireBucket[KnownUsageItem]])
        except UNREADABLE:
            page = _decode("usage", body, Page[WireBucket[UsageItem]])
        else:
            return page
        for name, rows in unknown_figures(_decode("usage", body, dict[str, Any])).items():
            self.drift(name, rows)
        return page

    def _missing(self, name: str) -> None:
        self.drift(name, 1)

    def _pages(
        self, endpoint: str, path: str, params: Params, window: Window, decode: Callable[[bytes], Page[T]]
    ) -> Iterator[Page[T]]:
        """Yield all pages; cursors belong to their query, so the parameters stay as they are."""
        cursor: tuple[tuple[str, str], ...] = ()
        seen = set()
        for _ in range(window.buckets + 1):
            page = decode(self.client.get(endpoint, path, [*params, *cursor], retry=self.retry))
            yield page
            if not page.has_more:
                return
            if not page.next_page or page.next_page in seen:
                raise BadResponseError(f"{endpoint}: more pages are promised, but the cursor is missing or repeated")
            seen.add(page.next_page)
            cursor = (("page", page.next_page),)
        raise BadResponseError(
            f"{endpoint}: more than {window.buckets + 1} pages, which is more than there are buckets"
        )

    def _list(self, endpoint: str, params: Params, item: type[T]) -> list[T]:
        items: list[T] = []
        cursor: tuple[tuple[str, str], ...] = ()
        seen = set()
        for _ in range(MOST_LIST_PAGES):
            query = [*params, ("limit", str(LIST_LIMIT)), *cursor]
            body = self.client.get(endpoint, f"{ROOT}/{endpoint}", query, retry=self.retry)
            page = _decode(endpoint, body, ListPage[item])  # type: ignore[valid-type]
            items += page.data
            if not page.has_more:
                return items
            if not page.last_id or page.last_id in seen:
                raise BadResponseError(f"{endpoint}: more pages are promised, but the cursor is missing or repeated")
            seen.add(page.last_id)
            cursor = (("after_id", page.last_id),)
        raise BadResponseError(f"{endpoint}: more than {MOST_LIST_PAGES} pages")


def _cost_page(body: bytes) -> Page[WireBucket[CostItem]]:
    return _decode("cost", body, Page[WireBucket[CostItem]])


def _range(window: Window) -> list[tuple[str, str]]:
    return [
        ("starting_at", _rfc3339(window.start)),
        ("ending_at", _rfc3339(window.end)),
        ("limit", str(min(window.buckets, MOST_BUCKETS[window.width]))),
    ]


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decode(endpoint: str, body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except UNREADABLE as error:
        raise BadResponseError(f"{endpoint}: the answer is not what the API promises: {error}") from error


def _state(item: WorkspaceItem) -> str:
    return "archived" if item.archived_at else "active"


def _workspace_of(item: ApiKeyItem, known: Collection[str], default_id: str | None) -> str:
    """Return the key's workspace: from the old field, which is null for the default one, or from its scope."""
    if item.workspace_id:
        return DEFAULT_WORKSPACE if item.workspace_id == default_id else item.workspace_id
    scope = item.scope or Scope()
    if scope.type == "organization":
        return NOT_APPLICABLE
    return scope.workspace_id if scope.workspace_id in known and scope.workspace_id else DEFAULT_WORKSPACE

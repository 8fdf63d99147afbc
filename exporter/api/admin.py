"""The Admin API's reports and lists as the domain's values: all pages of a window, or an error."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TypeVar

from exporter.api.client import Client, Params
from exporter.api.limits import limits_of
from exporter.api.pace import Pace
from exporter.api.pages import Body, Found, cost_page, decode, usage_page
from exporter.api.rows import (
    API_KEY_USAGE,
    USAGE,
    Grouping,
    Shelf,
    bill_labels,
    cost_shelf,
    merged,
    timestamp,
    usage_shelf,
)
from exporter.api.wire import (
    AnyPage,
    ApiKeyItem,
    CursorPage,
    ListPage,
    OrganizationItem,
    RateLimitItem,
    Scope,
    WorkspaceItem,
)
from exporter.dates import rfc3339
from exporter.errors import BadRequestError, BadResponseError
from exporter.families import BILLED, SERVER_TOOL_REQUESTS, TOKENS
from exporter.model import (
    DAY,
    DEFAULT_WORKSPACE,
    HOUR,
    MINUTE,
    NOT_APPLICABLE,
    ApiKey,
    Bucket,
    Organization,
    RateLimits,
    Window,
    Workspace,
)

ROOT = "/v1/organizations"
PATHS = {"usage": "usage_report/messages", "cost": "cost_report", "organization": "me"}
"""Where endpoints are that are not called as here."""

WIDTHS = {MINUTE: "1m", HOUR: "1h", DAY: "1d"}
FILTERS = {
    "model": "models[]",
    "workspace_id": "workspace_ids[]",
    "api_key_id": "api_key_ids[]",
    "service_tier": "service_tiers[]",
    "context_window": "context_window[]",
    "inference_geo": "inference_geos[]",
    "account_id": "account_ids[]",
    "service_account_id": "service_account_ids[]",
}
"""The dimensions of usage, and the parameters that keep only some values of them."""

MOST_DIMENSIONS = 5
"""Dimensions that one report of usage tells apart."""

LIST_LIMIT = 1000
MOST_LIST_PAGES = 1000

T = TypeVar("T")
P = TypeVar("P", bound=AnyPage)


def _unheard(_field: str, _rows: int) -> None:
    """Nobody listens for schema drift."""


@dataclass(frozen=True)
class AdminApi:
    """Reads of one organisation.

    ``filters`` are query parameters that narrow usage down (``workspace_ids[]`` …); ``drift`` hears of usage figures
    that are new or missing, and in how many rows. With ``retry`` off each request is tried once.

    A window may be wide: usage is read in parts of it, each with pages of its own, as long as fill a page. Cursors
    belong to their query, so a page can only be of another size in another part. ``pace`` tells how long they are.
    """

    client: Client
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drift: Callable[[str, int], None] = _unheard
    retry: bool = True
    pace: Pace = field(default_factory=Pace)
    _shelves: dict[tuple[str, int], Shelf] = field(default_factory=dict, init=False, repr=False, compare=False)

    def usage(self, window: Window) -> list[Bucket[int]]:
        """Return the buckets of ``window`` by model, workspace, tier, context window and geography."""
        return self._usage(window, USAGE)

    def api_key_usage(self, window: Window) -> list[Bucket[int]]:
        """Return the buckets of ``window`` by API key, workspace, model, tier and context window.

        What was used without a key is the Console's. The report has room for five dimensions, so a geography is not
        told here.
        """
        return self._usage(window, API_KEY_USAGE)

    def usage_by(self, dimensions: Sequence[str], window: Window) -> list[Bucket[int]]:
        """Return the buckets of ``window`` by up to five dimensions, whose values are the labels, in this order."""
        return self._usage(window, Grouping(tuple(dimensions), TOKENS, SERVER_TOOL_REQUESTS))

    def cost(self, window: Window) -> list[Bucket[Decimal]]:
        """Return the finished days of ``window`` by workspace and line item, in USD.

        A day without rows is left out: its bill is not known yet.
        """
        return self._cost(window, ("workspace_id", "description"), BILLED, cost_shelf)

    def cost_by(self, grouping: Sequence[str], window: Window) -> list[Bucket[Decimal]]:
        """Return the same by ``workspace_id``, ``description`` or both; the labels are their ``bill_labels``."""
        labels = bill_labels(grouping)
        return self._cost(window, grouping, ",".join(labels), partial(cost_shelf, labels))

    def organization(self) -> Organization:
        """Return the organisation that the key belongs to."""
        item = decode("organization", self._get("organization", ()), OrganizationItem)
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

    def rate_limits(self) -> RateLimits:
        """Return the organisation's limits: of model groups by their ids, of anything else by its type."""
        # Without a limit: the API promises everything on one page then, and does not tell how much it would allow.
        pages = self._pages("rate_limits", (), _rate_limits_page, MOST_LIST_PAGES)
        return limits_of(item for page in pages for item in page.data)

    def _usage(self, window: Window, grouping: Grouping) -> list[Bucket[int]]:
        params = [
            ("bucket_width", WIDTHS[window.width]),
            *(("group_by[]", dimension) for dimension in grouping.dimensions),
            *((name, value) for name, values in self.filters.items() for value in values),
        ]
        shelf = self._shelf(grouping.name, window.width, partial(usage_shelf, grouping))
        read = partial(usage_page, shelf=shelf, drift=self.drift)
        pages: list[Found[int]] = []
        rest = window
        while rest.buckets:
            part = self.pace.part(grouping.name, rest)
            found = list(self._pages("usage", [*_range(part, part.buckets), *params], read, part.buckets + 1))
            self.pace.saw(grouping.name, part, sum(page.rows for page in found))
            pages += found
            rest = Window(rest.width, part.end, rest.end)
        return merged(window, (bucket for page in pages for bucket in page.buckets))

    def _cost(
        self, window: Window, grouping: Sequence[str], name: str, empty: Callable[[], Shelf]
    ) -> list[Bucket[Decimal]]:
        # In one part, whatever its pages: a part without any finished day would be refused.
        limit = self.pace.most(name, DAY, window.buckets)
        params = [
            *_range(window, limit),
            ("bucket_width", "1d"),
            *(("group_by[]", dimension) for dimension in grouping),
        ]
        read = partial(cost_page, shelf=self._shelf(name, DAY, empty))
        pages = list(self._pages("cost", params, read, window.buckets + 1))
        self.pace.saw(name, window, sum(page.rows for page in pages))
        return merged(window, (day for page in pages for day in page.buckets if day.counts))

    def _shelf(self, name: str, width: int, empty: Callable[[], Shelf]) -> Shelf:
        """Return the shelf for a new read of these buckets; bucket widths differ in how much of a day they meet."""
        shelf = self._shelves.setdefault((name, width), empty())
        shelf.turn()
        return shelf

    def _with_default(self) -> list[WorkspaceItem]:
        """Return the list with the default workspace; its parameter is newer than the list itself."""
        try:
            return self._list("workspaces", [("include_archived", "true"), ("include_default", "true")], WorkspaceItem)
        except BadRequestError:
            return []

    def _list(self, endpoint: str, params: Params, item: type[T]) -> list[T]:
        def read(body: Body) -> ListPage[T]:
            return decode(endpoint, body, ListPage[item])  # type: ignore[valid-type]

        pages = self._pages(endpoint, [*params, ("limit", str(LIST_LIMIT))], read, MOST_LIST_PAGES)
        return [entry for page in pages for entry in page.data]

    def _pages(self, endpoint: str, params: Params, read: Callable[[Body], P], most: int) -> Iterator[P]:
        """Yield what ``read`` makes of each page; cursors belong to their query, so the parameters stay as they are.

        A next page that is promised but not told, that was seen before, or that is one more than ``most`` is an error.
        """
        cursor: tuple[tuple[str, str], ...] = ()
        seen = set()
        for _ in range(most):
            # Nothing here holds the body: it is gone before the next one comes.
            page = read(self._get(endpoint, [*params, *cursor]))
            yield page
            if page.following is None:
                return
            name, value = page.following
            if not value or value in seen:
                raise BadResponseError(f"{endpoint}: more pages are promised, but the cursor is missing or repeated")
            seen.add(value)
            cursor = ((name, value),)
        raise BadResponseError(f"{endpoint}: more than {most} pages")

    def _get(self, endpoint: str, params: Params) -> bytearray:
        return self.client.get(endpoint, f"{ROOT}/{PATHS.get(endpoint, endpoint)}", params, retry=self.retry)


def _rate_limits_page(body: Body) -> CursorPage[RateLimitItem]:
    return decode("rate_limits", body, CursorPage[RateLimitItem])


def _range(window: Window, limit: int) -> list[tuple[str, str]]:
    return [("starting_at", rfc3339(window.start)), ("ending_at", rfc3339(window.end)), ("limit", str(limit))]


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

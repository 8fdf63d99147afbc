"""The organisation itself and the lists of what has a name or a limit."""

from collections.abc import Sequence

from exporter.demo.organization import ApiKey, Organization, Workspace
from exporter.demo.query import Cursor, Query, Refused, rfc3339
from exporter.demo.reports import Json, Page

_PAGE_PARAMETERS = ("after_id", "before_id", "limit")
_STATUSES = ("active", "archived", "expired", "inactive")
_CREATED = "2025-03-04T09:00:00Z"
_ARCHIVED = "2025-12-31T17:00:00Z"
_RATE_LIMITS: tuple[tuple[str, str | None, tuple[str, ...], dict[str, int]], ...] = (
    (
        "claude_opus",
        "Claude Opus Active",
        ("claude-opus-5-5", "claude-opus-4-8"),
        {
            "requests_per_minute": 4000,
            "input_tokens_per_minute": 2_000_000,
            "output_tokens_per_minute": 400_000,
        },
    ),
    (
        "claude_sonnet",
        "Claude Sonnet Active",
        ("claude-sonnet-5-5", "claude-sonnet-4-5-20250929"),
        {
            "requests_per_minute": 4000,
            "input_tokens_per_minute": 2_000_000,
            "output_tokens_per_minute": 400_000,
        },
    ),
    (
        "claude_haiku",
        "Claude Haiku Active",
        ("claude-haiku-5-5",),
        {
            "requests_per_minute": 4000,
            "input_tokens_per_minute": 4_000_000,
            "output_tokens_per_minute": 800_000,
        },
    ),
    (
        "claude_fable",
        "Claude Fable Active",
        ("claude-fable-5-1",),
        {"requests_per_minute": 1000, "input_tokens_per_minute": 500_000, "output_tokens_per_minute": 100_000},
    ),
    ("batch", None, (), {"enqueued_batch_requests": 500_000}),
    ("web_search", None, (), {"requests_per_minute": 1800}),
)


def me(organization: Organization, query: Query) -> Page:
    """Answer ``/me``."""
    query.only(())
    return Page({"id": organization.id, "type": "organization", "name": organization.name})


def workspaces(organization: Organization, query: Query) -> Page:
    """Answer ``/workspaces``."""
    query.only((*_PAGE_PARAMETERS, "include_archived", "include_default"))
    archived_too = query.flag("include_archived")
    listed = [workspace for workspace in organization.workspaces if archived_too or not workspace.archived]
    if query.flag("include_default"):
        listed.insert(0, Workspace(organization.default_workspace_id, "Default", archived=False))
    return _page(query, [_workspace(workspace) for workspace in listed])


def _workspace(workspace: Workspace) -> Json:
    return {
        "id": workspace.id,
        "type": "workspace",
        "name": workspace.name,
        "created_at": _CREATED,
        "archived_at": _ARCHIVED if workspace.archived else None,
        "display_color": "#6C5BB9",
        "compartment_id": None,
        "external_key_id": None,
        "tags": {},
        "data_residency": {
            "allowed_inference_geos": "unrestricted",
            "default_inference_geo": "global",
            "workspace_geo": "us",
        },
    }


def api_keys(organization: Organization, query: Query, now: float) -> Page:
    """Answer ``/api_keys``."""
    query.only((*_PAGE_PARAMETERS, "status", "workspace_id", "created_by_user_id"))
    status, workspace_id = query.word("status", _STATUSES), query.one("workspace_id")
    listed = [
        key
        for key in organization.api_keys
        if status in {None, _status(key, now)} and workspace_id in {None, key.workspace_id}
    ]
    return _page(query, [_api_key(key, organization, now) for key in listed])


def _status(key: ApiKey, now: float) -> str:
    return "expired" if key.expires_at is not None and key.expires_at <= now else key.status


def _api_key(key: ApiKey, organization: Organization, now: float) -> Json:
    in_default = key.workspace_id == organization.default_workspace_id
    return {
        "id": key.id,
        "type": "api_key",
        "name": key.name,
        "status": _status(key, now),
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "partial_key_hint": None,
        "created_by": None,
        "principal": None,
        "workspace_id": None if in_default else key.workspace_id,
        "scope": {"type": "workspace", "workspace_id": key.workspace_id},
    }


def _page(query: Query, items: Sequence[Json]) -> Page:
    limit = query.limit(20, 1000)
    after, before = query.one("after_id"), query.one("before_id")
    ids = [str(item["id"]) for item in items]
    for name, anchor in (("after_id", after), ("before_id", before)):
        if anchor is not None and anchor not in ids:
            raise Refused(400, f"{name}: not an id of this list")
    left = ids.index(after) + 1 if after is not None else 0
    right = ids.index(before) if before is not None else len(ids)
    backwards = before is not None and after is None
    shown = list(items[left:right])
    kept = shown[-limit:] if backwards else shown[:limit]
    body: Json = {
        "data": kept,
        "first_id": kept[0]["id"] if kept else None,
        "last_id": kept[-1]["id"] if kept else None,
        "has_more": len(kept) < len(shown),
    }
    return Page(body, after)


def rate_limits(query: Query) -> Page:
    """Answer ``/rate_limits``; all entries are on one page unless a limit is given."""
    query.only(("group_type", "model", "limit", "page"))
    limit, cursor = query.limit(len(_RATE_LIMITS), 1000), query.cursor(0)
    group_type, model = query.one("group_type"), query.one("model")
    if model is not None and not any(model in models for _, _, models, _ in _RATE_LIMITS):
        raise Refused(404, f"model: {model}")
    data = [
        _rate_limit(name, display_name, models, limits)
        for name, display_name, models, limits in _RATE_LIMITS
        if group_type in {None, _group_type(name, display_name)} and (model is None or model in models)
    ]
    end = cursor.start + limit
    following = str(Cursor(end, cursor.number + 1, cursor.query)) if end < len(data) else None
    return Page({"data": data[cursor.start : end], "next_page": following}, str(cursor))


def _group_type(name: str, display_name: str | None) -> str:
    return "model_group" if display_name else name


def _rate_limit(name: str, display_name: str | None, models: Sequence[str], limits: dict[str, int]) -> Json:
    group: Json = {"id": f"rlg_{name}", "type": _group_type(name, display_name)}
    if display_name:
        group["display_name"] = display_name
    return {
        "type": "rate_limit",
        "id": f"rl_{name}",
        "group_type": group["type"],
        "group": group,
        "models": list(models) or None,
        "limits": [{"type": word, "value": value} for word, value in limits.items()],
    }

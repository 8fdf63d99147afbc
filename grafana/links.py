"""Links from one dashboard to another, with what was selected."""

from grafana.looks import Json

_VARIABLES = ("datasource", "job", "model", "service_tier")
_CARRIED = "&".join(f"${{{name}:queryparam}}" for name in _VARIABLES) + "&${__url_time_range}"


def _link(title: str, uid: str, picked: str) -> Json:
    return {"title": title, "url": f"/d/{uid}?{picked}&{_CARRIED}", "targetBlank": False}


TO_WORKSPACE: Json = {
    "links": [_link("Open its drill-down", "anthropic-workspace", "var-workspace=${__data.fields.workspace_id}")]
}
"""Properties of a column with workspaces' names, in a table that has their ids too."""

TO_KEY: Json = {
    "links": [
        _link("Only this key", "anthropic-workspace", "var-api_key=${__data.fields.api_key_id}&${workspace:queryparam}")
    ]
}
"""The same of API keys."""

"""The dashboards' variables: people choose names, queries get ids."""

from grafana.builder import DATASOURCE
from grafana.looks import Json

ALL = {"text": "All", "value": "$__all"}


def _query(name: str, label: str, query: str, *, regex: str = "") -> Json:
    return {
        "allValue": ".+",
        "current": ALL,
        "datasource": DATASOURCE,
        "definition": query,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "regex": regex,
        "sort": 1,
        "type": "query",
    }


def _named(kind: str) -> str:
    """Return the expression by which Grafana shows the name of a series and uses its id."""
    return rf'/{kind}_name="(?<text>[^"]+)|{kind}_id="(?<value>[^"]+)/g'


DATA_SOURCE = {
    "current": {},
    "label": "Data source",
    "multi": False,
    "name": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "type": "datasource",
}
JOB = _query("job", "Job", "label_values(anthropic_exporter_build_info, job)")
WORKSPACE = _query(
    "workspace",
    "Workspace",
    'query_result(max by (workspace_id, workspace_name) (anthropic_workspace_info{job=~"$job"}))',
    regex=_named("workspace"),
)
USED_OR_BILLED = '{__name__=~"anthropic_usage_tokens_total|anthropic_cost_month_to_date_usd", job=~"$job"}'
"""The bill has lines of no model and no tier: they can be chosen as ``none``."""
MODEL = _query("model", "Model", f"label_values({USED_OR_BILLED}, model)")
SERVICE_TIER = _query("service_tier", "Service tier", f"label_values({USED_OR_BILLED}, service_tier)")
API_KEY = _query(
    "api_key",
    "API key",
    "query_result(max by (api_key_id, api_key_name) "
    '(anthropic_api_key_info{job=~"$job", workspace_id=~"$workspace|none"}))',
    regex=_named("api_key"),
)
EVERYWHERE = [DATA_SOURCE, JOB, WORKSPACE, MODEL, SERVICE_TIER]

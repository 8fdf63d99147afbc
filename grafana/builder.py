"""Grafana's classic dashboard JSON, made of plain functions: dictionaries in, dictionaries out.

The schema is version 39: Grafana 10.4 and newer read it, and migrate it forward themselves. A panel's ``id`` is part of
links to it, so it is written out and never reused.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from grafana.looks import NEUTRAL, Json, Steps, override, thresholds

SCHEMA_VERSION = 39
COLUMNS = 24
MIN_STEP = "5m"
"""No graph asks for less: usage is minutes old anyway, and ``$__rate_interval`` becomes 20 minutes, without gaps."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAGS = ["anthropic", "anthropic-exporter", "llm-cost"]
NOTHING: Mapping[str, Any] = {}
BY_STEPS = {"mode": "thresholds"}
LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def target(
    expr: str, legend: str = "", *, instant: bool = False, table: bool = False, min_step: str = MIN_STEP
) -> Json:
    """Return a query; its ``refId`` is given by the panel."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "time_series",
        "instant": instant,
        "interval": "" if instant else min_step,
        "legendFormat": legend or "__auto",
        "range": not instant,
    }


def now(expr: str, legend: str = "") -> Json:
    """Return a query for one moment: the end of the dashboard's range."""
    return target(expr, legend, instant=True)


def stat(
    number: int,
    title: str,
    description: str,
    *targets: Json,
    steps: Steps = NEUTRAL,
    mappings: Sequence[Json] = (),
    options: Mapping[str, Any] = NOTHING,
    **look: Any,
) -> Json:
    """Return a panel of single values, with how they went behind them if a query is over time; see ``_panel``."""
    is_graph = not any(one["instant"] for one in targets)
    shown = {
        "colorMode": "value",
        "graphMode": "area" if is_graph else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": LAST,
        "textMode": "auto",
        "wideLayout": True,
    }
    # What has no value has no colour either.
    said = [*mappings, {"type": "special", "options": {"match": "null+nan", "result": {"color": "text"}}}]
    defaults = {"color": BY_STEPS, "mappings": said, "thresholds": thresholds(steps)}
    return _panel("stat", number, title, description, targets, defaults, shown | dict(options), **look)


def timeseries(
    number: int,
    title: str,
    description: str,
    *targets: Json,
    stacked: bool = False,
    steps: Steps | None = None,
    most: float | None = None,
    custom: Mapping[str, Any] = NOTHING,
    **look: Any,
) -> Json:
    """Return a panel of lines over time; ``steps`` are drawn as dashed lines, ``custom`` is the lines' style."""
    style: Json = {
        "fillOpacity": 30 if stacked else 0,
        "lineWidth": 1,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }
    defaults: Json = {"color": {"mode": "palette-classic"}, "custom": style | dict(custom), "min": 0}
    if most is not None:
        defaults["max"] = most
    if steps:
        defaults["thresholds"] = thresholds(steps)
        defaults["custom"]["thresholdsStyle"] = {"mode": "dashed"}
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", number, title, description, targets, defaults, options, **look)


def bargauge(
    number: int,
    title: str,
    description: str,
    *targets: Json,
    steps: Steps = ((None, "blue"),),
    least: float | None = 0,
    **look: Any,
) -> Json:
    """Return a panel of one horizontal bar for each series, the longest first if the query sorts them."""
    defaults: Json = {"color": BY_STEPS, "thresholds": thresholds(steps)}
    if least is not None:
        defaults["min"] = least
    options = {
        "displayMode": "basic",
        "minVizHeight": 16,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": LAST,
        "showUnfilled": True,
        "valueMode": "text",
    }
    return _panel("bargauge", number, title, description, targets, defaults, options, **look)


class Column(NamedTuple):
    """A column of a table: a label of the queries, or the value of ``expr``; ``style`` as in ``override``."""

    name: str
    label: str = ""
    expr: str = ""
    unit: str = ""
    style: Mapping[str, Any] = {}


def table(
    number: int,
    title: str,
    description: str,
    *columns: Column,
    by: str = "",
    hidden: Sequence[str] = (),
    totals: Sequence[str] = (),
    **look: Any,
) -> Json:
    """Return a panel with a row for each label set; the values of ``columns`` are joined by their labels.

    It is sorted by the column ``by``, the greatest first. ``hidden`` labels are there for links. ``totals`` are the
    columns that are summed below.
    """
    values = [column for column in columns if column.expr]
    targets = [target(column.expr, instant=True, table=True) for column in values]
    figures = {f"Value #{chr(65 + n)}" if len(values) > 1 else "Value": one.name for n, one in enumerate(values)}
    names = {column.label: column.name for column in columns if column.label} | figures
    order = [next(key for key, name in names.items() if name == column.name) for column in columns] + list(hidden)
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {name: place for place, name in enumerate(order)},
        "renameByName": names,
    }
    styles = [
        override(column.name, **({"unit": column.unit} if column.unit else {}), **column.style)
        for column in columns
        if column.unit or column.style
    ]
    styles += [override(name, custom_hidden=True) for name in hidden]
    options = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "enablePagination": False, "fields": list(totals), "reducer": ["sum"],
                   "show": bool(totals)},
        "showHeader": True,
        "sortBy": [{"desc": True, "displayName": by}] if by else [],
    }  # fmt: skip
    defaults = {"color": BY_STEPS, "custom": {"align": "auto"}, "thresholds": thresholds(NEUTRAL)}
    panel = _panel("table", number, title, description, targets, defaults, options, overrides=styles, **look)
    sort = {"id": "sortBy", "options": {"sort": [{"desc": True, "field": by}]}}
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    panel["transformations"] += [sort] if by else []
    return panel


def text(number: int, title: str, markdown: str) -> Json:
    """Return a panel of words."""
    return {
        "id": number,
        "options": {"content": markdown, "mode": "markdown"},
        "title": title,
        "type": "text",
    }


def line(height: int, *panels: Json | tuple[int, Json]) -> list[Json]:
    """Return panels side by side; those without a width of their own share what is left of the 24 columns."""
    given = [panel if isinstance(panel, tuple) else (0, panel) for panel in panels]
    left, sharing = COLUMNS - sum(width for width, _ in given), sum(not width for width, _ in given)
    if left < 0 or (sharing and left % sharing) or (left and not sharing):
        raise ValueError(f"{[width for width, _ in given]} do not fill {COLUMNS} columns evenly")
    widths = [width or left // sharing for width, _ in given]
    starts = accumulate(widths, initial=0)
    return [
        panel | {"gridPos": {"h": height, "w": width, "x": start}}
        for (_, panel), width, start in zip(given, widths, starts, strict=False)
    ]


def dashboard(
    uid: str, title: str, description: str, lines: Sequence[list[Json]], variables: Sequence[Json], since: str
) -> Json:
    """Return a whole dashboard; ``lines`` come below each other, and ``since`` is where its range begins."""
    tops = accumulate((panels[0]["gridPos"]["h"] for panels in lines), initial=0)
    return {
        "annotations": {"list": [_alerts()]},
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_menu()],
        "panels": [
            panel | {"gridPos": panel["gridPos"] | {"y": top}}
            for panels, top in zip(lines, tops, strict=False)
            for panel in panels
        ],
        "refresh": "5m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": TAGS,
        "templating": {"list": list(variables)},
        "time": {"from": since, "to": "now"},
        "timezone": "utc",
        "title": title,
        "uid": uid,
        "weekStart": "monday",
    }


def _panel(  # noqa: PLR0913 - the three kinds of panels say all of it by position
    kind: str,
    number: int,
    title: str,
    description: str,
    targets: Sequence[Json],
    defaults: Json,
    options: Json,
    /,
    *,
    unit: str = "",
    decimals: int | None = None,
    empty: str | None = None,
    overrides: Iterable[Json] = (),
    relative: str | None = None,
) -> Json:
    """Return what all panels with queries have; the queries get their letters by their order.

    ``empty`` stands where there is no value, and ``relative`` is a range of the panel's own, such as ``now/d``.
    """
    values = {"unit": unit or None, "decimals": decimals, "noValue": empty}
    fields = defaults | {key: value for key, value in values.items() if value is not None}
    return {
        "datasource": DATASOURCE,
        "description": description,
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "id": number,
        "options": options,
        "targets": [one | {"refId": chr(65 + place)} for place, one in enumerate(targets)],
        "title": title,
        "type": kind,
    } | ({"timeFrom": relative} if relative else {})


def _menu() -> Json:
    return {
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["anthropic-exporter"],
        "targetBlank": False,
        "title": "Anthropic",
        "type": "dashboards",
    }


def _alerts() -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": False,
        "expr": 'ALERTS{alertname=~"Anthropic.+", alertstate="firing", severity=~"warning|critical"}',
        "iconColor": "red",
        "name": "Firing alerts",
        "titleFormat": "{{alertname}}",
    }

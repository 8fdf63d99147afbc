"""Whether spend is out of the ordinary, and whether the budget will last: the page for whom an alert has woken."""

from grafana.builder import Column, dashboard, line, now, stat, table, target, timeseries
from grafana.clocks import BOTH, ESTIMATED, OWN, USAGE
from grafana.links import TO_KEY, TO_WORKSPACE
from grafana.looks import COUNT, DAYS, SHARE, USD, USED, band, coloured, dashed, drawn, override, thresholds
from grafana.queries import (
    ANY,
    BUDGET,
    GONE_OF_MONTH,
    KEY_SPEND,
    PICKED_KEYS,
    TOKENS,
    USAGE_MARK,
    burn,
    forecast,
    grown,
    least,
    most,
    named,
    per_day,
    so_far,
    spent,
    spent_by_key,
    usual,
    workspace_budget,
)
from grafana.variables import API_KEY, EVERYWHERE

WINDOWS = {"1h": (1, 14.4), "6h": (6, 6.0), "1d": (24, 3.0), "7d": (168, 1.2)}
"""Windows of the burn rate: their hours, and the rate from which on it is too fast.

Over an hour, office traffic alone may be four times the plan; over a week there is no excuse.
"""
WORKSPACE_BUDGET = workspace_budget()
SPIKE = 3
NO_BUDGET = "no budget set"
KEY = "api_key_id"
USUAL_BY_KEY = usual(KEY, counter=KEY_SPEND, where=PICKED_KEYS)
HOUR_BY_KEY = spent_by_key("1h", KEY)
RAISED = f"topk(10, {HOUR_BY_KEY} - ({USUAL_BY_KEY} or {HOUR_BY_KEY} * 0) > 0)"


def _budgeted(expr: str) -> str:
    """Return ``expr`` of the workspaces that have a budget, by name."""
    return named(f"{expr} and on (workspace_id) {WORKSPACE_BUDGET}", "workspace")


def _raised(expr: str) -> str:
    """Return ``expr`` of the keys that are most above their usual hour, by name."""
    return named(f"({expr}) and on ({KEY}) {RAISED}", "api_key")


BURN = line(
    5,
    (
        10,
        stat(
            1, "Budget burn rate",
            "How many times faster than an even month the organisation's budget is spent, over four windows. Red is "
            "14.4 in an hour, 6 in six, 3 in a day, 1.2 in a week: find the workspace below before the month is "
            f"gone. {BOTH}",
            *(now(burn(window, hours), window) for window, (hours, _) in WINDOWS.items()),
            unit="none", decimals=1, empty=NO_BUDGET,
            overrides=[
                override(window, thresholds=thresholds(((None, "green"), (factor, "red"))))
                for window, (_, factor) in WINDOWS.items()
            ],
        ),
    ),
    (
        5,
        stat(
            2, "Budget used, and month gone",
            "Share of the organisation's budget that is spent, and share of the UTC month that is over. The first "
            f"should not run ahead of the second. {BOTH}",
            now(f"{so_far(where=ANY)} / {BUDGET}", "used"), now(f"vector({GONE_OF_MONTH})", "gone"),
            unit=SHARE, decimals=1, empty=NO_BUDGET, overrides=(override("used", thresholds=thresholds(USED)),),
        ),
    ),
    (
        5,
        stat(
            3, "Budget lasts for",
            "Days until the organisation's budget is spent, if they are like the last seven. Compare it with the days "
            f"that are left of the month. {BOTH}",
            now(f"clamp_min({BUDGET} - {so_far(where=ANY)}, 0) / ({per_day(where=ANY)} > 0)"),
            unit=DAYS, decimals=1, empty="no budget, or no spend yet",
        ),
    ),
    (
        4,
        stat(
            4, "Firing alerts",
            f"Alerts called Anthropic… that fire now, by the rules of this Prometheus; they are listed below. {OWN}",
            now('count(ALERTS{alertname=~"Anthropic.+", alertstate="firing"})'), unit=COUNT, empty="none",
            steps=((None, "green"), (1, "red")),
        ),
    ),
)  # fmt: skip
ORDINARY = line(
    8,
    (
        14,
        timeseries(
            5, "Spend of each hour against the usual",
            "Dollars of the last hour; what that hour usually brings (the most of yesterday's, last week's and the "
            f"mean of seven days); and three times that. Above the band it is a spike. {ESTIMATED}",
            target(spent("1h"), "spent", min_step="15m"),
            target(usual(""), "usual", min_step="30m"),
            target(f"{SPIKE} * {usual('')}", "3 x usual", min_step="30m"),
            unit=USD,
            overrides=(
                drawn("spent", "blue", lineWidth=2),
                drawn("usual", "green"),
                drawn("3 x usual", "orange", fillOpacity=12, fillBelowTo="usual"),
            ),
        ),
    ),
    (
        10,
        timeseries(
            6, "Times the usual, by workspace",
            "Spend of each hour by what that hour usually brings. Above 3, look at that workspace's keys; a small "
            f"workspace gets there easily, so look at the dollars, too. {ESTIMATED}",
            target(
                named(f"{spent('1h', 'workspace_id')} / ({usual('workspace_id')} > 0.01)", "workspace"),
                "{{workspace_name}}", min_step="30m",
            ),
            unit="none", decimals=1, steps=((None, "transparent"), (SPIKE, "red")),
        ),
    ),
)  # fmt: skip
PACE = line(
    8,
    timeseries(
        7, "Burn rate over time",
        "How many times faster than planned the budget was spent; 1 is an even month. Weekly humps are office hours, a "
        f"long line above 1.2 is a budget that will not last. {ESTIMATED}",
        *(target(burn(window, hours), window, min_step="1h") for window, (hours, _) in WINDOWS.items()),
        unit="none", decimals=1, steps=((None, "transparent"), (1, "orange")),
    ),
    timeseries(
        8, "Forecast of the month against the budget",
        "What the month was forecast to come to, as the month went on, with a band that holds four times in five. "
        f"Where the band is below the dashed line, the budget lasts. {BOTH}",
        target(forecast(where=ANY), "forecast", min_step="6h"),
        target(least(where=ANY), "low", min_step="6h"),
        target(most(where=ANY), "high", min_step="6h"),
        target(BUDGET, "budget", min_step="6h"),
        unit=USD, relative="now/M",
        overrides=(
            drawn("forecast", "orange", lineWidth=2),
            *band("low", "high", "orange"),
            dashed("budget", "red"),
        ),
    ),
)  # fmt: skip
WHO = line(
    8,
    (
        12,
        table(
            9, "API keys above their usual hour",
            "The keys whose last hour is most above what that hour usually brings, in dollars. A key that had nothing "
            f"before has no usual hour. The drill-down shows what it does. {ESTIMATED}",
            Column("API key", label="api_key_name", style=TO_KEY),
            Column("Last hour", expr=_raised(HOUR_BY_KEY), unit=USD, style={"decimals": 2, "custom_width": 110}),
            Column(
                "Usual", expr=_raised(USUAL_BY_KEY), unit=USD,
                style={"decimals": 2, "custom_width": 110, "noValue": "none"},
            ),
            Column(
                "Times usual", expr=_raised(f"{HOUR_BY_KEY} / ({USUAL_BY_KEY} > 0)"), unit="none",
                style={
                    "decimals": 1, "custom_width": 110, "noValue": "new",

                    **coloured(((None, "text"), (SPIKE, "orange"), (10, "red"))),
                },
            ),
            by="Last hour", hidden=(KEY,), empty="none, or not by key",
        ),
    ),
    (
        12,
        timeseries(
            10, "Spend per UTC day against the week before",
            "Dollars of each of the last 31 days, and the mean of the seven days before it. Weekends are low; a bar "
            f"that is half as high again as the line is worth a question. {ESTIMATED}",
            target(spent("1d", offset="-1d5m"), "day", min_step="1d"),
            target(
                f"{spent('7d')} / count_over_time(max({USAGE_MARK})[7d:1d])", "mean of 7 days before", min_step="1d"
            ),
            unit=USD, relative="31d",
            overrides=(
                drawn("day", "blue", drawStyle="bars", fillOpacity=50),
                drawn("mean of 7 days before", "orange", lineWidth=2),
            ),
        ),
    ),
)  # fmt: skip
REST = line(
    8,
    (
        8,
        table(
            11, "Budget used by workspace",
            f"Each workspace's month so far and its share of the monthly budget, for those that have one. {BOTH}",
            Column("Workspace", label="workspace_name", style=TO_WORKSPACE),
            Column(
                "Month so far", expr=_budgeted(so_far("workspace_id", where=ANY)), unit=USD,
                style={"decimals": 2, "custom_width": 110},
            ),
            Column(
                "Used", expr=_budgeted(f"{so_far('workspace_id', where=ANY)} / on (workspace_id) {WORKSPACE_BUDGET}"),
                unit=SHARE,
                style={"decimals": 1, "custom_width": 80,
                       **coloured(USED)},
            ),
            by="Used", hidden=("workspace_id",), empty=NO_BUDGET,
        ),
    ),
    (
        8,
        timeseries(
            12, "Tokens per hour against the usual",
            "All tokens, those without a price and those of Priority Tier too: where money is blind, this line is not. "
            f"{USAGE}",
            target(grown(TOKENS, "1h"), "tokens", min_step="15m"),
            target(usual("", counter=TOKENS), "usual", min_step="30m"),
            unit=COUNT,
            overrides=(
                drawn("tokens", "blue"),
                drawn("usual", "green"),
            ),
        ),
    ),
    (
        8,
        table(
            13, "Alerts that fire",
            "Alerts called Anthropic… that fire now, by the rules of this Prometheus. Without such rules it is always "
            f"empty. {OWN}",
            Column("Alert", label="alertname"),
            Column("Severity", label="severity", style={"custom_width": 90}),
            Column(
                "Firing", expr='max by (alertname, severity) (ALERTS{alertname=~"Anthropic.+", alertstate="firing"})',
                style={"custom_hidden": True},
            ),
            empty="no alert fires",
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-anomalies",
    "Anthropic / Budget & anomalies",
    "Whether spend is out of the ordinary, whose it is, and whether the budget will last.",
    [BURN, ORDINARY, PACE, WHO, REST],
    [*EVERYWHERE, API_KEY],
    "now-7d",
)

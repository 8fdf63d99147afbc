"""What the month costs and whose it is: for finance, with every dollar in exactly one row."""

from grafana.builder import Column, bargauge, dashboard, line, now, stat, table, target, text, timeseries
from grafana.clocks import BILLED, BOTH, ESTIMATED
from grafana.links import TO_WORKSPACE
from grafana.looks import BARS, EXACT_USD, SHARE, USED, coloured, dashed, drawn
from grafana.queries import (
    ANY,
    BUDGET,
    GONE_OF_MONTH,
    billed,
    forecast,
    named,
    so_far,
    spent,
    workspace_budget,
)
from grafana.variables import EVERYWHERE

CHOSEN = f'{ANY}, workspace_id=~"$workspace"'
WORKSPACE_BUDGET = workspace_budget(where=CHOSEN)
ESTIMATED_TYPES = f'{ANY}, cost_type=~"tokens|web_search"'
MONEY = {"decimals": 2, "custom_width": 130}
OF_DAY = "-1d5m"
"""Shifts a day's growth to the day it describes; the counters are 5 minutes behind the clock."""


def _rows(expr: str) -> str:
    return named(expr, "workspace")


def _billed_at(offset: str) -> str:
    """Return the bill of the day that begins, if it was the newest one at ``offset``."""
    newest = f"max(anthropic_cost_last_day_start_timestamp_seconds{{{ANY}}} offset {offset})"
    return f"(sum(anthropic_cost_last_day_usd{{{ESTIMATED_TYPES}}} offset {offset}) and on () ({newest} == time()))"


HEAD = line(
    4,
    stat(
        1, "Month to date, billed",
        "Dollars of this UTC month's days that have a bill; lines without a model or a tier, such as web search, are "
        "`none` above. It is what the invoice will be made of, before credits and "
        f"taxes and without Priority Tier. {BILLED}",
        now(billed("month_to_date")), unit=EXACT_USD, decimals=2,
    ),
    stat(
        2, "Not billed yet",
        f"Estimated dollars of this month's days without a bill; add it to the billed month to date. {ESTIMATED}",
        now(billed("unbilled_estimate")), unit=EXACT_USD, decimals=2,
    ),
    stat(
        3, "Month, forecast",
        f"Month so far plus the days that are left, each like the mean of the last seven days. {BOTH}",
        now(forecast()), unit=EXACT_USD, decimals=2,
    ),
    stat(
        4, "Last month",
        "Dollars of the UTC month before this one: the figure to hold against the invoice, complete from about the 3rd "
        f"on. {BILLED}",
        now(billed("previous_month")), unit=EXACT_USD, decimals=2,
    ),
    stat(
        5, "Budget left",
        "What is left of the whole organisation's monthly budget, whatever is selected above. Below zero it is "
        f"overspent. {BOTH}",
        now(f"{BUDGET} - {so_far(where=ANY)}"), unit=EXACT_USD, decimals=2, empty="no budget set",
        steps=((None, "red"), (0, "text")),
    ),
    stat(
        6, "Estimate by bill",
        "What was estimated of the newest whole day before its bill came, by that bill; 100 % is perfect. Outside of "
        f"95 to 105 %, look for a new discount or a model without a price. {BILLED}",
        now(f"max(anthropic_estimate_to_bill_ratio{{{ANY}}})"), unit=SHARE, decimals=1, empty="no such day yet",
        steps=((None, "text"), (0.001, "orange"), (0.95, "green"), (1.05, "orange")),
    ),
)  # fmt: skip
CHARGEBACK = line(
    8,
    table(
        7, "Chargeback by workspace",
        "One row for each workspace; the columns add up to the figures above. A workspace without a budget has none in "
        f"budget.workspaces. Download it as CSV by the panel's menu, Inspect, Data. {BOTH}",
        Column("Workspace", label="workspace_name", style=TO_WORKSPACE),
        Column("Billed", expr=_rows(billed("month_to_date", "workspace_id")), unit=EXACT_USD, style=MONEY),
        Column("Not billed yet", expr=_rows(billed("unbilled_estimate", "workspace_id")), unit=EXACT_USD, style=MONEY),
        Column("Month so far", expr=_rows(so_far("workspace_id")), unit=EXACT_USD, style=MONEY),
        Column(
            "Share", expr=_rows(f"{so_far('workspace_id')} / on () group_left () ({so_far()} > 0)"), unit=SHARE,
            style={"decimals": 1, "min": 0, "max": 1, "custom_width": 150,
                   "custom_cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
                   "color": {"mode": "fixed", "fixedColor": "blue"}},
        ),
        Column("Last month", expr=_rows(billed("previous_month", "workspace_id")), unit=EXACT_USD, style=MONEY),
        Column("Forecast", expr=_rows(forecast("workspace_id")), unit=EXACT_USD, style=MONEY),
        Column("Budget", expr=_rows(WORKSPACE_BUDGET), unit=EXACT_USD, style=MONEY),
        Column(
            "Budget used",
            expr=_rows(f"{so_far('workspace_id', where=CHOSEN)} / on (workspace_id) {WORKSPACE_BUDGET}"), unit=SHARE,
            style={"decimals": 1, "custom_width": 120, **coloured(USED)},
        ),
        by="Month so far", hidden=("workspace_id",),
        totals=("Billed", "Not billed yet", "Month so far", "Share", "Last month", "Forecast", "Budget"),
    ),
)  # fmt: skip
PARTS = line(
    7,
    bargauge(
        8, "Month so far by cost type",
        "Tokens, web search, code execution, sessions. What is not tokens or web search is billed only and never "
        f"estimated. {BOTH}",
        now(f"sort_desc({so_far('cost_type')})", "{{cost_type}}"), unit=EXACT_USD, decimals=2,
    ),
    bargauge(
        9, "Month so far by model",
        "By the usage report's names of models; `none` is what the bill has no model for, such as web search. Models "
        f"that are dear and dull are the first to replace. {BOTH}",
        now(f"sort_desc(topk(8, {so_far('model')}))", "{{model}}"), unit=EXACT_USD, decimals=2,
    ),
    bargauge(
        10, "Month so far by token type",
        f"Output and uncached input are dear, cache reads cheap. `none` is not tokens. {BOTH}",
        now(f"sort_desc({so_far('token_type')})", "{{token_type}}"), unit=EXACT_USD, decimals=2,
    ),
)  # fmt: skip
DAYS = line(
    8,
    timeseries(
        11, "Spend per UTC day by workspace",
        f"Dollars of the last 31 days; today's bar still grows. {ESTIMATED}",
        target(
            named(spent("1d", "workspace_id", offset=OF_DAY), "workspace", during=f"[1d] offset {OF_DAY}"),
            "{{workspace_name}}", min_step="1d",
        ),
        unit=EXACT_USD, stacked=True, custom=BARS, relative="31d", decimals=0,
    ),
    timeseries(
        12, "Estimate against bill by UTC day",
        "What was estimated of each day, and what it was billed, of tokens and web search, whatever is selected above. "
        f"The two should be one line; days without a bill have only the estimate. {BILLED}",
        target(spent("1d", where=ANY, offset=OF_DAY), "estimate", min_step="1d"),
        target(
            " or ".join(map(_billed_at, ("-2d", "-60h", "-3d"))), "billed", min_step="1d",
        ),
        unit=EXACT_USD, relative="31d", decimals=0, custom={"showPoints": "always", "pointSize": 6},
        overrides=(
            drawn("estimate", "blue", drawStyle="bars", fillOpacity=50),
            drawn("billed", "orange", lineWidth=2),
        ),
    ),
)  # fmt: skip
PLAN = line(
    8,
    (
        16,
        timeseries(
            13, "Month so far against the budget, day by day",
            "Dollars of this month, and the organisation's budget spread evenly over it. Above the dashed line the "
            f"month runs ahead of its budget. {BOTH}",
            target(so_far(where=ANY), "so far", min_step="1h"),
            target(f"{BUDGET} * {GONE_OF_MONTH}", "budget, spread evenly", min_step="1h"),
            unit=EXACT_USD, relative="now/M", decimals=0,
            overrides=(
                drawn("so far", "blue", lineWidth=2),
                dashed("budget, spread evenly", "red"),
            ),
        ),
    ),
    (
        8,
        text(
            14, "What these figures leave out",
            "- **Priority Tier** is paid by commitment and is not in the cost report.\n"
            "- **Credits, taxes and minimum fees** are on the invoice only.\n"
            "- **Bedrock, Vertex and seats** are billed elsewhere.\n"
            "- Months and days are **UTC**. A bill comes a day or two late and may be corrected for weeks.\n"
            "- Estimates use the prices of your own bill, and list prices where it has none yet.",
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-cost",
    "Anthropic / Cost & chargeback",
    "What this UTC month costs, whose it is, and how well the estimate meets the bill.",
    [HEAD, CHARGEBACK, PARTS, DAYS, PLAN],
    EVERYWHERE,
    "now/M",
)

"""What is being spent, by whom, and whether the figures can be trusted: the page to begin with."""

from grafana.builder import Column, dashboard, line, now, stat, table, target, timeseries
from grafana.clocks import BOTH, ESTIMATED, OWN, USAGE
from grafana.links import TO_WORKSPACE
from grafana.looks import COUNT, NEUTRAL, SECONDS, SHARE, USD, USED, band, coloured, dashed, drawn, override, thresholds
from grafana.queries import (
    ANY,
    BEHIND,
    BUDGET,
    SILENT,
    SPEND,
    TOKENS,
    change,
    forecast,
    grown,
    hit_ratio,
    least,
    most,
    named,
    per_second,
    saved,
    so_far,
    spent,
)
from grafana.variables import EVERYWHERE

NARROW = {"decimals": 2, "custom_width": 90}
MOVED = "workspace_id, model"
TODAY, YESTERDAY = spent("1d", MOVED), spent("1d", MOVED, offset="1d")
MOVERS = f"topk(7, abs({change(TODAY, YESTERDAY)}) > 0)"
GROWTH = ((None, "text"), (0.25, "orange"), (1.0, "red"))


def _moved(expr: str) -> str:
    """Return ``expr`` of the workspaces and models that moved most, by name."""
    return named(f"({expr}) and on ({MOVED}) {MOVERS}", "workspace", "model")


NOW = line(
    4,
    stat(
        1, "Spend, last hour",
        "Dollars spent in the last hour, and how that went. If it is not what you expect, look below for the model and "
        f"the workspace, then at Budget & anomalies. {ESTIMATED}",
        target(spent("1h")), unit=USD, decimals=2,
    ),
    stat(
        2, "Spend today",
        "Dollars since midnight UTC; with a fixed range, of that range. Compare it with the change beside "
        f"day. {ESTIMATED}",
        now(spent("$__range")), unit=USD, decimals=2, relative="now/d",
    ),
    stat(
        3, "Week on week",
        "Today so far against the same hours of the same weekday, a week ago. When it turns orange, the top movers say "
        f"who it is. {ESTIMATED}",
        now(f"{spent('$__range')} / ({spent('$__range', offset='1w')} > 0) - 1"),
        unit=SHARE, decimals=0, relative="now/d", steps=GROWTH, empty="no data a week ago",
    ),
    stat(
        4, "Month so far",
        "Dollars of this UTC month, Priority Tier left out. What the bill has no model or tier for, such as web "
        f"search, is `none` above. Finance finds the parts in Cost & chargeback. {BOTH}",
        now(so_far()), unit=USD, decimals=2,
    ),
    stat(
        5, "Month, forecast",
        "Month so far plus the days that are left, each like the mean of the last seven days. If it is above the "
        f"budget, slow down or ask for more before the month ends. {BOTH}",
        now(forecast()), unit=USD, decimals=2,
    ),
    stat(
        6, "Budget used",
        "Share of the whole organisation's monthly budget that is spent, whatever is selected above. Set it with "
        f"budget.monthly_usd. {BOTH}",
        now(f"{so_far(where=ANY)} / {BUDGET}"), unit=SHARE, decimals=1, steps=USED, empty="no budget set",
    ),
)  # fmt: skip
RATES = line(
    8,
    timeseries(
        7, "Spend per hour by model",
        "Dollars per hour. A new colour is a new model; a band that grows is where the money goes. "
        f"{ESTIMATED}",
        target(f"{per_second(SPEND, 'model')} * 3600", "{{model}}"), unit=USD, stacked=True,
    ),
    timeseries(
        8, "Spend per hour by workspace",
        "Dollars per hour, by the workspaces' names. Pick one above, or open the drill-down, to see its "
        f"keys. {ESTIMATED}",
        target(f"({named(per_second(SPEND, 'workspace_id'), 'workspace')}) * 3600", "{{workspace_name}}"),
        unit=USD, stacked=True,
    ),
)  # fmt: skip
MONTH = line(
    9,
    timeseries(
        9, "Month: spend, forecast and budget",
        "Dollars of this month so far, what the month is forecast to come to with a band that holds four times in "
        "five, and the organisation's budget. Act when the band, not the line, is above the budget. "
        f"{BOTH}",
        target(so_far(), "so far", min_step="1h"),
        target(forecast(), "forecast", min_step="6h"),
        target(least(), "low", min_step="6h"),
        target(most(), "high", min_step="6h"),
        target(BUDGET, "budget", min_step="6h"),
        unit=USD, relative="now/M",
        overrides=(
            drawn("so far", "blue", fillOpacity=25, lineWidth=2),
            drawn("forecast", "orange"),
            *band("low", "high", "orange"),
            dashed("budget", "red"),
        ),
    ),
    table(
        10, "Top movers: last 24 hours against the 24 before",
        "The workspaces and models whose spend changed most, either way. Open the workspace's drill-down to see "
        f"which key it is. {ESTIMATED}",
        Column("Workspace", label="workspace_name", style=TO_WORKSPACE | {"custom_width": 120}),
        Column("Model", label="model"),
        Column("Last 24 h", expr=_moved(f"{TODAY} or {YESTERDAY} * 0"), unit=USD, style=NARROW),
        Column("Before", expr=_moved(f"{YESTERDAY} or {TODAY} * 0"), unit=USD, style=NARROW),
        Column("Change", expr=_moved(change(TODAY, YESTERDAY)), unit=USD, style=NARROW),
        Column(
            "Change %", expr=_moved(f"{TODAY} / ({YESTERDAY} > 0) - 1"), unit=SHARE,
            style={
                "decimals": 0, "custom_width": 90, "noValue": "new", **coloured(GROWTH),
            },
        ),
        by="Change", hidden=("workspace_id",), empty="nothing moved",
    ),
)  # fmt: skip
TRUST = line(
    8,
    (
        10,
        timeseries(
            11, "Tokens per minute by type",
            "Tokens, Priority Tier included. Output and cache writes are dear, cache reads cheap: look at the mix, not "
            f"at the height. {USAGE}",
            target(f"{per_second(TOKENS, 'token_type')} * 60", "{{token_type}}"), unit=COUNT, stacked=True,
        ),
    ),
    (
        4,
        stat(
            12, "Cache hits",
            "Share of input tokens that came from the cache, over six hours. When it drops, prompts have changed; see "
            f"Usage & efficiency. {USAGE}",
            target(hit_ratio("6h")), unit=SHARE, decimals=1,
        ),
    ),
    (
        4,
        stat(
            13, "Saved by caching",
            "Dollars that the cache saved in the range: reads at the price of input, less what reads and writes cost. "
            f"Below zero the cache costs money. {ESTIMATED}",
            now(saved("$__range")), unit=USD, decimals=2, steps=((None, "red"), (0, "text")),
        ),
    ),
    (
        6,
        stat(
            14, "Can these figures be trusted?",
            "Exporters that do not answer, how far the counters are behind, how old the bill is, failing reports, "
            "tokens without a price in 24 hours, and the estimate by the bill of the newest day that has both. See "
            f"Exporter health. {OWN}",
            now(SILENT, "exporters silent"),
            now(BEHIND, "usage is behind"),
            now(f"time() - min(anthropic_cost_last_day_start_timestamp_seconds{{{ANY}}}) - 86400", "bill is behind"),
            now(f"count(anthropic_up{{{ANY}}}) - sum(anthropic_up{{{ANY}}})", "reports failing"),
            now(f"{grown('anthropic_unpriced_tokens_total', '1d', where=ANY)} or vector(0)", "tokens unpriced"),
            now(f"max(anthropic_estimate_to_bill_ratio{{{ANY}}})", "estimate / bill"),
            unit=COUNT, steps=NEUTRAL, options={"orientation": "horizontal"},
            overrides=(
                override("exporters silent", thresholds=thresholds(((None, "green"), (1, "red")))),
                override("usage is behind", unit=SECONDS, decimals=0,
                         thresholds=thresholds(((None, "green"), (1200, "orange"), (3600, "red")))),
                override("bill is behind", unit=SECONDS, decimals=0,
                         thresholds=thresholds(((None, "green"), (172800, "orange"), (345600, "red")))),
                override("reports failing", thresholds=thresholds(((None, "green"), (1, "red")))),
                override("tokens unpriced", thresholds=thresholds(((None, "green"), (1, "orange")))),
                override("estimate / bill", unit=SHARE, decimals=1,
                         thresholds=thresholds(((None, "orange"), (0.95, "green"), (1.05, "orange")))),
            ),
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-overview",
    "Anthropic / Overview",
    "What the organisation spends on the Anthropic API now, today and this month, by whom, and whether that is known "
    "for sure.",
    [NOW, RATES, MONTH, TRUST],
    EVERYWHERE,
    "now-7d",
)

"""Who spends inside a workspace: the page that answers "which key did it"."""

from grafana.builder import Column, dashboard, line, now, stat, table, target, timeseries
from grafana.clocks import BOTH, ESTIMATED, POLLED, USAGE
from grafana.links import TO_KEY
from grafana.looks import COUNT, SHARE, USD, USED, coloured, dashed, drawn
from grafana.queries import (
    ANY,
    KEY_SPEND,
    KEY_TOKENS,
    PICKED_KEYS,
    SPEND,
    TOKENS,
    hit_ratio,
    named,
    per_second,
    so_far,
    spent,
    spent_by_key,
)
from grafana.variables import API_KEY, EVERYWHERE

KEY = "api_key_id"
WEEK_BY_KEY = f"({spent_by_key('7d', KEY)} > 0)"
DAY_BY_KEY = spent_by_key("1d", KEY)
BEFORE_BY_KEY = spent_by_key("7d", KEY, offset="1d")
LONG_BEFORE_BY_KEY = spent_by_key("28d", KEY, offset="1d")
WORKSPACE_BUDGETS = f'anthropic_workspace_budget_usd{{{ANY}, workspace_id=~"$workspace"}}'
EXPIRES = f"min by ({KEY}) (anthropic_api_key_expires_timestamp_seconds{{{ANY}}})"
MONEY = {"decimals": 2, "custom_width": 120}


def _keys(expr: str) -> str:
    return named(expr, "api_key", also="status")


def _in_use(expr: str) -> str:
    """Return ``expr`` of the keys with spend in a week, each of which has a figure."""
    return _keys(f"({expr}) and on ({KEY}) {WEEK_BY_KEY} or {WEEK_BY_KEY} * 0")


def _awake(expr: str) -> str:
    """Return ``expr`` of the keys that spend and did not in the week before."""
    return _keys(f"({expr}) and on ({KEY}) ({DAY_BY_KEY} > 0) unless on ({KEY}) ({BEFORE_BY_KEY} > 0)")


HEAD = line(
    4,
    stat(
        1, "Spend, last hour",
        f"Dollars of the selected workspaces in the last hour, and how that went. {ESTIMATED}",
        target(spent("1h")), unit=USD, decimals=2,
    ),
    stat(
        2, "Last 24 hours",
        f"Dollars of the selected workspaces in the last 24 hours. {ESTIMATED}",
        now(spent("1d")), unit=USD, decimals=2,
    ),
    stat(
        3, "Month so far",
        f"Dollars of this UTC month of the selected workspaces. {BOTH}",
        now(so_far()), unit=USD, decimals=2,
    ),
    stat(
        4, "Budget used",
        "Share of the monthly budgets of the selected workspaces that is spent; those without a budget are left out. "
        f"Set them with budget.workspaces. {BOTH}",
        now(
            f"sum({so_far('workspace_id', where=ANY)} and on (workspace_id) {WORKSPACE_BUDGETS}) "
            f"/ sum({WORKSPACE_BUDGETS})"
        ),
        unit=SHARE, decimals=1, steps=USED, empty="no budget set",
    ),
    stat(
        5, "Keys that spend",
        "API keys with spend in the last 24 hours, the Console counted as one. A key that nobody knows is one to "
        f"disable. {ESTIMATED}",
        now(f"count({DAY_BY_KEY} > 0) or 0 * count({spent_by_key('1d', KEY, where=ANY)})"),
        unit=COUNT, empty="not by key",
    ),
    stat(
        6, "Cache hits",
        f"Share of input tokens that came from the cache, over six hours. {USAGE}",
        target(hit_ratio("6h")), unit=SHARE, decimals=1,
    ),
)  # fmt: skip
RATES = line(
    8,
    timeseries(
        7, "Spend per hour by API key",
        "Dollars per hour, by the keys' names. The band that jumps is the key to ask about; click it in the table "
        f"below. Empty when usage.by_api_key is off. {ESTIMATED}",
        target(
            f"({named(per_second(KEY_SPEND, KEY, where=PICKED_KEYS), 'api_key')}) * 3600", "{{api_key_name}}"
        ),
        unit=USD, stacked=True,
    ),
    timeseries(
        8, "Spend per hour by model",
        "Dollars per hour of the selected workspaces. A dear model where a cheap one was is a change of "
        f"code. {ESTIMATED}",
        target(f"{per_second(SPEND, 'model')} * 3600", "{{model}}"), unit=USD, stacked=True,
    ),
)  # fmt: skip
KEYS = line(
    11,
    (
        15,
        table(
            9, "API keys",
            "Dollars by key: compare the last hour with a 24th of the day, and the day with a seventh of the week. A "
            f"key that spends though it is inactive was used before it was switched off. {ESTIMATED}",
            Column("API key", label="api_key_name", style=TO_KEY),
            Column("Status", label="status", style={"custom_width": 90}),
            Column("Last hour", expr=_in_use(spent_by_key("1h", KEY)), unit=USD, style=MONEY),
            Column("24 hours", expr=_in_use(DAY_BY_KEY), unit=USD, style=MONEY),
            Column("7 days", expr=_keys(WEEK_BY_KEY), unit=USD, style=MONEY),
            Column(
                "Of a mean day",
                expr=_keys(f"({DAY_BY_KEY} or {WEEK_BY_KEY} * 0) / ({WEEK_BY_KEY} / 7)"), unit=SHARE,
                style={"decimals": 0, "custom_width": 125,
                       **coloured(((None, "text"), (1.5, "orange"), (3, "red")))},
            ),
            by="24 hours", hidden=(KEY,), totals=("Last hour", "24 hours", "7 days"), empty="none, or not by key",
        ),
    ),
    (
        9,
        table(
            10, "New and woken keys",
            "Keys that spent in the last 24 hours and not in the seven days before. With spend in the month before "
            "that, the key has woken; with none it is new. If nobody expects it, disable it in the Console first and "
            f"ask then. {ESTIMATED}",
            Column("API key", label="api_key_name", style=TO_KEY),
            Column("Status", label="status", style={"custom_width": 80}),
            Column("24 hours", expr=_awake(DAY_BY_KEY), unit=USD, style={"decimals": 2, "custom_width": 100}),
            Column(
                "28 days before", expr=_awake(f"{LONG_BEFORE_BY_KEY} or {DAY_BY_KEY} * 0"), unit=USD,
                style={"decimals": 2, "custom_width": 120},
            ),
            by="24 hours", hidden=(KEY,), empty="none, or not by key",
        ),
    ),
)  # fmt: skip
HABITS = line(
    8,
    (
        14,
        timeseries(
            11, "This hour against last week's",
            "Dollars of each hour, of the same hour a day ago and a week ago. Only a line that leaves both others is "
            f"news. {ESTIMATED}",
            target(spent("1h"), "now", min_step="15m"),
            target(spent("1h", offset="1d"), "a day ago", min_step="15m"),
            target(spent("1h", offset="1w"), "a week ago", min_step="15m"),
            unit=USD, relative="2d",
            overrides=(
                drawn("now", "blue", lineWidth=2, fillOpacity=15),
                drawn("a day ago", "orange"),
                dashed("a week ago", "purple"),
            ),
        ),
    ),
    (
        10,
        timeseries(
            12, "Tokens per minute by type",
            f"Tokens of the selected workspaces, Priority Tier included. {USAGE}",
            target(f"{per_second(TOKENS, 'token_type')} * 60", "{{token_type}}"), unit=COUNT, stacked=True,
        ),
    ),
)  # fmt: skip
HITS = line(
    8,
    (
        14,
        timeseries(
            13, "Cache hits by API key",
            "Share of input tokens that came from the cache, over six hours, of keys that cache at all. A step down is "
            f"a changed prompt in that client. {USAGE}",
            target(
                named(f"{hit_ratio('6h', KEY, counter=KEY_TOKENS, where=PICKED_KEYS)} > 0", "api_key"),
                "{{api_key_name}}", min_step="30m",
            ),
            unit=SHARE, most=1,
        ),
    ),
    (
        10,
        table(
            14, "Keys that expire",
            "Keys with an end date that is ahead or less than 30 days ago; what still uses them then is refused. Renew "
            f"them in the Console. {POLLED}",
            Column("API key", label="api_key_name"),
            Column("Status", label="status", style={"custom_width": 90}),
            Column("Expires", expr=_keys(f"1000 * ({EXPIRES} > time() - 2592000)"), unit="dateTimeFromNow"),
            hidden=(KEY,), empty="no key expires",
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-workspace",
    "Anthropic / Workspace & key drill-down",
    "Who spends inside a workspace, which API key it is, and whether that is new.",
    [HEAD, RATES, KEYS, HABITS, HITS],
    [*EVERYWHERE, API_KEY],
    "now-2d",
)

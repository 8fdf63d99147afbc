"""Whether the money is well spent: caching, batching, models, tiers and limits, for those who write the prompts."""

from grafana.builder import Column, bargauge, dashboard, line, now, stat, table, target, timeseries
from grafana.clocks import ESTIMATED, USAGE
from grafana.looks import COUNT, SHARE, USD, coloured, override
from grafana.queries import (
    ANY,
    PICKED,
    SEARCHES,
    SPEND,
    TOKENS,
    grown,
    hit_ratio,
    named,
    per_second,
    saved,
    spent,
)
from grafana.variables import EVERYWHERE

RANGE = "$__range"
PRICED = f'{PICKED}, service_tier!="priority"'
PRICED_OUTPUT = f'{PRICED}, token_type="output"'
BATCH = f'{PICKED}, service_tier="batch"'
READS = f'{PICKED}, token_type="cache_read"'
CACHED = f'{PICKED}, token_type=~"cache_.+"'
INPUT = f'{PICKED}, token_type!="output"'
LONG_INPUT = f'{INPUT}, context_window!~"0-200k|none"'
SEARCH_COST = f'{PICKED}, cost_type="web_search"'
WRITES = grown(TOKENS, RANGE, where=f'{PICKED}, token_type=~"cache_creation_.+"')
STANDARD = spent(RANGE, where=f'{PICKED}, service_tier="standard", cost_type="tokens"')
TOKENS_COST = f'{PICKED}, cost_type="tokens"'
# Batches have limits of their own, and so has what was committed to.
LIMITED = f'{ANY}, service_tier="standard"'
LIMITED_INPUT = f'{LIMITED}, token_type=~"uncached_input|cache_creation_.+"'
LIMITED_OUTPUT = f'{LIMITED}, token_type="output"'

FULL = {
    "decimals": 0, "custom_width": 90, "noValue": "no limit",
    **coloured(((None, "green"), (0.6, "orange"), (0.9, "red"))),
}  # fmt: skip
NARROW = {"custom_width": 112}


def _by_group(tokens: str) -> str:
    """Return tokens by model as tokens by the groups of models that share a limit."""
    groups = f"max by (model, model_group) (anthropic_model_group_info{{{ANY}}})"
    return f"sum by (model_group) ({groups} * on (model) group_left () {tokens})"


def _limit(name: str) -> str:
    return f'max by (model_group) (anthropic_rate_limit{{{ANY}, limit="{name}"}})'


def _of_limit(where: str, name: str) -> str:
    """Return the share of a limit that is used."""
    return f"{_by_group(per_second(TOKENS, 'model', where=where))} * 60 / on (model_group) {_limit(name)}"


def _peak(where: str, name: str) -> str:
    """Return the greatest share of a limit that was used in any five minutes of a day."""
    used = _by_group(grown(TOKENS, "5m", "model", where=where))
    return f"max_over_time(({used} / 5 / on (model_group) {_limit(name)})[1d:5m])"


HEAD = line(
    4,
    stat(
        1, "Cache hits",
        "Share of input tokens that came from the cache, in the range. If it fell, the beginning of prompts has become "
        f"different from request to request. {USAGE}",
        now(hit_ratio(RANGE)), unit=SHARE, decimals=1,
    ),
    stat(
        2, "Saved by caching",
        "Dollars that the cache saved in the range: reads at the price of input, less what reads and writes cost. "
        f"Below zero, caching costs money. Models without a known price and Priority Tier are left out. {ESTIMATED}",
        now(saved(RANGE)), unit=USD, decimals=2, steps=((None, "red"), (0, "text")),
    ),
    stat(
        3, "Reads for each cache write",
        "How often a token that was written into the cache is read. Below about 1 the write was not worth its price: "
        f"write less, or keep the cache for an hour. {USAGE}",
        now(f"{grown(TOKENS, RANGE, where=READS)} / ({WRITES} > 0)"),
        unit=COUNT, decimals=1, steps=((None, "red"), (1, "text")), empty="nothing cached",
    ),
    stat(
        4, "Batched",
        f"Share of tokens, Priority Tier left out, that went through the Batch API at half the price. {USAGE}",
        now(
            f"({grown(TOKENS, RANGE, where=BATCH)} or vector(0)) "
            f"/ ({grown(TOKENS, RANGE, where=PRICED)} > 0)"
        ),
        unit=SHARE, decimals=1,
    ),
    stat(
        5, "If all of it could wait",
        "Dollars that the Batch API would have saved in the range if every standard request had used it: the most "
        f"there is to win. Jobs that run at night are where to begin. {ESTIMATED}",
        now(f"{STANDARD} / 2"), unit=USD, decimals=2,
    ),
    stat(
        6, "Long context",
        "Share of input tokens in requests above 200k tokens. They are slow, and dear where the price depends on "
        f"length. {USAGE}",
        now(
            f"({grown(TOKENS, RANGE, where=LONG_INPUT)} "
            f"or vector(0)) / ({grown(TOKENS, RANGE, where=INPUT)} > 0)"
        ),
        unit=SHARE, decimals=1,
    ),
)  # fmt: skip
CACHE = line(
    8,
    timeseries(
        7, "Cache hits by model",
        "Share of input tokens that came from the cache, over six hours. A step down in one model is a changed prompt, "
        f"in all of them a changed client. {USAGE}",
        target(hit_ratio("6h", "model"), "{{model}}", min_step="30m"), unit=SHARE, most=1,
    ),
    timeseries(
        8, "Cache writes and reads, tokens per minute",
        "Writes for 5 minutes and for 1 hour, and reads. Writes without reads after them are wasted; hour-long writes "
        f"cost more and should be read for longer. {USAGE}",
        target(
            f"{per_second(TOKENS, 'token_type', where=CACHED)} * 60", "{{token_type}}"
        ),
        unit=COUNT,
    ),
    bargauge(
        9, "Saved by caching, by workspace",
        f"Dollars in the range. A red bar is a workspace whose cache costs more than it saves. {ESTIMATED}",
        now(f"sort_desc({named(saved(RANGE, 'workspace_id'), 'workspace')})", "{{workspace_name}}"), unit=USD,
        steps=((None, "red"), (0, "blue")), least=None,
    ),
)  # fmt: skip
MODELS = line(
    8,
    (
        14,
        table(
            10, "What a million tokens really cost, by model",
            "Dollars for a million tokens of all types, and for a million of output when everything is put on it: the "
            "figure to compare models by. Priority Tier is left out of dollars and tokens alike. "
            f"{ESTIMATED}",
            Column("Model", label="model"),
            Column("Spent", expr=spent(RANGE, "model"), unit=USD, style=NARROW | {"decimals": 2}),
            Column("Tokens", expr=grown(TOKENS, RANGE, "model", where=PRICED), unit=COUNT, style=NARROW),
            Column(
                "$ / M tokens",
                expr=f"1e6 * {spent(RANGE, 'model', where=TOKENS_COST)} "
                f"/ ({grown(TOKENS, RANGE, 'model', where=PRICED)} > 0)",
                unit=USD, style=NARROW | {"decimals": 2},
            ),
            Column(
                "$ / M output",
                expr=f"1e6 * {spent(RANGE, 'model', where=TOKENS_COST)} "
                f"/ ({grown(TOKENS, RANGE, 'model', where=PRICED_OUTPUT)} > 0)",
                unit=USD, style=NARROW | {"decimals": 2},
            ),
            Column(
                "Output share",
                expr=f"{grown(TOKENS, RANGE, 'model', where=PRICED_OUTPUT)} "
                f"/ ({grown(TOKENS, RANGE, 'model', where=PRICED)} > 0)",
                unit=SHARE, style=NARROW | {"decimals": 1},
            ),
            Column(
                "Cache hits", expr=hit_ratio(RANGE, "model", where=PRICED), unit=SHARE, style=NARROW | {"decimals": 1}
            ),
            by="Spent",
        ),
    ),
    (
        10,
        timeseries(
            11, "Tokens by service tier",
            "Tokens per minute. Priority Tier shows up here and never on the bill; what it does not hold spills over "
            f"to standard. {USAGE}",
            target(f"{per_second(TOKENS, 'service_tier')} * 60", "{{service_tier}}"), unit=COUNT, stacked=True,
        ),
    ),
)  # fmt: skip
LIMITS = line(
    8,
    (
        10,
        timeseries(
            12, "Input tokens per minute, of the limit",
            "Standard tier's uncached input and cache writes by group of models, over 20 minutes, as a share of the "
            f"organisation's limit. Above 100 % requests are refused: spread them, cache, or ask for more. {USAGE}",
            target(_of_limit(LIMITED_INPUT, "input_tokens_per_minute"), "{{model_group}}"), unit=SHARE,
        ),
    ),
    (
        6,
        table(
            13, "Fullest five minutes of a day, of the limit",
            "The most that standard tier used of its limits, in any five minutes of the last 24 hours; single minutes "
            f"may have been fuller. Orange from 60 %, red from 90 %: ask for more, or move work to batches. {USAGE}",
            Column("Models", label="model_group"),
            Column("Input", expr=_peak(LIMITED_INPUT, "input_tokens_per_minute"), unit=SHARE, style=FULL),
            Column("Output", expr=_peak(LIMITED_OUTPUT, "output_tokens_per_minute"), unit=SHARE, style=FULL),
            by="Input", empty="no limits known",
        ),
    ),
    (
        8,
        timeseries(
            14, "Web searches and what they cost",
            "Searches per hour, and dollars per hour on the right. Searching costs by the request and puts tokens "
            f"of results into prompts. {ESTIMATED}",
            target(f"{per_second(SEARCHES)} * 3600", "searches"),
            target(f"{per_second(SPEND, where=SEARCH_COST)} * 3600", "dollars"),
            unit=COUNT,
            overrides=(override("dollars", unit=USD, decimals=2, custom_axisPlacement="right"),),
        ),
    ),
)  # fmt: skip

BOARD = dashboard(
    "anthropic-efficiency",
    "Anthropic / Usage & efficiency",
    "Whether tokens are well spent: caching, batching, models, service tiers and rate limits.",
    [HEAD, CACHE, MODELS, LIMITS],
    EVERYWHERE,
    "now-7d",
)

"""What a day's tokens cost at this organisation's negotiated prices, line by line."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import NamedTuple

from exporter.demo.organization import CostLine, Dimensions, Tokens
from exporter.demo.prices import (
    BATCH_FACTOR,
    CODE_EXECUTION_CENTS_PER_HOUR,
    LIST_PRICES,
    LONG_PROMPT_FACTOR,
    US_FACTOR,
    WEB_SEARCH_CENTS,
)

DISCOUNTS = {
    ("claude-opus-5-5", "uncached_input"): Decimal("0.85"),
    ("claude-opus-5-5", "cache_creation_5m"): Decimal("0.85"),
    ("claude-opus-5-5", "cache_creation_1h"): Decimal("0.85"),
    ("claude-opus-5-5", "cache_read"): Decimal("0.9"),
    ("claude-opus-5-5", "output"): Decimal("0.875"),
    ("claude-sonnet-5-5", "uncached_input"): Decimal("0.92"),
    ("claude-sonnet-5-5", "output"): Decimal("0.92"),
    ("claude-opus-4-8", "cache_read"): Decimal("0.8"),
}
"""What this organisation negotiated, by model and token type: factors on the list price."""

LONG_PROMPTS = 8
"""Every so many tokens of a model with dearer long prompts belong to one."""

_WIRE_WORDS = {
    "uncached_input": ("uncached_input_tokens", "Input Tokens"),
    "cache_read": ("cache_read_input_tokens", "Input Tokens, Cache Read"),
    "cache_creation_5m": ("cache_creation.ephemeral_5m_input_tokens", "Input Tokens, Cache Write (5m)"),
    "cache_creation_1h": ("cache_creation.ephemeral_1h_input_tokens", "Input Tokens, Cache Write (1h)"),
    "output": ("output_tokens", "Output Tokens"),
}


class _Group(NamedTuple):
    """Usage that shares its unit prices."""

    workspace_id: str | None
    model: str
    service_tier: str
    context_window: str
    inference_geo: str


def unit_price(model: str, service_tier: str, inference_geo: str, token_type: str) -> Decimal:
    """Return the cents for one token; ``model`` is the bill's name, ``token_type`` a field of ``Tokens``."""
    usd_per_million: Decimal = getattr(LIST_PRICES[model], token_type)
    price = usd_per_million / 10_000 * DISCOUNTS.get((model, token_type), Decimal(1))
    if service_tier == "batch":
        price *= BATCH_FACTOR
    if inference_geo == "us":
        price *= US_FACTOR
    return price


def lines(usage: Mapping[Dimensions, Tokens], random: Random) -> Iterator[CostLine]:
    """Write the bill for a day's usage; ``random`` decides on the rare lines."""
    groups, searches = _grouped(usage)
    if not groups:
        return
    tokens = [line for group, counts in groups.items() for line in _token_lines(group, counts)]
    yield from tokens
    for workspace_id, count in searches.items():
        yield _other_line(workspace_id, "web_search", "Web Search Usage", count * WEB_SEARCH_CENTS)
    if random.random() < 0.35:
        hours = Decimal(random.randint(1, 4000)) / 100
        workspace_id = random.choice([group.workspace_id for group in groups])
        amount = hours * CODE_EXECUTION_CENTS_PER_HOUR
        yield _other_line(workspace_id, "code_execution", "Code Execution Usage", amount)
    if random.random() < 0.1:
        yield _correction(random.choice(tokens), random)


def _grouped(
    usage: Mapping[Dimensions, Tokens],
) -> tuple[Mapping[_Group, Tokens], Mapping[str | None, int]]:
    groups: dict[_Group, Tokens] = defaultdict(Tokens)
    searches: dict[str | None, int] = defaultdict(int)
    for dimensions, tokens in usage.items():
        # Priority Tier is paid for by commitment and never on a bill.
        if dimensions.service_tier == "priority" or not any(tokens):
            continue
        group = _Group(*dimensions[1:])._replace(model=_billed_name(dimensions.model))
        groups[group] = groups[group].plus(tokens)
        if tokens.web_search:
            searches[dimensions.workspace_id] += tokens.web_search
    return groups, searches


def _token_lines(group: _Group, tokens: Tokens) -> Iterator[CostLine]:
    for token_type in _WIRE_WORDS:
        count: int = getattr(tokens, token_type)
        factor = LONG_PROMPT_FACTOR.get(group.model)
        long = count // LONG_PROMPTS if factor else 0
        price = unit_price(group.model, group.service_tier, group.inference_geo, token_type)
        if count:
            yield _token_line(group, token_type, (count - long) * price)
        if long and factor:
            yield _token_line(group, token_type, long * price * factor, " (Prompt over 100k)")


def _token_line(group: _Group, token_type: str, amount: Decimal, note: str = "") -> CostLine:
    wire_word, words = _WIRE_WORDS[token_type]
    batch = " (Batch)" if group.service_tier == "batch" else ""
    return CostLine(
        group.workspace_id,
        f"{_display_name(group.model)} Usage - {words}{batch}{note}",
        "tokens",
        group.model,
        wire_word,
        group.context_window,
        group.service_tier,
        group.inference_geo,
        amount,
    )


def _other_line(workspace_id: str | None, cost_type: str, description: str, amount: Decimal) -> CostLine:
    return CostLine(workspace_id, description, cost_type, None, None, None, None, None, amount)


def _correction(line: CostLine, random: Random) -> CostLine:
    amount = -line.amount_cents * random.randint(1, 20) / 1000
    return CostLine(
        line.workspace_id,
        f"{line.description} (Correction)",
        line.cost_type,
        line.model,
        line.token_type,
        line.context_window,
        line.service_tier,
        line.inference_geo,
        amount,
    )


def _billed_name(model: str) -> str:
    return re.sub(r"-\d{8}$", "", model)


def _display_name(model: str) -> str:
    maker, family, *version = model.split("-")
    return f"{maker.title()} {family.title()} {'.'.join(version)}"

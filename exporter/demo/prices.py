"""List prices, in USD per million tokens, under the names that bills use."""

from decimal import Decimal
from typing import NamedTuple


class Price(NamedTuple):
    """The list price of one model's tokens, in the order of ``Tokens``."""

    uncached_input: Decimal
    cache_read: Decimal
    cache_creation_5m: Decimal
    cache_creation_1h: Decimal
    output: Decimal


def _price(*usd: str) -> Price:
    return Price(*map(Decimal, usd))


LIST_PRICES = {
    "claude-fable-5-1": _price("10", "0.25", "12.50", "20", "50"),
    "claude-opus-5-5": _price("4", "0.20", "5", "8", "20"),
    "claude-opus-4-8": _price("5", "0.50", "6.25", "10", "25"),
    "claude-sonnet-5-5": _price("2", "0.10", "2.50", "4", "10"),
    "claude-sonnet-4-5": _price("3", "0.30", "3.75", "6", "15"),
    "claude-haiku-5-5": _price("0.10", "0.01", "0.125", "0.20", "0.50"),
}

LONG_PROMPT_FACTOR = {"claude-haiku-5-5": 5}
"""How much dearer a request with a prompt above 100k tokens is; other models are flat."""

BATCH_FACTOR = Decimal("0.5")
US_FACTOR = Decimal("1.1")
WEB_SEARCH_CENTS = Decimal(1)
CODE_EXECUTION_CENTS_PER_HOUR = Decimal(5)

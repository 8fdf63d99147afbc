"""Says where the shipped list prices differ from those of the package genai-prices: ``python -m tests.compare_prices``.

Either may be wrong or late, so differences are something to look up, and no failure. That package finds a model by what
its name begins with, too: every price is asked for by our exact id, and the entry that answered is named.
"""
# ruff: noqa: T201

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

from exporter import pricefiles
from exporter.families import WEB_SEARCH
from exporter.model import DAY, PriceKey
from exporter.money.pricelist import PriceList

THEIR_WORDS = {
    "uncached_input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_creation_5m": "cache_write_mtok",
    "cache_creation_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
}
CONTEXTS = {"0-200k": 0, "200k-1M": 200_001}
"""Tokens of the shortest prompt in a context window."""


def main() -> None:
    try:
        theirs = import_module("genai_prices")
    except ImportError:
        print("nothing compared: the package genai-prices is not installed here")
        return
    ours = pricefiles.shipped()
    today = int(datetime.now(UTC).timestamp()) // DAY * DAY
    print(f"our list, checked on {ours.checked}, and genai-prices {theirs.__version__}; USD per million tokens")
    try:
        lines = [line for model in ours.tokens for line in differences(theirs, ours, model, today)]
        lines.extend(unlisted(ours))
    except (AttributeError, TypeError, ValueError) as error:
        lines = [f"not compared: this version of the package answers in another way ({error})"]
    print("\n".join(lines) or "no difference")


def differences(theirs: Any, ours: PriceList, model: str, today: int) -> Iterator[str]:
    """Yield a line for each price that differs today, or did on the eve of a change that our list has."""
    changes = {rate.since for rates in ours.tokens[model].values() for rate in rates if rate.since > 0}
    for day in sorted({today, *(change - DAY for change in changes)}):
        date = datetime.fromtimestamp(day, UTC)
        try:
            answer = theirs.calc_price(
                theirs.Usage(input_tokens=1), model, provider_id="anthropic", genai_request_timestamp=date
            )
        except LookupError:
            yield f"{model}: they have no such model"
            return
        if day == today and answer.model.id != model:
            yield f"{model}: their {answer.model.id} answered"
        for what, our_price, their_price in prices(ours, model, day, answer.model_price):
            if our_price != their_price:
                yield f"{model}, {what} on {date:%Y-%m-%d}: ours {our_price}, theirs {their_price}"


def prices(ours: PriceList, model: str, day: int, theirs: Any) -> Iterator[tuple[str, Decimal | None, Decimal | None]]:
    """Yield what is priced, our price and theirs."""
    for context, prompt in CONTEXTS.items():
        for token_type, word in THEIR_WORDS.items():
            price = ours.usd_per_token(PriceKey(model, "standard", context, "global", token_type), day)
            yield (
                f"{token_type} {context}",
                price and (price * 1_000_000).normalize(),
                at(getattr(theirs, word), prompt),
            )
    searches = ours.usd_per_request(WEB_SEARCH, day)
    yield "1000 web searches", searches and searches * 1000, theirs.web_searches_kcount


def at(price: Any, prompt: int) -> Decimal | None:
    """Return their price for a prompt of so many tokens; a tier's price is that of the whole request."""
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in sorted(price.tiers, key=lambda tier: tier.start) if tier.start < prompt]
    found: Decimal = reached[-1] if reached else price.base
    return found


def unlisted(ours: PriceList) -> Iterator[str]:
    """Yield their models that none of our ids stands for."""
    providers = import_module("genai_prices.data").providers
    provider = next(provider for provider in providers if provider.id == "anthropic")
    answered = {found.id for found in map(provider.find_model, ours.tokens) if found}
    for model in provider.models:
        if model.id not in answered:
            yield f"{model.id}: only they have it"


if __name__ == "__main__":
    main()

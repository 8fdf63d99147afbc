"""What usage costs, bucket by bucket: counts of dollars that the ledger takes in as it takes in tokens."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal

from exporter.families import (
    API_KEY_ESTIMATED,
    API_KEY_TOKENS,
    ESTIMATED,
    SERVER_TOOL_REQUESTS,
    SERVER_TOOLS,
    TOKEN_COST,
    TOKEN_TYPES,
    UNPRICED,
)
from exporter.model import NOT_APPLICABLE, PRIORITY, Bucket, Labels, PriceKey, Series
from exporter.money.table import Cell

Counts = Mapping[Series, tuple[int, ...]]
Costs = Mapping[Series, Decimal]


TokenPrice = Callable[[PriceKey], Decimal | None]
RequestPrice = Callable[[str], Decimal | None]
"""USD for a request to a server tool; None, as for a token, if there is no price."""


def by_workspace(counts: Counts, token: TokenPrice, request: RequestPrice) -> Costs:
    """Return what a bucket of the usage view costs, and its tokens that have no price, by model.

    All token types of a label set come together, those without tokens as 0. Priority Tier is left out: it is neither
    priced nor unpriced.
    """
    costs: defaultdict[Series, Decimal] = defaultdict(Decimal)
    for (family, labels), figures in counts.items():
        if labels[2] != PRIORITY:
            parts = (
                _requests(labels, figures, request)
                if family == SERVER_TOOL_REQUESTS
                else _tokens(labels, figures, token)
            )
            for series, cost in parts:
                costs[series] += cost
    return costs


def _tokens(labels: Labels, figures: Sequence[int], price: TokenPrice) -> Iterator[tuple[Series, Decimal]]:
    model, workspace_id, tier, window, geo = labels
    for token_type, tokens in zip(TOKEN_TYPES, figures, strict=True):
        usd = price(PriceKey(model, tier, window, geo, token_type))
        if usd is not None:
            yield Series(ESTIMATED, (workspace_id, model, tier, TOKEN_COST, token_type)), tokens * usd
        elif tokens:
            yield Series(UNPRICED, (model,)), Decimal(tokens)


def _requests(labels: Labels, figures: Sequence[int], price: RequestPrice) -> Iterator[tuple[Series, Decimal]]:
    model, workspace_id, tier, *_ = labels
    for tool, requests in zip(SERVER_TOOLS, figures, strict=True):
        if (usd := price(tool)) is not None:
            yield Series(ESTIMATED, (workspace_id, model, tier, tool, NOT_APPLICABLE)), requests * usd


def by_api_key(counts: Counts, token: Callable[[Cell, str], Decimal | None], request: RequestPrice) -> Costs:
    """Return what a bucket of the per-key view costs; ``token`` is told the cell and the token type.

    The geography is not known here, so ``token`` tells what the workspace pays effectively.
    """
    costs: defaultdict[Series, Decimal] = defaultdict(Decimal)
    for (family, (api_key_id, workspace_id, model, tier, window)), figures in counts.items():
        if tier == PRIORITY:
            continue
        cell = model, workspace_id, tier, window
        tokens = family == API_KEY_TOKENS
        prices = (token(cell, word) for word in TOKEN_TYPES) if tokens else map(request, SERVER_TOOLS)
        for figure, usd in zip(figures, prices, strict=True):
            if usd is not None:
                costs[Series(API_KEY_ESTIMATED, (api_key_id, workspace_id, model))] += figure * usd
    return costs


class News:
    """Tells the buckets that are not what they were when they were priced last: the others cost the same still."""

    def __init__(self) -> None:
        self._last: dict[int, dict[int, Counts]] = {}

    def of(self, width: int, buckets: Collection[Bucket[int]]) -> list[Bucket[int]]:
        """Return what is new."""
        last = self._last.get(width, {})
        return [bucket for bucket in buckets if last.get(bucket.start) != bucket.counts]

    def priced(self, width: int, buckets: Collection[Bucket[int]], untold: Collection[int] = ()) -> None:
        """Remember these buckets, of each width only the last ones, but for those whose price was ``untold``."""
        self._last[width] = {bucket.start: bucket.counts for bucket in buckets if bucket.start not in untold}

"""An organisation of which every single use is written down: when, what, and when the API learns of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from exporter.demo.organization import DAY, NO_TOKENS, ApiKey, CostLine, Dimensions, Tokens, Workspace

SONNET = Dimensions("apikey_1", "wrkspc_1", "claude-sonnet-5-5", "standard", "0-200k", "global")
OPUS = Dimensions("apikey_2", None, "claude-opus-5-5", "batch", "200k-1M", "us")


@dataclass(frozen=True)
class Use:
    """Tokens used at ``time``, known to the API from ``time + delay`` on (Unix seconds)."""

    time: float
    dimensions: Dimensions
    tokens: Tokens
    delay: float = 0.0


@dataclass
class WrittenOrganization:
    """Says exactly what ``uses`` and ``bills`` say; both may be changed while it is read."""

    uses: list[Use] = field(default_factory=list)
    bills: dict[int, Sequence[CostLine] | None] = field(default_factory=dict)
    workspaces: Sequence[Workspace] = (Workspace("wrkspc_1", "Research", archived=False),)
    api_keys: Sequence[ApiKey] = (ApiKey("apikey_1", "bot", "wrkspc_1", "active", None, 0),)
    id: str = "11111111-2222-3333-4444-555555555555"
    name: str = "Written Organisation"
    default_workspace_id: str = "wrkspc_default"

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        """Return the sums by bucket of what is known."""
        report: dict[int, dict[Dimensions, Tokens]] = {}
        for use in self.uses:
            if start <= use.time < end and use.time + use.delay <= as_of:
                rows = report.setdefault(int(use.time // width) * width, {})
                rows[use.dimensions] = rows.get(use.dimensions, NO_TOKENS).plus(use.tokens)
        return report

    def cost(self, day: int, as_of: float) -> Sequence[CostLine] | None:
        """Return the bill that was written for the day, once it is over."""
        return self.bills.get(day) if day + DAY <= as_of else None


def line(
    cents: str, *, model: str = "claude-sonnet-5-5", workspace: str | None = None, text: str = "Usage"
) -> CostLine:
    """Return a line of a bill, for output tokens."""
    return CostLine(
        workspace_id=workspace,
        description=text,
        cost_type="tokens",
        model=model,
        token_type="output_tokens",
        context_window="0-200k",
        service_tier="standard",
        inference_geo="global",
        amount_cents=Decimal(cents),
    )


WIRE_WORDS = {
    "uncached_input": "uncached_input_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_creation_5m": "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation_1h": "cache_creation.ephemeral_1h_input_tokens",
    "output": "output_tokens",
}


def usd_per_million(_dimensions: Dimensions, word: str, _day: int) -> Decimal:
    """Return what this organisation has negotiated; for ``web_search`` it is USD for a million requests."""
    return {"output": Decimal("13.7"), "cache_read": Decimal("0.17"), "web_search": Decimal(8000)}.get(
        word, Decimal("3.1")
    )


@dataclass
class BilledOrganization(WrittenOrganization):
    """Writes the bills for its own uses, at ``price`` (USD for a million, by dimensions, token type and day).

    A bill is out ``posted`` seconds after its day; days in ``missing`` have none. ``bill_model`` is what bills call a
    model.
    """

    price: Callable[[Dimensions, str, int], Decimal] = usd_per_million
    posted: float = 0.0
    missing: set[int] = field(default_factory=set)
    bill_model: Callable[[str], str] = str

    def cost(self, day: int, as_of: float) -> Sequence[CostLine] | None:
        """Return the bill for what was used on a day."""
        if day + DAY + self.posted > as_of or day in self.missing:
            return None
        return [bill for use in self.uses if day <= use.time < day + DAY for bill in self._lines(use, day)]

    def _lines(self, use: Use, day: int) -> Iterator[CostLine]:
        dimensions = use.dimensions
        if dimensions.service_tier == "priority":
            return
        for word, count in use.tokens._asdict().items():
            cents = count * self.price(dimensions, word, day) / 10_000
            bare = CostLine(dimensions.workspace_id, word, word, None, None, None, None, None, cents)
            if count and word in WIRE_WORDS:
                yield replace(
                    bare,
                    cost_type="tokens",
                    model=self.bill_model(dimensions.model),
                    token_type=WIRE_WORDS[word],
                    context_window=dimensions.context_window,
                    service_tier=dimensions.service_tier,
                    inference_geo=dimensions.inference_geo,
                )
            elif count:
                yield bare

    def dollars(self, start: float, end: float) -> float:
        """Return what the uses from ``start`` up to ``end`` cost, billed or not."""
        cents = [
            one.amount_cents
            for use in self.uses
            if start <= use.time < end
            for one in self._lines(use, int(use.time // DAY) * DAY)
        ]
        return float(sum(cents, Decimal(0)) / 100)

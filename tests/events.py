"""An organisation of which every single use is written down: when, what, and when the API learns of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

"""The counter families: what odometers count, by which names, and the labels of their series."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

USAGE_DIMENSIONS = ("model", "workspace_id", "service_tier", "context_window", "inference_geo")
API_KEY_DIMENSIONS = ("api_key_id", "workspace_id", "model", "service_tier", "context_window")
ESTIMATE_LABELS = ("workspace_id", "model", "service_tier", "cost_type", "token_type")
COST_LABELS = (*USAGE_DIMENSIONS, "cost_type", "token_type")
TOKEN_TYPES = ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")
TOKEN_COST = "tokens"  # noqa: S105 - a word of the bill
"""The bill's cost type for tokens; that of a server tool is the tool's name."""
WEB_SEARCH = "web_search"
SERVER_TOOLS = (WEB_SEARCH,)

TOKENS = "anthropic_usage_tokens_total"
SERVER_TOOL_REQUESTS = "anthropic_usage_server_tool_requests_total"
API_KEY_TOKENS = "anthropic_api_key_usage_tokens_total"
API_KEY_TOOL_REQUESTS = "anthropic_api_key_usage_server_tool_requests_total"
BILLED = "anthropic_cost_usd_total"
ESTIMATED = "anthropic_estimated_cost_usd_total"
API_KEY_ESTIMATED = "anthropic_api_key_estimated_cost_usd_total"
UNPRICED = "anthropic_unpriced_tokens_total"

COUNTED: Mapping[str, type[int] | type[Decimal]] = {
    "usage": int,
    "estimate": Decimal,
    "api_key_usage": int,
    "api_key_estimate": Decimal,
    "cost": Decimal,
}
"""What odometers count, and in which numbers; each has its own anchor, watermark and part of the state file."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "usage": (TOKENS, SERVER_TOOL_REQUESTS),
    "estimate": (ESTIMATED, UNPRICED),
    "api_key_usage": (API_KEY_TOKENS, API_KEY_TOOL_REQUESTS),
    "api_key_estimate": (API_KEY_ESTIMATED,),
    "cost": (BILLED,),
}
"""The families of each; the sums of the first one tell what is late and overcounted."""


class Odometer(NamedTuple):
    """The labels of a counter family's series.

    ``lane`` is a further label, the last one, whose values tell the counts of one series apart. ``kept`` is how many
    labels at the end a folded series keeps; the others become ``other``.
    """

    labels: tuple[str, ...]
    lane: str = ""
    lanes: tuple[str, ...] = ()
    kept: int = 0

    @property
    def samples(self) -> int:
        """How many samples one series has."""
        return max(1, len(self.lanes))


ODOMETERS: Mapping[str, Odometer] = {
    TOKENS: Odometer(USAGE_DIMENSIONS, "token_type", TOKEN_TYPES),
    SERVER_TOOL_REQUESTS: Odometer(USAGE_DIMENSIONS, "tool", SERVER_TOOLS),
    API_KEY_TOKENS: Odometer(API_KEY_DIMENSIONS, "token_type", TOKEN_TYPES),
    API_KEY_TOOL_REQUESTS: Odometer(API_KEY_DIMENSIONS, "tool", SERVER_TOOLS),
    BILLED: Odometer(COST_LABELS, kept=2),
    ESTIMATED: Odometer(ESTIMATE_LABELS, kept=2),
    API_KEY_ESTIMATED: Odometer(("api_key_id", "workspace_id", "model")),
    UNPRICED: Odometer(("model",)),
}

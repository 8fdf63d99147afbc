"""Who uses the simulated organisation: its workspaces, its keys and their streams of usage."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from exporter.demo.organization import DAY, ApiKey, Dimensions, Workspace

FABLE, OPUS, OPUS_4 = "claude-fable-5-1", "claude-opus-5-5", "claude-opus-4-8"
SONNET, SONNET_4, HAIKU = "claude-sonnet-5-5", "claude-sonnet-4-5-20250929", "claude-haiku-5-5"
SHORT, LONG = "0-200k", "200k-1M"
GLOBAL, US, UNKNOWN_GEO = "global", "us", "not_available"

_DEFAULT = "Default"
_WORKSPACES = {"Production": False, "Engineering": False, "Data Platform": False, "Prototypes 2025": True}


class _Key(NamedTuple):
    workspace: str
    status: str = "active"
    days_of_use: int | None = None
    expires: bool = False
    first_day: float = 0


_KEYS = {
    "search-ranking": _Key("Production"),
    "support-assistant": _Key("Production"),
    "document-summaries": _Key("Production"),
    "checkout-fraud-review": _Key("Production"),
    "translation-service": _Key("Production"),
    "ci-review-bot": _Key("Engineering"),
    "coding-agent-pool": _Key("Engineering"),
    "incident-helper": _Key("Engineering"),
    "docs-writer": _Key("Engineering", days_of_use=37, expires=True),
    "evaluation-runs": _Key("Engineering", days_of_use=396, expires=True, first_day=365.5),
    "nightly-classification": _Key("Data Platform"),
    "embedding-labels": _Key("Data Platform"),
    "warehouse-insights": _Key("Data Platform"),
    "sandbox": _Key(_DEFAULT),
    "internal-chat": _Key(_DEFAULT),
    "old-importer": _Key(_DEFAULT, "inactive", days_of_use=12),
    "prototype-voice": _Key("Prototypes 2025", "archived", days_of_use=6),
}


class Mix(NamedTuple):
    """Shares of the token types in a thousand tokens, and web searches per million tokens."""

    uncached_input: int
    cache_read: int
    cache_creation_5m: int
    cache_creation_1h: int
    output: int
    web_search: int = 0


CHAT = Mix(420, 300, 60, 0, 220)
AGENT = Mix(20, 880, 60, 10, 30)
LONG_AGENT = Mix(15, 900, 20, 45, 20)
READER = Mix(820, 60, 20, 0, 100)
RESEARCH = Mix(300, 450, 90, 60, 100, 30)
LABELS = Mix(900, 0, 0, 0, 100)

_Row = tuple[str | None, str, str, str, str, int, Mix, str]

_STREAMS: tuple[_Row, ...] = (
    # key, model, tier, context window, geography, thousand tokens an hour, mix, rhythm
    ("search-ranking", HAIKU, "standard", SHORT, GLOBAL, 12_600, READER, "product"),
    ("search-ranking", HAIKU, "standard", SHORT, US, 3_600, READER, "product"),
    ("search-ranking", SONNET_4, "priority", SHORT, UNKNOWN_GEO, 420, CHAT, "product"),
    ("search-ranking", SONNET_4, "standard", SHORT, UNKNOWN_GEO, 96, CHAT, "product"),
    ("support-assistant", SONNET, "standard", SHORT, GLOBAL, 1_560, CHAT, "product"),
    ("support-assistant", SONNET, "standard", SHORT, US, 540, CHAT, "product"),
    ("support-assistant", SONNET, "standard", LONG, GLOBAL, 156, LONG_AGENT, "product"),
    ("support-assistant", OPUS_4, "priority", SHORT, GLOBAL, 252, CHAT, "product"),
    ("support-assistant", OPUS_4, "standard", SHORT, GLOBAL, 36, CHAT, "product"),
    ("document-summaries", SONNET, "standard", SHORT, GLOBAL, 900, READER, "office"),
    ("document-summaries", SONNET, "standard", LONG, GLOBAL, 300, READER, "office"),
    ("document-summaries", HAIKU, "batch", SHORT, GLOBAL, 5_400, READER, "night"),
    ("checkout-fraud-review", HAIKU, "standard", SHORT, US, 4_500, LABELS, "product"),
    ("checkout-fraud-review", OPUS, "standard", SHORT, US, 114, CHAT, "product"),
    ("translation-service", SONNET_4, "standard", SHORT, UNKNOWN_GEO, 228, CHAT, "product"),
    ("translation-service", SONNET_4, "batch", SHORT, UNKNOWN_GEO, 540, CHAT, "night"),
    ("translation-service", HAIKU, "standard", SHORT, GLOBAL, 2_160, CHAT, "product"),
    ("ci-review-bot", SONNET, "standard", SHORT, GLOBAL, 3_300, AGENT, "office"),
    ("ci-review-bot", OPUS, "standard", SHORT, GLOBAL, 1_140, AGENT, "office"),
    ("ci-review-bot", HAIKU, "standard", SHORT, GLOBAL, 1_500, AGENT, "office"),
    ("coding-agent-pool", OPUS, "standard", SHORT, GLOBAL, 5_100, AGENT, "office"),
    ("coding-agent-pool", OPUS, "standard", LONG, GLOBAL, 1_920, LONG_AGENT, "office"),
    ("coding-agent-pool", OPUS, "standard", SHORT, US, 780, AGENT, "office"),
    ("coding-agent-pool", FABLE, "standard", SHORT, GLOBAL, 360, AGENT, "office"),
    ("coding-agent-pool", FABLE, "standard", LONG, GLOBAL, 144, LONG_AGENT, "office"),
    ("coding-agent-pool", SONNET, "standard", LONG, GLOBAL, 1_260, LONG_AGENT, "office"),
    ("coding-agent-pool", OPUS_4, "standard", SHORT, GLOBAL, 210, AGENT, "office"),
    ("incident-helper", OPUS, "standard", SHORT, GLOBAL, 132, RESEARCH, "sparse"),
    ("incident-helper", SONNET, "standard", SHORT, GLOBAL, 108, RESEARCH, "sparse"),
    ("docs-writer", SONNET, "standard", SHORT, GLOBAL, 156, CHAT, "office"),
    ("docs-writer", SONNET_4, "standard", SHORT, UNKNOWN_GEO, 54, CHAT, "office"),
    ("evaluation-runs", SONNET, "standard", SHORT, GLOBAL, 240, AGENT, "steady"),
    ("nightly-classification", HAIKU, "batch", SHORT, GLOBAL, 18_000, LABELS, "night"),
    ("nightly-classification", HAIKU, "batch", SHORT, US, 4_800, LABELS, "night"),
    ("nightly-classification", SONNET, "batch", SHORT, GLOBAL, 1_140, LABELS, "night"),
    ("nightly-classification", OPUS, "batch", LONG, GLOBAL, 300, READER, "night"),
    ("embedding-labels", HAIKU, "batch", SHORT, GLOBAL, 7_200, LABELS, "night"),
    ("embedding-labels", HAIKU, "standard", SHORT, GLOBAL, 720, LABELS, "steady"),
    ("warehouse-insights", OPUS, "standard", SHORT, GLOBAL, 252, RESEARCH, "office"),
    ("warehouse-insights", OPUS, "standard", LONG, US, 120, LONG_AGENT, "office"),
    ("warehouse-insights", SONNET, "standard", SHORT, GLOBAL, 384, RESEARCH, "steady"),
    ("sandbox", HAIKU, "standard", SHORT, GLOBAL, 90, CHAT, "sparse"),
    ("sandbox", OPUS, "standard", SHORT, GLOBAL, 24, CHAT, "sparse"),
    ("sandbox", FABLE, "standard", SHORT, GLOBAL, 9, CHAT, "sparse"),
    ("internal-chat", SONNET, "standard", SHORT, GLOBAL, 312, RESEARCH, "office"),
    ("internal-chat", SONNET_4, "standard", SHORT, UNKNOWN_GEO, 42, CHAT, "office"),
    ("old-importer", SONNET_4, "batch", SHORT, UNKNOWN_GEO, 180, READER, "night"),
    ("prototype-voice", HAIKU, "standard", SHORT, GLOBAL, 120, CHAT, "office"),
    (None, OPUS, "standard", SHORT, GLOBAL, 36, CHAT, "sparse"),
    (None, SONNET, "standard", SHORT, GLOBAL, 27, CHAT, "sparse"),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """One combination of dimensions and how it is used; ``since`` and ``until`` are Unix seconds."""

    name: str
    dimensions: Dimensions
    hourly: int
    mix: Mix
    rhythm: str
    since: int
    until: int | None


@dataclass(frozen=True, slots=True)
class Population:
    """Everybody in the organisation."""

    organization_id: str
    default_workspace_id: str
    workspaces: tuple[Workspace, ...]
    api_keys: tuple[ApiKey, ...]
    streams: tuple[Stream, ...]


def populate(seed: int, started: int) -> Population:
    """Give the organisation of ``seed`` its ids, and the times that depend on its first day."""
    workspace_ids = {name: _id("wrkspc_01", seed, name) for name in (_DEFAULT, *_WORKSPACES)}
    return Population(
        str(UUID(bytes=blake2b(f"{seed}".encode(), digest_size=16).digest(), version=4)),
        workspace_ids[_DEFAULT],
        tuple(Workspace(workspace_ids[name], name, archived) for name, archived in _WORKSPACES.items()),
        tuple(_api_key(seed, started, name, workspace_ids) for name in _KEYS),
        tuple(_stream(seed, started, row, workspace_ids) for row in _STREAMS),
    )


def _api_key(seed: int, started: int, name: str, workspace_ids: dict[str, str]) -> ApiKey:
    key = _KEYS[name]
    return ApiKey(
        _id("apikey_01", seed, name),
        name,
        workspace_ids[key.workspace],
        key.status,
        _end_of_use(key, started) if key.expires else None,
        started + int(key.first_day * DAY) - (30 + len(name)) * DAY,
    )


def _stream(seed: int, started: int, row: _Row, workspace_ids: dict[str, str]) -> Stream:
    name, model, tier, window, geo, thousands, mix, rhythm = row
    key = _KEYS[name] if name else _Key(_DEFAULT)
    dimensions = Dimensions(
        _id("apikey_01", seed, name) if name else None,
        workspace_ids[key.workspace] if key.workspace != _DEFAULT else None,
        model,
        tier,
        window,
        geo,
    )
    label = "/".join((name or "console", *dimensions[2:]))
    since = started + int(key.first_day * DAY)
    return Stream(label, dimensions, 1000 * thousands, mix, rhythm, since, _end_of_use(key, started))


def _end_of_use(key: _Key, started: int) -> int | None:
    return started + key.days_of_use * DAY if key.days_of_use else None


def _id(prefix: str, seed: int, name: str) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=22).digest()
    return prefix + "".join(alphabet[byte % len(alphabet)] for byte in digest)

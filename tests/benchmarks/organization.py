"""An organisation of as many label sets as one likes, and what the Admin API says of it, cheaply: bodies are kept.

Every label set was used once, in the first minute of yesterday, so that an exporter that counts from there knows all of
them at once. Since ``begin`` some are used in each minute, in turns: ``active`` of them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice, product
from math import inf
from urllib.parse import parse_qs

from exporter.demo.organization import DAY, HOUR, MINUTE
from exporter.polling.windows import floor

WIDTHS = {"1m": MINUTE, "1h": HOUR, "1d": DAY}
ROOT = "/v1/organizations/"
GROUPING = ("model", "workspace_id", "service_tier", "context_window", "inference_geo")
TOKEN_TYPES = ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")
PRICED = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-4-8", "claude-haiku-4-5")
UNPRICED = tuple(f"claude-bench-{n}-20270514" for n in range(5))
"""Without a price there is no estimate, and the page holds the token counters only."""
TIERS, CONTEXTS, GEOS = ("standard", "batch"), ("0-200k", "200k-1M"), ("global", "us")
PER_WORKSPACE = len(PRICED) * len(TIERS) * len(CONTEXTS) * len(GEOS)

LabelSet = tuple[str, str, str, str, str]
"""The values of ``GROUPING``."""
Row = tuple[int, int]
"""The number of a label set, and by how much its figures are multiplied."""


class RefusedError(Exception):
    """The API has no answer to that."""


def label_sets(count: int, models: Sequence[str] = UNPRICED) -> Iterator[LabelSet]:
    """Yield label sets with ids as long and as random as real ones."""
    workspaces = (_id("wrkspc_01", number) for number in range(count))
    sets = (
        (model, workspace, tier, window, geo)
        for workspace in workspaces
        for model, tier, window, geo in product(models, TIERS, CONTEXTS, GEOS)
    )
    return islice(sets, count)


def figures(number: int, factor: int) -> tuple[int, int, int, int, int]:
    """Return the tokens of a label set, in the order of ``TOKEN_TYPES``."""
    unit = factor * (1 + number * 7919 % 997)
    return 4 * unit, 31 * unit, 2 * unit, unit, 3 * unit


def yesterday(now: float) -> int:
    """Return the Unix time at which yesterday began (UTC)."""
    return floor(now, DAY) - DAY


@dataclass
class BenchOrganization:
    """What is known of the organisation; times are Unix seconds, and nothing is used from ``stop`` on."""

    count: int
    active: int
    begin: int
    rush: int
    models: Sequence[str] = UNPRICED
    stop: float = inf
    id: str = "11111111-2222-3333-4444-555555555555"
    _tails: list[str] = field(default_factory=list)
    _kept: dict[object, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tails = [_tail(labels) for labels in label_sets(self.count, self.models)]

    def answer(self, path: str, query: str, now: float) -> list[bytes]:
        """Return the body that the Admin API sends at ``now``, in parts."""
        parameters = parse_qs(query)
        endpoint = path.removeprefix(ROOT)
        if endpoint == "usage_report/messages":
            return self._usage(parameters, now)
        if endpoint == "cost_report":
            return [b'{"data":[],"has_more":false,"next_page":null}']
        if endpoint == "me":
            return [json.dumps({"id": self.id, "type": "organization", "name": "Bench"}).encode()]
        if endpoint == "workspaces":
            return [self._workspaces(parameters.get("after_id", [""])[0])]
        if endpoint == "api_keys":
            return [b'{"data":[],"has_more":false,"first_id":null,"last_id":null}']
        if endpoint == "rate_limits":
            return [b'{"data":[],"next_page":null}']
        raise RefusedError(path)

    def _usage(self, parameters: Mapping[str, list[str]], now: float) -> list[bytes]:
        if tuple(parameters.get("group_by[]", ())) != GROUPING:
            raise RefusedError("only the usage view is told; switch the view by API key off")
        width = WIDTHS[parameters["bucket_width"][0]]
        start, end = (_seconds(parameters[name][0]) for name in ("starting_at", "ending_at"))
        end = min(floor(end, width), floor(now, width) + width)
        start = int(parameters["page"][0].removeprefix("page_")) if "page" in parameters else floor(start, width)
        cut = min(end, start + int(parameters["limit"][0]) * width)
        parts = [b'{"data":[']
        for bucket in range(start, cut, width):
            parts += [b"," if len(parts) > 1 else b"", *self._bucket(width, bucket, now)]
        following = f'"page_{cut}"' if cut < end else "null"
        return [*parts, f'],"has_more":{"true" if cut < end else "false"},"next_page":{following}}}'.encode()]

    def _bucket(self, width: int, start: int, now: float) -> list[bytes]:
        times = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for time in (start, start + width)]
        head = '{{"starting_at":"{}","ending_at":"{}","results":['.format(*times)
        return [head.encode(), self._rows(width, start, now), b"]}"]

    def _rows(self, width: int, start: int, now: float) -> bytes:
        """Return the rows of a bucket; a minute that is not over has half of its tokens."""
        minutes = self._used(range(start, start + width, MINUTE), now)
        if not minutes:
            return b""
        all_of_them = self.active >= self.count or [*minutes] == [self.rush]
        key = sum(minutes.values()) if all_of_them else (*minutes.items(),)
        if key not in self._kept:
            found = ((n, key) for n in range(self.count)) if isinstance(key, int) else self._turns(minutes)
            self._kept[key] = ",".join(self._row(*row) for row in found).encode()
        return self._kept[key]

    def _used(self, minutes: range, now: float) -> dict[int, int]:
        """Return the minutes with usage and by how much it is multiplied then."""
        newest = min(now, self.stop)
        late = [minute for minute in minutes if self.begin <= minute <= newest] if self.active else []
        return {minute: 2 if minute + MINUTE <= newest else 1 for minute in late} | (
            {self.rush: 2} if self.rush in minutes else {}
        )

    def _turns(self, minutes: Mapping[int, int]) -> Iterable[Row]:
        sums = Counter[int]()
        for minute, factor in minutes.items():
            if minute == self.rush:
                sums.update(dict.fromkeys(range(self.count), factor))
            else:
                first = minute // MINUTE * self.active
                sums.update(dict.fromkeys([n % self.count for n in range(first, first + self.active)], factor))
        return sums.items()

    def _row(self, number: int, factor: int) -> str:
        uncached, read, written_5m, written_1h, output = figures(number, factor)
        return (
            f'{{"uncached_input_tokens":{uncached},"cache_read_input_tokens":{read},"cache_creation":{{'
            f'"ephemeral_5m_input_tokens":{written_5m},"ephemeral_1h_input_tokens":{written_1h}}},'
            f'"output_tokens":{output},{self._tails[number]}'
        )

    def _workspaces(self, after: str) -> bytes:
        ids = [_id("wrkspc_01", number) for number in range(-(-self.count // PER_WORKSPACE))]
        left = ids[ids.index(after) + 1 :] if after else ids
        shown = left[:1000]
        data = [{"id": one, "type": "workspace", "name": f"Workspace {one[-4:]}", "archived_at": None} for one in shown]
        last = shown[-1] if shown else None
        return json.dumps({"data": data, "has_more": len(left) > 1000, "last_id": last}).encode()


def _tail(labels: LabelSet) -> str:
    told = json.dumps(dict(zip(GROUPING, labels, strict=True)), separators=(",", ":"))[1:]
    nothing = "".join(f'"{name}":null,' for name in ("account_id", "service_account_id", "api_key_id"))
    return f'"server_tool_use":{{"web_search_requests":0}},{nothing}{told}'


def _id(prefix: str, number: int) -> str:
    return prefix + blake2b(str(number).encode(), digest_size=11).hexdigest()


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())

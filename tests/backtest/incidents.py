"""What happens after the quiet past: incidents of which it is known when they begin, and what should come of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count

from exporter.demo.faults import Fault
from exporter.demo.organization import ApiKey, Dimensions, Workspace
from exporter.demo.population import CHAT, GLOBAL, OPUS, READER, SHORT, SONNET, Mix, Stream
from exporter.demo.traffic import Spike
from exporter.model import DAY, HOUR, MINUTE
from tests.backtest.past import FAMILIES, FLAGS, NIGHT, NOON, POPULATION, STEP, Story, past, shown
from tests.history import Live, past_texts, stamped


@dataclass(frozen=True, slots=True)
class Incident:
    """A story, told from ``seam`` to ``end``, in which something happens at ``begin`` (Unix seconds).

    It is what the keys ``api_key_ids`` do. ``finds`` are the alerts of which one should find it, ``within`` so many
    seconds after the API shows it.
    """

    name: str
    should: str
    story: Story
    seam: int
    begin: int
    end: int
    api_key_ids: Collection[str | None] = ()
    finds: Collection[str] = ()
    faults: Sequence[Fault] = ()
    within: int = 15 * MINUTE
    is_live: bool = True

    @property
    def step(self) -> int:
        """Seconds between two scrapes."""
        return MINUTE if self.is_live else STEP

    def texts(self) -> list[tuple[int, str]]:
        """Return what there was to scrape, with its time; counters begin at 0 after the seam."""
        if not self.is_live:
            told = past(self.story, self.seam, self.end).snapshots(self.end)
            return [text for text in past_texts(told, shown) if text[0] > self.seam]
        world = Live(self.story.organization(), self.seam, *FLAGS, only=sorted(FAMILIES))
        for fault in self.faults:
            world.faults.add(fault)
        world.run(self.end - self.seam, scrape_every=MINUTE)
        return [(time, stamped(page, time)) for time, page in world.pages]

    def visible(self) -> int:
        """Return the first second at which the API tells half of the tokens of the first minute."""
        whole = self._told(self.begin + DAY)
        return next(time for time in count(self.begin) if 2 * self._told(time) >= whole)

    def _told(self, as_of: int) -> int:
        report = self.story.organization().usage(MINUTE, self.begin, self.begin + MINUTE, as_of)
        rows = report.get(self.begin, {}).items()
        return sum(sum(tokens[:-1]) for dimensions, tokens in rows if dimensions.api_key_id in self.api_key_ids)


def _id_of(name: str) -> str:
    return next(key.id for key in POPULATION.api_keys if key.name == name)


def _with(stream: Stream, workspaces: Sequence[Workspace] = (), api_keys: Sequence[ApiKey] = ()) -> Story:
    """Return the quiet organisation with something new in it."""
    before = POPULATION
    population = replace(
        before,
        workspaces=(*before.workspaces, *workspaces),
        api_keys=(*before.api_keys, *api_keys),
        streams=(*before.streams, stream),
    )
    return Story(population=population)


def _new(api_key_id: str, workspace_id: str, model: str, hourly: int, mix: Mix, since: int) -> Stream:
    dimensions = Dimensions(api_key_id, workspace_id, model, "standard", SHORT, GLOBAL)
    return Stream("new", dimensions, hourly, mix, "steady", since, None)


_IDS = {workspace.name: workspace.id for workspace in POPULATION.workspaces}
PRODUCTION = [key.id for key in POPULATION.api_keys if key.workspace_id == _IDS["Production"]]
AFTERNOON, NIGHTFALL = NOON + HOUR, NIGHT + HOUR
SPIKE = ("AnthropicSpendSpike", "AnthropicApiKeySpendSpike")
CREEP = 48
"""Hours in which spend doubles."""


def _rise() -> list[Spike]:
    """Return the creep, with half a day at its height."""
    hours = [(NIGHTFALL + n * HOUR, 1 + min(n + 1, CREEP) / CREEP) for n in range(CREEP + 12)]
    return [Spike(key, hour, hour + HOUR, factor) for key in PRODUCTION for hour, factor in hours]


LEAKED = _id_of("evaluation-runs")
"""A key that nobody has used so far."""
AGENTS = _id_of("coding-agent-pool")
RESEARCH = ApiKey("apikey_01research", "notebook", "wrkspc_01research", "active", None, AFTERNOON - HOUR)

INCIDENTS = (
    Incident(
        "5x in one workspace for an hour",
        "found within 15 minutes",
        Story([Spike(key, AFTERNOON, AFTERNOON + HOUR, 5) for key in PRODUCTION]),
        NOON,
        AFTERNOON,
        AFTERNOON + HOUR,
        PRODUCTION,
        SPIKE,
    ),
    Incident(
        "10x of one key for an hour",
        "found within 15 minutes",
        Story([Spike(AGENTS, AFTERNOON, AFTERNOON + HOUR, 10)]),
        NOON,
        AFTERNOON,
        AFTERNOON + HOUR,
        [AGENTS],
        SPIKE,
    ),
    Incident(
        "a slow creep to 2x in two days",
        "found within two days and a half",
        Story(_rise()),
        NIGHT,
        NIGHTFALL,
        NIGHTFALL + (CREEP + 12) * HOUR,
        PRODUCTION,
        ("AnthropicDailyCostJump", "AnthropicBudgetBurn", "AnthropicBudgetForecastExceeded"),
        within=60 * HOUR,
        is_live=False,
    ),
    Incident(
        "a leaked key at night, $40 an hour",
        "found within 15 minutes",
        _with(_new(LEAKED, _IDS["Engineering"], OPUS, 8_750_000, READER, NIGHTFALL)),
        NIGHT,
        NIGHTFALL,
        NIGHTFALL + HOUR,
        [LEAKED],
        ("AnthropicNewApiKeySpend",),
    ),
    Incident(
        "a new workspace, $3 an hour",
        "no alert above info",
        _with(
            _new(RESEARCH.id, RESEARCH.workspace_id, SONNET, 1_100_000, CHAT, AFTERNOON),
            [Workspace(RESEARCH.workspace_id, "Research", archived=False)],
            [RESEARCH],
        ),
        NOON,
        AFTERNOON,
        AFTERNOON + 90 * MINUTE,
        [RESEARCH.id],
    ),
    Incident(
        "the API is down for four hours",
        "no alert on spend or budgets, but on the outage",
        Story(),
        NOON,
        AFTERNOON,
        AFTERNOON + 5 * HOUR,
        finds=("AnthropicUsageStale", "AnthropicApiErrors"),
        faults=(Fault(kind=503, since=AFTERNOON, until=AFTERNOON + 4 * HOUR),),
    ),
)
SPIKY = Incident(
    "two weeks with random spikes",
    "an alert on a spike only if there is one",
    Story(None),
    NOON,
    NOON + STEP,
    NOON + 14 * DAY,
    is_live=False,
)
"""The demo organisation as it is."""

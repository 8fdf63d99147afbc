"""The exporter and its state file against everything at once: whatever happens between, and wherever it dies."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, CostLine, Dimensions, Tokens
from exporter.families import API_KEY_ESTIMATED, API_KEY_TOKENS, ESTIMATED
from exporter.ledger.record import Record
from exporter.ledger.state import StateFile
from exporter.model import PriceKey
from exporter.pricefiles import shipped
from tests.events import OPUS, SONNET, Use, WrittenOrganization, line
from tests.world import Page, World, at, tokens, total, watermark

START = int(at("2026-03-09T22:10:17"))
POOL = [SONNET, OPUS, SONNET._replace(workspace_id="wrkspc_2"), OPUS._replace(service_tier="standard")]
CAP = ("--metrics.max-series", "10")
OVERCOUNTED = "anthropic_usage_overcounted_tokens"
PRICES = shipped()


class Watched(World):
    """Also sees that what is new, or was taken over by a new start, stands still for as long as it should."""

    hold = 150
    held: dict[str, tuple[float, float]]

    def start(self, *flags: str) -> None:
        super().start(*flags)
        self.held = {}

    def watch(self) -> None:
        """Scrape; fail on a counter that moves too early, too."""
        super().watch()
        for series, value in self.seen.items():
            if "late_tokens" not in series:
                value_held, since = self.held.setdefault(series, (value, self.now))
                assert value == value_held or self.now >= since + self.hold, (
                    series,
                    value,
                    value_held,
                    self.now,
                    since,
                )


class DeathError(BaseException):
    """The process is gone: nobody catches this, and nothing runs after it."""


class Fuse:
    """Burns down with each step that the process takes, and kills it at the end, right after a last scrape."""

    def __init__(self, scrape: Callable[[], None]) -> None:
        self.left: int | None = None
        self.scrape = scrape

    def burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                self.scrape()
                raise DeathError


class MortalOrganization(WrittenOrganization):
    """The process can die while it waits for an answer."""

    fuse: Fuse

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        self.fuse.burn()
        return super().usage(width, start, end, as_of)

    def cost(self, day: int, as_of: float) -> Any:
        self.fuse.burn()
        return super().cost(day, as_of)


class MortalState(StateFile):
    """The process can die right before a commit, and between a commit and what it was for."""

    fuse: Fuse
    begun: set[str]

    def commit(self, records: Mapping[str, Record[Any]], notes: Mapping[str, Any]) -> None:
        self.fuse.burn()
        super().commit(records, notes)
        self.begun.update(records)
        self.fuse.burn()


class Life(RuleBasedStateMachine):
    """Scrapes never see a counter fall, vanish or begin above 0; in the end they are the API's own sums."""

    folder: Path
    lives = count()

    def __init__(self) -> None:
        super().__init__()
        folder = self.folder / str(next(self.lives))
        folder.mkdir()
        today = START // DAY * DAY
        stream = [Use(START + 20 * n, POOL[n % 2], Tokens(n % 7 + 600)) for n in range(3 * HOUR // 20)]
        # Of a model that nobody uses, so that no price changes and dollars can be compared with tokens.
        bills: dict[int, Sequence[CostLine] | None] = {
            today + n * DAY: [line(str(100 + n), model="claude-nova-9")] for n in range(-40, 60)
        }
        self.organization = MortalOrganization(stream, bills=bills)
        self.fuse = self.organization.fuse = Fuse(self.watch)
        self.state = folder / "state.db"
        self.begun: set[str] = set()
        self.anchors: dict[str, int] = {}
        self.capped = False
        self.lowered = False

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.check()

    @initialize(capped=st.booleans(), pace=st.sampled_from(["60", "300"]))
    def begin(self, capped: bool, pace: str) -> None:  # noqa: FBT001 - hypothesis passes it by name
        def keep(*arguments: Any) -> StateFile:
            state = MortalState(*arguments)
            state.fuse, state.begun = self.fuse, self.begun
            return state

        self.capped = capped
        flags = ("--usage.poll-interval", pace, *(CAP if capped else ()))
        self.world = Watched(self.organization, START, *flags, state=self.state, keep=keep)
        self.world.zero_first = True
        self.settle = max(300, 1.5 * int(pace))
        self.anchor()

    def watch(self) -> None:
        self.world.watch()

    def anchor(self) -> None:
        """Note where a report begins to count, as long as nothing of it was kept."""
        anchor = int((self.world.now - self.settle) // MINUTE) * MINUTE
        self.anchors |= {report: anchor for report in ("usage", "cost") if report not in self.begun}

    @rule(
        age=st.sampled_from([-600, 0, 30, 200, 1000, 5 * HOUR, 2 * DAY]),
        dimensions=st.sampled_from(POOL),
        count=st.integers(1, 10**9),
        delay=st.sampled_from([0, 20, 200, 400, 4000, 5 * HOUR]),
    )
    def use(self, age: int, dimensions: Dimensions, count: int, delay: int) -> None:
        self.organization.uses.append(Use(self.world.now - age, dimensions, Tokens(count, output=count // 3), delay))

    @rule(place=st.integers(0, 1000), share=st.floats(0, 1))
    def lower(self, place: int, share: float) -> None:
        uses = self.organization.uses
        if uses and (use := uses[place % len(uses)]).time > self.world.now - 5 * DAY:
            count = int(use.tokens.uncached_input * share)
            uses[place % len(uses)] = replace(use, tokens=Tokens(count, output=min(count, use.tokens.output)))
            self.lowered = True

    @rule(seconds=st.sampled_from([16, 61, 170, 400, 1300]), scrape_every=st.sampled_from([15, 60, 240]))
    def run(self, seconds: int, scrape_every: int) -> None:
        self.world.run(seconds, scrape_every)

    @rule(seconds=st.sampled_from([7, 40, 100]))
    def stall(self, seconds: int) -> None:
        """Let time pass without a poll: the last snapshot shows all that it can."""
        self.world.now += seconds
        self.world.watch()

    @rule(times=st.integers(1, 2))
    def poll(self, times: int) -> None:
        for _ in range(times):
            self.world.poll("usage", "api_key_usage", "cost")

    @rule(kind=st.sampled_from([429, 503, "html", "truncated", "missing_next_page"]), times=st.integers(1, 6))
    def break_api(self, kind: Any, times: int) -> None:
        self.world.faults.add(Fault(kind=kind, times=times, after_pages=times % 2))

    @rule(seconds=st.sampled_from([20, 200, 900]), times=st.integers(1, 4))
    def serve_stale(self, seconds: int, times: int) -> None:
        self.world.faults.add(Fault(kind="stale", seconds=seconds, times=times))

    @rule(
        seconds=st.sampled_from([1, 61, 170, 700]),
        stalled=st.sampled_from([0, 40, 100]),
        steps=st.integers(0, 3) | st.integers(4, 12),
        down=st.sampled_from([0, 1, 20, 300, 3000, 3 * HOUR, 3 * DAY]),
    )
    def die(self, seconds: int, stalled: int, steps: int, down: int) -> None:
        self.world.run(seconds)
        self.stall(stalled)
        self.fuse.left = steps
        with suppress(DeathError):
            self.world.run(61)
        self.fuse.left = None
        self.world.crash()
        self.world.now += down
        self.world.start()
        self.anchor()
        self.world.watch()

    @rule(down=st.sampled_from([0, 5, 600, 3 * HOUR, 2 * DAY]), seconds=st.sampled_from([1, 16, 200]))
    def restart(self, down: int, seconds: int) -> None:
        self.world.run(seconds)
        before = dict(self.world.seen), watermark_of(self.world.page())
        self.world.watch()
        self.world.stop()
        self.world.now += down
        self.world.start()
        self.anchor()
        self.world.watch()
        assert (self.world.seen, watermark_of(self.world.page())) == before

    def check(self) -> None:
        """Let the API be quiet and everything be read once more, and compare."""
        world = self.world
        world.faults.clear()
        for wait in (8 * HOUR, 7 * HOUR, 7 * HOUR):
            world.now += wait
            world.run(700, 60)
        world.poll("usage", "api_key_usage", "cost")
        page = world.page()
        reached = int(watermark(page) // MINUTE) * MINUTE
        truth = world.truth(self.anchors["usage"], reached)
        shown = tokens(page)
        assert sum(shown.values()) - sum(truth.values()) == total(page, OVERCOUNTED, report="usage")
        assert self.lowered or total(page, OVERCOUNTED, report="usage") == 0
        if not self.capped:
            assert all(shown[labels] >= count for labels, count in truth.items())
        assert billed(page) == bills(self.organization.bills, self.anchors["cost"], world.now)
        self.check_money(page)

    def check_money(self, page: Page) -> None:
        """Compare dollars with tokens, and the view by key with the one by geography."""
        if not self.capped:
            assert total(page, ESTIMATED) == pytest.approx(dollars(tokens(page)), rel=1e-12)
        truth = self.world.truth(self.anchors["usage"], int(watermark(page) // MINUTE) * MINUTE)
        if not self.lowered:
            assert total(page, ESTIMATED) == pytest.approx(dollars(truth), rel=1e-12)
            keys = sum(value for (name, _), value in page.items() if name == API_KEY_TOKENS)
            assert keys == sum(truth.values())
            assert total(page, API_KEY_ESTIMATED) == pytest.approx(dollars(truth), rel=0.005)


def dollars(counts: Mapping[tuple[str, ...], float]) -> float:
    """Return what tokens, by the labels of the token counters, cost at list prices."""
    day = START // DAY * DAY
    found = ((PriceKey._make((model, *rest)), count) for (model, _workspace, *rest), count in counts.items())
    return float(sum(int(count) * (PRICES.usd_per_token(key, day) or 0) for key, count in found))


def watermark_of(page: Page) -> float | None:
    """Return the watermark, or None before there is one."""
    name = "anthropic_usage_watermark_timestamp_seconds", frozenset({("report", "usage")})
    return page.get(name)


def billed(page: Page) -> float:
    return round(total(page, "anthropic_cost_usd_total"), 6)


def bills(days: Mapping[int, Any], anchor: int, now: float) -> float:
    """Return the dollars of the finished days since the anchor's."""
    lines: list[CostLine] = [
        item for day, items in days.items() if anchor // DAY * DAY <= day <= now - DAY for item in items
    ]
    return round(float(sum((item.amount_cents for item in lines), Decimal(0)) / 100), 6)


def test_no_fault_and_no_death_at_any_step_loses_or_repeats_a_token(tmp_path: Path) -> None:
    here = type("Life", (Life,), {"folder": tmp_path})
    options = settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(here, settings=options)

"""What is kept of the counters, and how a resumed exporter goes on from it."""

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.demo.faults import Fault
from exporter.demo.organization import CostLine, Dimensions, Tokens
from exporter.errors import ExporterError, SettingsError, StartError, StateError
from exporter.families import BILLED, COUNTED, ESTIMATED, FAMILIES, ODOMETERS, TOKENS
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import Facts, Record, SeriesRecord
from exporter.ledger.registers import Registers
from exporter.ledger.state import StateFile
from exporter.model import DAY, HOUR, MINUTE, Bucket, Organization, Series, Window
from exporter.polling.identity import Identity
from tests.events import OPUS, SONNET, Use, WrittenOrganization, line
from tests.world import Page, World, at, by, total, value, watermark

NOW = at("2026-03-09T21:17:23")
TODAY = int(at("2026-03-09"))
LATE, OVERCOUNTED = "anthropic_usage_late_tokens_total", "anthropic_usage_overcounted_tokens"
SEARCHES = "anthropic_usage_server_tool_requests_total"
FOLDED, SHOWN = "anthropic_exporter_series_folded_total", "anthropic_exporter_series"
LOADED = "anthropic_exporter_state_loaded"
TABLES = ("series", "register", "folded", "note")
SCOPE = {"usage.models": "a,b", "grouping": "model"}


# --- the file alone


def text() -> st.SearchStrategy[str]:
    """Return any text: control characters, separators and quotes too."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["", "1,2", '"', "\0"])


def series(families: Iterable[str]) -> st.SearchStrategy[Series]:
    def of(family: str) -> st.SearchStrategy[Series]:
        labels = len(ODOMETERS[family].labels)
        return st.builds(Series, st.just(family), st.tuples(*[text()] * labels))

    return st.sampled_from(sorted(families)).flatmap(of)


NUMBERS: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(0, 10**40) | st.integers(-(10**20), 0),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False)
    | st.builds(lambda digits, exponent: Decimal((digits < 0, (abs(digits),), exponent)), st.integers(-9, 9),
                st.integers(-400, 400)),
}  # fmt: skip
MINUTES = st.integers(0, 10**8).map(lambda number: number * MINUTE)
WIDTHS = st.sampled_from([MINUTE, HOUR, DAY])


@st.composite
def record(draw: st.DrawFn, report: str, known: Sequence[Series]) -> Record[Any]:
    """Return changes of a ledger that has the ``known`` series, or some of them, so far."""
    number, named = NUMBERS[COUNTED[report]], st.sampled_from(known)

    def counts(one: Series) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.tuples(*[number] * ODOMETERS[one.family].samples)

    anchor, ahead = draw(MINUTES), draw(MINUTES)
    facts: Facts[Any] = Facts(
        anchor, anchor + ahead, anchor + draw(MINUTES), draw(number), draw(number),
        draw(st.dictionaries(st.tuples(WIDTHS, MINUTES), number, max_size=3)), frozenset(draw(st.sets(MINUTES))),
    )  # fmt: skip
    registers = draw(st.lists(st.tuples(WIDTHS, MINUTES, named), max_size=5))
    return Record(
        facts,
        draw(st.none() | st.floats(0, 10**4).map(lambda seconds: facts.boundary + seconds)),
        draw(st.booleans()),
        {one: SeriesRecord(draw(counts(one)), draw(st.none() | counts(one)), draw(st.integers(0, 10**6)))
         for one in known},
        {key: draw(st.none() | counts(key[2])) for key in registers},
        draw(st.sets(series(FAMILIES[report]), max_size=2)),
    )  # fmt: skip


def amounted(records: Sequence[Record[Any]]) -> Record[Any]:
    """Return what changes, one after the other, amount to."""
    known: dict[Series, SeriesRecord[Any]] = {}
    registers: dict[Any, Any] = {}
    folded: set[Series] = set()
    for one in records:
        known |= one.series
        registers |= one.registers
        folded |= set(one.folded)
    kept = {key: counts for key, counts in registers.items() if counts is not None}
    return replace(records[-1], series=known, registers=kept, folded=folded)


def spelled(one: Record[Any]) -> str:
    """Return all numbers as they are written: 1.0 is not 1.00."""
    return repr(
        [sorted(one.series.items()), sorted(one.registers.items()), one.facts.late, sorted(one.facts.excess.items())]
    )


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder to each example of a property."""
    with TemporaryDirectory() as name:
        yield Path(name)


def opened(path: Path) -> StateFile:
    """Open a file as the exporter does."""
    state = StateFile(str(path), COUNTED, NOW)
    state.claim(SCOPE)
    return state


def run_sql(path: Path, *statements: str) -> list[Any]:
    """Run statements in a connection of its own; return the rows of the last."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def refusing(path: Path, table: str, *, gone: bool = False) -> None:
    """Let no row into a table any more, or again: a commit fails half way."""
    trigger = f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    run_sql(path, f"DROP TRIGGER full_{table}" if gone else trigger)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), report=st.sampled_from(sorted(COUNTED)))
def test_whatever_is_committed_is_loaded_again(data: st.DataObject, report: str) -> None:
    known = data.draw(st.lists(series(FAMILIES[report]), min_size=1, max_size=3, unique=True))
    changes = data.draw(st.lists(record(report, known), min_size=1, max_size=3))
    note = data.draw(text())
    with folder() as place:
        state = opened(place / "a.db")
        for change in changes:
            state.commit({report: change}, {"organization": note, "progress.usage": {"60": 1.5}})
        state.close({})
        again = opened(place / "a.db")
        again.close({})
    assert again.records == {report: amounted(changes)}
    assert spelled(again.records[report]) == spelled(amounted(changes))
    notes = {"scope": SCOPE, "organization": note, "progress.usage": {"60": 1.5}}
    assert {key: again.notes[key] for key in again.notes if not key.startswith("ledger.")} == notes
    assert (again.loaded, again.set_aside) == (True, None)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), table=st.sampled_from(["series", "note"]))
def test_a_commit_that_fails_half_way_keeps_nothing_and_the_next_one_keeps_it_all(
    data: st.DataObject, table: str
) -> None:
    known = data.draw(st.lists(series(FAMILIES["usage"]), min_size=2, max_size=3, unique=True))
    before, change = data.draw(record("usage", known[:1])), data.draw(record("usage", known))
    with folder() as place:
        state = opened(place / "a.db")
        state.commit({"usage": before}, {})
        refusing(place / "a.db", table)
        with pytest.raises(StateError, match=r"a\.db cannot be written: disk is full"):
            state.commit({"usage": change}, {"organization": "x"})
        found = [run_sql(place / "a.db", f"SELECT count(*) FROM {name}")[0][0] for name in ("series", "folded")]  # noqa: S608
        assert found == [1, len(before.folded)]
        refusing(place / "a.db", table, gone=True)
        state.commit({"usage": change}, {"organization": "x"})
        state.close({})
        again = opened(place / "a.db")
        again.close({})
    assert again.records == {"usage": amounted([before, change])}
    assert (again.notes["scope"], again.notes["organization"]) == (SCOPE, "x")


def test_a_note_that_returns_to_its_old_value_is_kept(tmp_path: Path) -> None:
    for values in (["a"], ["b", "a"]):
        state = opened(tmp_path / "a.db")
        for word in values:
            state.commit({}, {"organization": word})
        state.close({})
    assert opened(tmp_path / "a.db").notes["organization"] == "a"


@pytest.mark.parametrize("existing", [False, True])
def test_a_new_file_is_ours_alone_and_says_so(tmp_path: Path, existing: bool) -> None:  # noqa: FBT001
    path = tmp_path / "a.db"
    if existing:
        path.write_bytes(b"")
    state = StateFile(str(path), COUNTED, NOW)
    found = [run_sql(path, f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version", "journal_mode")]
    assert found == [int.from_bytes(b"antx"), 1, "wal"]
    assert (state.loaded, state.set_aside, state.records, state.notes) == (False, None, {}, {})
    assert {file.name for file in tmp_path.iterdir()} == {"a.db", "a.db-shm", "a.db-wal", "a.db.lock"}
    if not existing:
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    state.close({})


def test_a_write_that_a_crash_has_cut_short_is_rolled_back(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 0")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE big (content)")
        for _ in range(20):
            connection.execute("INSERT INTO big VALUES (zeroblob(4000))")
        for companion in ("", "-journal"):
            shutil.copy(tmp_path / f"a.db{companion}", tmp_path / f"crashed.db{companion}")
    state = opened(tmp_path / "crashed.db")
    assert (state.loaded, state.set_aside) == (False, None)
    state.close({})


def test_only_one_writes_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("a.db")
    state = opened(tmp_path / "a.db")
    for path in (tmp_path / "a.db", tmp_path / "link.db", tmp_path / ".." / tmp_path.name / "a.db"):
        with pytest.raises(StartError, match=r"a\.db is in use by process \d+; stop it"):
            opened(path)
    state.close({})
    opened(tmp_path / "a.db").close({})


def test_in_memory_nothing_is_locked_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    states = [StateFile(":memory:", COUNTED, NOW) for _ in range(2)]
    for state in states:
        state.claim(SCOPE)
        state.commit({}, {"organization": "x"})
        state.close({})
    assert list(tmp_path.iterdir()) == []


def test_a_file_counts_what_it_was_begun_with_and_nothing_else(tmp_path: Path) -> None:
    state = opened(tmp_path / "a.db")
    state.commit({"usage": Record(Facts(0, 0, 0, 0, 0, {}, frozenset()), None, False, {}, {}, set())}, {})
    state.close({})
    state = opened(tmp_path / "a.db")
    with pytest.raises(SettingsError, match=r"begun with usage\.models = a,b, and now it is a; set it back"):
        state.claim(SCOPE | {"usage.models": "a"})
    with pytest.raises(SettingsError, match=r"begun with tiers = unset, and now it is x"):
        state.claim(SCOPE | {"tiers": "x"})
    with pytest.raises(SettingsError, match=r"begun with grouping = model, and now it is unset"):
        state.claim({"usage.models": "a,b"})
    state.claim(SCOPE)
    state.close({})


def test_two_corrupt_files_in_one_second_get_two_names_and_no_file_is_overwritten(tmp_path: Path) -> None:
    path, aside = tmp_path / "a.db", tmp_path / "a.db.corrupt-20260309T211723Z"
    Path(f"{aside}-3-wal").write_text("not ours")
    contents: dict[str, bytes] = {}
    for name in (aside.name, f"{aside.name}-2", f"{aside.name}-4"):
        path.write_bytes(contents.setdefault(name, name.encode() * 50))
        state = opened(path)
        assert (state.set_aside, state.loaded) == (str(tmp_path / name), False)
        state.close({})
        path.unlink()
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    assert Path(f"{aside}-3-wal").read_text() == "not ours"


# --- the ledger and its changes


def ledger() -> Ledger[int]:
    return Ledger(
        Registers(int(NOW - 400) // MINUTE * MINUTE, TOKENS, 0),
        settle=300, grace=90, hold=150, reaches_back=False, revision=7 * DAY, most_series=100,
    )  # fmt: skip


def test_after_a_quiet_poll_only_the_facts_change() -> None:
    one, series_a = ledger(), Series(TOKENS, ("a",))
    minute = int(NOW) // MINUTE * MINUTE
    window, buckets = Window(MINUTE, minute, minute + MINUTE), [Bucket(minute, {series_a: (5,)})]
    first, quiet = (_polled(one, window, buckets, now) for now in (NOW, NOW + 1))
    assert (set(first.series), first.registers) == ({series_a}, {(MINUTE, minute, series_a): (5,)})
    assert (quiet.series, quiet.registers, quiet.folded) == ({}, {}, set())
    assert quiet.reach == pytest.approx(NOW + 1 + 90 - 300)


def _polled(one: Ledger[int], window: Window, buckets: Iterable[Bucket[int]], now: float) -> Record[int]:
    """Poll, and return what is to be kept, which is kept."""
    one.observe(window, buckets, now)
    one.complete(now, now)
    one.reading(now, now, None, None)
    changes = one.changes()
    one.kept(changes)
    return changes


def test_what_could_not_be_kept_is_among_the_next_changes() -> None:
    one, minute = ledger(), int(NOW) // MINUTE * MINUTE
    for number, name in enumerate("ab"):
        start = minute + number * MINUTE
        one.observe(
            Window(MINUTE, start, start + MINUTE), [Bucket(start, {Series(TOKENS, (name,)): (5,)})], NOW + number
        )
        changes = one.changes()
    assert {name.labels for name in changes.series} == {("a",), ("b",)}
    assert {start for _, start, _ in changes.registers} == {minute, minute + MINUTE}


# --- the exporter, from start to start


class Written(World):
    """A world whose organisation does what is written down."""

    organization: WrittenOrganization


def world(
    tmp_path: Path, uses: Iterable[Use], *flags: str, bills: dict[int, list[CostLine]] | None = None, **how: Any
) -> Written:
    organization = WrittenOrganization(list(uses), dict(bills or {}))
    return Written(organization, NOW, *flags, state=tmp_path / "a.db", **how)


def restart(one: World, *flags: str, crash: bool) -> None:
    (one.crash if crash else one.stop)()
    one.start(*flags)


def counted(path: Path | None) -> list[list[Any]]:
    """Return all rows but the notes."""
    assert path
    return [run_sql(path, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES[:-1]]  # noqa: S608


@contextmanager
def written(path: Path | None) -> Iterator[Counter[str]]:
    """Count the rows that are written meanwhile, by table; equal or not."""
    assert path
    found: Counter[str] = Counter()
    kinds = [(table, kind) for table in TABLES for kind in ("INSERT", "UPDATE", "DELETE")]
    run_sql(path, "CREATE TABLE written (tab TEXT)", *(
        f"CREATE TRIGGER log_{table}_{kind} AFTER {kind} ON {table} BEGIN INSERT INTO written VALUES ('{table}'); END"  # noqa: S608
        for table, kind in kinds
    ))  # fmt: skip
    yield found
    found.update(dict(run_sql(path, "SELECT tab, count(*) FROM written GROUP BY tab")))
    run_sql(path, *(f"DROP TRIGGER log_{table}_{kind}" for table, kind in kinds), "DROP TABLE written")


STEADY = [Use(NOW + MINUTE * n, SONNET, Tokens(output=60, web_search=1)) for n in range(3 * 60)]
MIXED = [
    *STEADY,
    *(Use(NOW + 70 * n, OPUS, Tokens(uncached_input=1000, output=3)) for n in range(60)),
    Use(NOW + 100, OPUS, Tokens(output=7), delay=1500),
]


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_a_resumed_exporter_shows_values_and_watermark_before_any_poll(tmp_path: Path, crash: bool) -> None:  # noqa: FBT001
    one = world(tmp_path, MIXED)
    assert value(one.run(40 * MINUTE, MINUTE), LOADED) == 0
    # A crash leaves what may have been served at most: what is served when the watermark stands still.
    one.now += 10 * MINUTE if crash else 20
    before, asked = one.page(), len(one.api.log)
    (one.crash if crash else one.stop)()
    one.now += HOUR
    one.start()
    after = one.page()
    assert (value(after, LOADED), usage(after)) == (1, usage(before))
    assert total(after, LATE, report="usage") == 7
    assert len(one.api.log) == asked


def usage(page: Page) -> Page:
    """Return what is counted, and up to when."""
    names = {*ODOMETERS, LATE, OVERCOUNTED, "anthropic_usage_watermark_timestamp_seconds"}
    return {key: sample for key, sample in page.items() if key[0] in names}


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_what_is_late_and_what_is_overcounted_goes_on(tmp_path: Path, crash: bool) -> None:  # noqa: FBT001

    def unusual(page: Page) -> list[float]:
        usage = [value(page, name, report="usage") for name in (LATE, OVERCOUNTED)]
        return [*usage, value(page, "anthropic_cost_overcounted_usd")]

    bills = {TODAY - DAY: [line("900")]}
    one = world(tmp_path, MIXED, "--usage.anchor", "2026-03-01", bills=bills)
    one.run(40 * MINUTE, MINUTE)
    one.organization.uses[:] = [*STEADY[:10], *MIXED[len(STEADY) :]]
    one.organization.bills[TODAY - DAY] = [line("500")]
    one.run(70 * MINUTE, MINUTE)
    restart(one, crash=crash)
    for page in (one.page(), one.run(10 * MINUTE, MINUTE)):
        assert unusual(page) == [7, 1860, 4]
    one.organization.uses.append(Use(NOW + 100, OPUS, Tokens(output=11)))
    one.organization.bills[TODAY - DAY] = [line("900")]
    restart(one, crash=crash)
    page = one.run(70 * MINUTE, MINUTE)
    assert unusual(page) == [18, 1860, 0]


def test_a_quiet_poll_writes_a_few_notes_and_one_that_finds_growth_writes_that(tmp_path: Path) -> None:
    one = world(tmp_path, STEADY[:30])
    one.run(2 * HOUR, scrape_every=MINUTE)
    with written(one.state) as rows:
        one.run(3 * MINUTE, MINUTE)
    assert rows.keys() == {"note"}
    assert rows["note"] <= 3 * (len(COUNTED) + 1)
    one.organization.uses.append(Use(one.now - 10, SONNET, Tokens(output=1)))
    with written(one.state) as rows:
        one.poll("usage")
    assert rows["register"] == 2, "one of tokens, one of dollars"
    assert rows["series"] <= 1


def test_a_poll_that_cannot_be_kept_is_not_shown_and_nothing_is_lost(tmp_path: Path) -> None:
    one = world(tmp_path, MIXED)
    one.run(20 * MINUTE, MINUTE)
    before, reached = counted(one.state), watermark(one.page())
    assert one.state
    refusing(one.state, "note")
    page = one.run(10 * MINUTE, MINUTE)
    assert {outcome.reason for outcome in one.outcomes[-5:]} == {"state"}
    assert reached <= watermark(page) <= reached + 150
    assert counted(one.state) == before
    refusing(one.state, "note", gone=True)
    one.run(20 * MINUTE, MINUTE)
    truth = sum(one.truth(0, one.now + 1).values())
    restart(one, crash=True)
    one.organization.uses[:] = []
    assert total(one.run(10 * MINUTE, MINUTE), TOKENS) == truth > 50 * 60


def test_the_file_stays_small(tmp_path: Path) -> None:
    uses = [Use(NOW + n * 7200, SONNET, Tokens(output=1)) for n in range(12 * 22)]
    one = world(tmp_path, uses)
    sizes = []
    for _ in range(2):
        for _ in range(11 * 4):
            one.now += 6 * HOUR
            one.poll("usage", "cost")
        assert one.state
        sizes.append(run_sql(one.state, "SELECT count(*), min(start) FROM register")[0])
    assert sizes[1][0] < sizes[0][0] * 1.2 < 500
    assert sizes[1][1] > one.now - 9 * DAY
    restart(one, crash=False)
    assert one.state
    assert one.state.stat().st_size < 100_000
    assert total(one.run(HOUR, MINUTE), TOKENS) == pytest.approx(len(uses), abs=2)


@pytest.mark.parametrize("name", ["usage.models", "usage.workspace-ids", "usage.service-tiers"])
@pytest.mark.parametrize("given", ["", "a"])
def test_filters_stay_in_any_order(tmp_path: Path, name: str, given: str) -> None:
    one = world(tmp_path, STEADY, f"--{name}", "a,b")
    one.run(5 * MINUTE, MINUTE)
    one.stop()
    one.start(f"--{name}", "b,a,b")
    assert value(one.page(), LOADED) == 1
    one.stop()
    setting = re.escape(name.replace("-", "_"))
    with pytest.raises(
        SettingsError, match=f"begun with {setting} = a,b, and now it is {given or 'unset'}; set it back"
    ):
        one.start(*([f"--{name}", given] if given else ["--log.level", "info"]))


def test_before_anything_is_counted_a_filter_can_be_corrected(tmp_path: Path) -> None:
    organization = WrittenOrganization(STEADY)
    mistaken = World(organization, NOW, "--usage.models", "mistaken", state=tmp_path / "a.db")
    mistaken.faults.add(Fault(kind=400, endpoint="usage"))
    mistaken.poll("usage")
    mistaken.stop()
    assert total(World(organization, NOW, state=tmp_path / "a.db").run(20 * MINUTE, MINUTE), TOKENS) > 0


# --- nonsense in the file


def amiss(report: str, name: str, value: str) -> str:
    """Let one fact about a ledger be something else."""
    return f"UPDATE note SET value = json_set(value, '$.{name}', {value}) WHERE key = 'ledger.{report}'"  # noqa: S608


def one_register(change: str) -> str:
    return f"UPDATE register SET {change} WHERE start = (SELECT min(start) FROM register)"  # noqa: S608


def noted(name: str, value: str) -> str:
    return f"UPDATE note SET value = '{value}' WHERE key = '{name}'"  # noqa: S608


NONSENSE = {
    "counts: a word": one_register("counts = 'abc'"),
    "series: money that is a word": "UPDATE series SET base = 'abc' WHERE report = 'cost'",
    "note: no JSON": noted("ledger.usage", "{"),
    "counts: one too few": one_register("counts = '1,2'"),
    "series: one figure too few": "UPDATE series SET base = '0' WHERE report = 'usage'",
    "series: one held figure too few": "UPDATE series SET held = '1' WHERE report = 'usage'",
    "series: one label too few": """UPDATE series SET labels = '["x"]' WHERE id = 1""",
    "series: a label that is no text": """UPDATE series SET labels = '[[1], 2, "", "", ""]' WHERE id = 1""",
    "series: labels in one": """UPDATE series SET labels = '"abcde"' WHERE id = 1""",
    "series: no text at all": "UPDATE series SET labels = CAST(x'5b22ff225d' AS TEXT) WHERE id = 1",
    "series: an unknown family": "UPDATE series SET family = 'x' WHERE id = 1",
    "series: infinite money": "UPDATE series SET base = 'Infinity' WHERE report = 'cost'",
    "series: none": "DELETE FROM series",
    "series: unknown report": "UPDATE series SET report = 'x' WHERE report = 'cost'",
    "register: unknown width": one_register("width = 61"),
    "register: a word for a time": one_register("start = 'abc'"),
    "facts: reach is a word": amiss("usage", "reach", "'abc'"),
    "facts: reach is infinite": """UPDATE note SET value = replace(value, '"reach":', '"reach":Infinity,"x":')""",
    "facts: reach is ages ahead": amiss("usage", "reach", "json_extract(value, '$.boundary') + 1e12"),
    "facts: boundary before the anchor": amiss("usage", "boundary", "json_extract(value, '$.anchor') - 60"),
    "note: progress is a list": noted("progress.usage", "[1]"),
    "note: progress is a word": noted("progress.usage", '{"60": "abc"}'),
    "note: days are a word": noted("progress.cost", '{"unread": "abc"}'),
    "note: scope is a list": noted("scope", "[1]"),
    "note: the organisation is a list": noted("organization", "[1]"),
    "note: deep JSON": noted("organization", "[" * 100_000),
    "note: no usage": "DELETE FROM note WHERE key = 'ledger.usage'",
    "note: no cost": "DELETE FROM note WHERE key = 'ledger.cost'",
    "note: none": "DELETE FROM note",
    "note: prices are a list": noted("money.prices", "[1]"),
    "note: prices of nobody knows what": noted("money.prices", '{"cake": [[["a"], 1, [[0, "1"]]]]}'),
    "note: a key too short": noted("money.prices", '{"token": [[["a"], 1, [[0, "1"]]]]}'),
    "note: a key without prices": noted("money.prices", '{"request": [[["web_search"], 1, []]]}'),
    "note: prices in disorder": noted("money.prices", '{"request": [[["web_search"], 1, [[9, "1"], [3, "1"]]]]}'),
    "note: a price that is no number": noted("money.prices", '{"request": [[["web_search"], 1, [[0, "x"]]]]}'),
    "note: an infinite price": noted("money.prices", '{"request": [[["web_search"], 1, [[0, "Infinity"]]]]}'),
    "note: an estimate that is none": noted("money.estimates", '[[0, [["a", "output", "NaN"]]]]'),
    "note: models are a list": noted("money.models", "[1]"),
    "note: half a verdict": "INSERT INTO note VALUES ('money.verdict', '[1]')",
    "schema: a table too few": "DROP TABLE folded",
    "schema: a column of another name": "ALTER TABLE register RENAME COLUMN counts TO figures",
    "schema: version 0": "PRAGMA user_version = 0",
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a world whose exporter was stopped."""
    one = world(tmp_path_factory.mktemp("state"), STEADY, bills={TODAY: [line("9")]})
    one.run(3 * HOUR, scrape_every=5 * MINUTE)
    one.stop()
    return one


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_in_the_file_is_set_aside_and_the_counters_begin_anew(
    case: str, healthy: World, tmp_path: Path
) -> None:
    assert healthy.state
    path = Path(shutil.copy(healthy.state, tmp_path / "a.db"))
    run_sql(path, NONSENSE[case])
    spoilt = path.read_bytes()
    one = World(healthy.organization, at("2026-03-10T00:38"), state=path)
    outcomes, page = one.poll(), one.page()
    assert value(page, LOADED) == 0
    assert path.with_name("a.db.corrupt-20260310T003800Z").read_bytes() == spoilt
    assert {outcome.reason for outcome in outcomes} == {None}
    assert (total(page, TOKENS), total(page, BILLED)) == (0, 0)


def test_damage_that_no_row_shows_is_found(healthy: World, tmp_path: Path) -> None:
    assert healthy.state
    path = Path(shutil.copy(healthy.state, tmp_path / "a.db"))
    content = bytearray(path.read_bytes())
    content[36:40] = (7).to_bytes(4)  # the number of free pages, in SQLite's header
    path.write_bytes(content)
    state = opened(path)
    assert (state.set_aside, state.loaded) == (f"{path}.corrupt-20260309T211723Z", False)
    assert Path(f"{path}.corrupt-20260309T211723Z").read_bytes() == content
    state.close({})


# --- the cap


def sets(count: int) -> list[Dimensions]:
    """Return different label sets."""
    return [SONNET._replace(model=f"model-{number}") for number in range(count)]


CAP = ("--metrics.max-series", "10")


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_what_comes_after_a_family_is_full_is_counted_together_for_ever(tmp_path: Path, crash: bool) -> None:  # noqa: FBT001
    names = sets(7)
    uses = [Use(NOW + MINUTE * n, names[n % 5], Tokens(output=10**n)) for n in range(10)]
    one = world(tmp_path, uses, *CAP)
    page = one.run(30 * MINUTE, MINUTE)
    assert models(page) == {"model-0": 100_001, "model-1": 1_000_010, "other": 1_111_111_111 - 1_100_011}
    assert value(page, FOLDED, family=TOKENS) == 3 * 5
    assert value(page, SHOWN, family=TOKENS) == 3 * 5
    one.organization.uses.append(Use(one.now, names[5], Tokens(output=3)))
    restart(one, crash=crash)
    page = one.run(30 * MINUTE, MINUTE)
    assert value(page, FOLDED, family=TOKENS) == 4 * 5
    assert models(page)["other"] == 1_111_111_111 - 1_100_011 + 3

    restart(one, "--metrics.max-series", "1000", crash=crash)
    one.organization.uses += [Use(one.now, name, Tokens(output=1)) for name in names]
    page = one.run(30 * MINUTE, MINUTE)
    assert models(page) == {"model-0": 100_002, "model-1": 1_000_011, "other": 1_110_011_107, "model-6": 1}
    assert sum(models(page).values()) == sum(use.tokens.output for use in uses) + 3 + len(names)


def models(page: Page) -> dict[str, float]:
    """Return the output tokens by model."""
    found = by(page, TOKENS, ["model", "token_type"])
    return {model: count for (model, token_type), count in found.items() if token_type == "output"}


def test_the_cap_holds_after_a_crash_before_the_first_complete_poll(tmp_path: Path) -> None:
    names = sets(5)
    uses = [Use(at("2026-03-05"), name, Tokens(output=10)) for name in names[:2]]
    one = world(tmp_path, uses, *CAP, "--usage.anchor", "2026-03-01", page_buckets={MINUTE: 500})
    one.faults.add(Fault(kind="not_json", endpoint="usage", after_pages=1))
    assert one.poll("usage")[0].reason == "bad_response"
    one.faults.clear()
    restart(one, crash=True)
    one.organization.uses += [Use(NOW - HOUR, name, Tokens(output=10)) for name in names[2:]]
    assert models(one.run(10 * MINUTE, MINUTE)) == {"model-0": 10, "model-1": 10, "other": 30}


def test_billed_series_fold_but_for_their_cost_type_and_token_type(tmp_path: Path) -> None:
    lines = [replace(line(str(100 * 10**n)), model=f"model-{n}") for n in range(5)]
    lines += [replace(line("7"), model=None, cost_type="web_search", token_type=None)]
    bills = {TODAY - DAY: lines}
    one = world(tmp_path, [], "--metrics.max-series", "2", "--usage.anchor", "2026-03-01", bills=bills)
    one.poll()
    shown = by(one.page(), BILLED, ["model", "workspace_id", "cost_type", "token_type"])
    expected = {
        ("model-0", "default", "tokens", "output"): 1,
        ("model-1", "default", "tokens", "output"): 10,
        ("other", "other", "tokens", "output"): 11_100,
        ("other", "other", "web_search", "none"): 0.07,
    }
    assert shown == expected
    assert value(one.page(), FOLDED, family=BILLED) == 4
    restart(one, crash=True)
    one.poll()
    assert by(one.page(), BILLED, ["model", "workspace_id", "cost_type", "token_type"]) == expected
    assert value(one.page(), FOLDED, family=BILLED) == 4


# --- series that do not grow any more


def pass_days(one: World, days: int) -> None:
    """Let days pass, with a poll and a scrape at the end of each five."""
    end = one.now + days * DAY
    while one.now < end:
        one.now = min(end, one.now + 5 * DAY)
        one.poll("usage")
        one.page()


def shown(one: World) -> dict[str, float]:
    """Poll, and return the output tokens by model."""
    one.poll("usage")
    return models(one.page())


@pytest.mark.parametrize("between", ["nothing", "a stop", "a crash"])
def test_an_idle_series_goes_and_returns_at_its_old_value(tmp_path: Path, between: str) -> None:
    rare, daily = sets(2)
    uses = [Use(NOW + n * DAY, daily, Tokens(output=1)) for n in range(50)]
    one = world(tmp_path, [*uses, Use(NOW, rare, Tokens(output=100))])
    one.run(10 * MINUTE, MINUTE)
    pass_days(one, 35)
    assert models(one.page()) == {rare.model: 100, daily.model: 36}
    pass_days(one, 3)
    assert models(one.page()) == {daily.model: 39}
    if between != "nothing":
        restart(one, crash=between == "a crash")
        assert models(one.page()).keys() == {daily.model}
        pass_days(one, 1)
        assert models(one.page()).keys() == {daily.model}

    one.organization.uses.append(Use(one.now, rare, Tokens(output=7)))
    one.now += 400
    assert shown(one)[rare.model] == 100
    one.now += 149
    assert shown(one)[rare.model] == 100
    one.now += 2
    assert shown(one)[rare.model] == 107
    assert sum(models(one.page()).values()) == sum(one.truth(0, one.now - 400).values())


def test_an_idle_series_that_returns_while_the_exporter_is_down_begins_at_its_old_value(tmp_path: Path) -> None:
    rare, daily = sets(2)
    one = world(tmp_path, [Use(NOW + n * DAY, daily, Tokens(output=1)) for n in range(60)])
    one.organization.uses += [Use(NOW, rare, Tokens(output=100)), Use(NOW + 39 * DAY, rare, Tokens(output=7))]
    one.run(10 * MINUTE, MINUTE)
    pass_days(one, 38)
    one.stop()
    one.now += 3 * DAY
    one.start()
    assert rare.model not in models(one.page())
    assert shown(one)[rare.model] == 100
    one.now += 151
    assert shown(one) == {rare.model: 107, daily.model: 42}


def test_an_idle_series_gives_its_place_to_another_and_keeps_its_own(tmp_path: Path) -> None:
    names = sets(3)
    uses = [Use(NOW, names[0], Tokens(output=100)), Use(NOW, names[1], Tokens(output=10))]
    one = world(tmp_path, uses, *CAP)
    one.run(10 * MINUTE, MINUTE)
    pass_days(one, 37)
    assert models(one.page()) == {}
    one.organization.uses += [Use(one.now + n, name, Tokens(output=1)) for n, name in enumerate(names)]
    restart(one, crash=True)
    pass_days(one, 1)
    one.now += 151
    assert shown(one) == {"model-0": 101, "model-1": 11, "model-2": 1}


# --- usage that gets other labels


@pytest.mark.parametrize("between", ["nothing", "a stop", "a crash", "three days"])
def test_frozen_usage_whose_labels_change_does_not_enter_twice(tmp_path: Path, between: str) -> None:
    day = int(at("2026-03-10"))
    uses = [Use(day + n * HOUR, SONNET, Tokens(output=10, web_search=1)) for n in range(24)]
    one = world(tmp_path, [*uses, *(Use(NOW + n * DAY, OPUS, Tokens(output=1)) for n in range(30))])
    pass_days(one, 8)
    one.now = at("2026-03-18T00:20")
    one.poll("usage")
    assert run_sql(tmp_path / "a.db", "SELECT min(start) FROM register") >= [(day + DAY,)]
    if between != "nothing":
        restart(one, crash=between == "a crash")
    one.organization.uses[:24] = [
        replace(use, dimensions=use.dimensions._replace(api_key_id=None, workspace_id=None)) for use in uses
    ]
    # The days were last read before the day was frozen, so that it is read once more.
    one.now += 3 * DAY if between == "three days" else 4 * HOUR
    asked = len(one.api.log)
    one.poll("usage")
    assert min(seen.query["starting_at"][0] for seen in one.api.log[asked:]) < "2026-03-11"
    one.page()
    one.now += 151
    one.poll("usage")
    page = one.page()
    assert models(page) == {SONNET.model: 240, OPUS.model: (one.now - 300 - NOW) // DAY + 1}
    assert (total(page, SEARCHES), total(page, OVERCOUNTED)) == (24, 0)
    assert {workspace for (workspace,) in by(page, SEARCHES, ["workspace_id"])} == {"wrkspc_1"}


# --- whose usage it is


def test_a_key_that_changes_while_it_is_asked_whose_it_is_is_asked_about_again() -> None:
    keys, owners = ["first"], {"first": "mine", "second": "theirs"}
    aborted: list[ExporterError] = []

    def ask() -> Organization:
        asked = keys[-1]
        keys.append("second")
        return Organization(owners[asked], "")

    identity = Identity("mine", ask=ask, key=lambda: keys[-1], where="a.db", abort=aborted.append)
    nothing: list[Bucket[int]] = []
    with pytest.raises(StateError):
        identity.guard(lambda _window: nothing)(Window(MINUTE, 0, MINUTE))
    assert len(aborted) == 1


def test_a_state_file_from_before_there_were_estimates_goes_on_and_they_begin_now(tmp_path: Path) -> None:
    one = world(tmp_path, STEADY)
    one.run(30 * MINUTE, MINUTE)
    one.stop()
    assert one.state
    run_sql(
        one.state,
        "DELETE FROM register WHERE series IN (SELECT id FROM series WHERE report NOT IN ('usage', 'cost'))",
        "DELETE FROM series WHERE report NOT IN ('usage', 'cost')",
        "DELETE FROM note WHERE key LIKE 'ledger.%estimate' OR key LIKE '%api_key%' OR key LIKE 'money.%'",
    )
    one.seen = {}
    one.start()
    shown = usage(one.page())
    assert total(shown, TOKENS) > 0
    assert ESTIMATED not in {name for name, _ in shown}
    begun = one.now
    page = one.run(30 * MINUTE, MINUTE)
    minutes = (value(page, "anthropic_usage_watermark_timestamp_seconds", report="usage") - begun + 300) / MINUTE
    assert total(page, ESTIMATED, cost_type="tokens") == pytest.approx(minutes * 60 * 10e-6, rel=0.05)

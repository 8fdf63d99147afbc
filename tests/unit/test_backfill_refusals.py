"""What ``backfill`` refuses, and what it puts up with, against a simulated API."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.demo.faults import Fault
from exporter.errors import OtherOrganizationError, SettingsError, StartError
from exporter.families import COUNTED
from exporter.ledger.state import StateFile
from exporter.model import DAY, HOUR, MINUTE
from tests.unit.test_backfill import ANCHORED, LABELS, NOW, TODAY, Desk, billed, read, used
from tests.world import World

FROM = ("--from", "2026-11-18")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), billed())


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), billed(), *ANCHORED)


def refused(desk: Desk, *words: str, flags: Sequence[str] | None = None) -> str:
    """Return why the command will not begin; nothing may have been asked of the API by then."""
    desk.world.api.requests.clear()
    place = () if {"--output", "--into", "--url"} & {*words} else ("--output", str(desk.folder / "out.om"))
    with pytest.raises(SettingsError) as error:
        desk.run(*words, *place, flags=flags)
    assert not desk.world.api.requests
    assert not list(desk.folder.glob("*.om"))
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "--label job=... is missing; give the labels that the live series have"),
        ("--label job=a", "--label instance=... is missing; give"),
        ("--label instance=a", "--label job=... is missing; give"),
        ("--label x", "--label is 'x': write it as NAME=VALUE"),
        ("--label job=", "--label is 'job=': write it as NAME=VALUE"),
        ("--label job=a --label job=b --label instance=c", "--label: one name is given twice; give it once"),
        ("--label model=a", "--label model: that cannot be the name of a target's label; correct it"),
        ("--label __name__=a", "--label __name__: that cannot"),
        ("--label 1st=a", "--label 1st: that cannot"),
        ("--label tëam=a", "--label tëam: that cannot"),
    ],
)
def test_labels_must_be_those_of_a_target(desk: Desk, words: str, told: str) -> None:
    given = words.split()
    if "cannot" in told:
        given += LABELS
    assert refused(desk, *FROM, *given).startswith(told)


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("", "--from is missing; write --from YYYY-MM-DD"),
        ("yesterday", "--from is 'yesterday': write it as a day of the calendar, YYYY-MM-DD"),
        ("2026-02-30", "--from is '2026-02-30': write it as a day"),
        ("2026-12-01", "the live counters begin at 2026-11-19 06:55 UTC; choose an earlier day as --from"),
        ("2026-11-20", "the live counters begin at 2026-11-19 06:55 UTC; choose an earlier day"),
    ],
)
def test_the_first_day_must_be_before_the_live_counters(desk: Desk, since: str, told: str) -> None:
    assert refused(desk, *(("--from", since) if since else ()), *LABELS).startswith(told)


def test_the_first_day_must_not_be_before_that_of_a_counter_that_reaches_back(anchored: Desk) -> None:
    told = "--from is before 2026-11-15 00:00 UTC, where the counters are 0; begin there, or later"
    assert refused(anchored, "--from", "2026-11-14", *LABELS) == told


def test_there_is_one_place_to_write_to(desk: Desk) -> None:
    places = ("--output", "a.om", "--into", "/nowhere", "--url", "http://127.0.0.1")
    assert refused(desk, *FROM, *LABELS, *places) == "--output and --into and --url are different places; give one"
    assert refused(desk, *FROM, *LABELS, *places[2:]) == "--into and --url are different places; give one"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--output", "none/a.om"), "--output none/a.om: there is no folder none; create it"),
        (("--output", "/"), "--output /: that is a folder; name a file"),
        (("--into", "/none"), "--into /none: there is no such folder; give that of --storage.tsdb.path"),
        (("--url", "127.0.0.1:8428"), "--url is '127.0.0.1:8428': write it as http://host:8428"),
        (("--url", "ftp://127.0.0.1"), "--url is 'ftp://127.0.0.1': write it as http://host:8428"),
        (("--url", "http://[::1"), "--url is 'http://[::1': write it as http://host:8428"),
        (("--url", "http://127.0.0.1:x"), "--url is 'http://127.0.0.1:x': write it as http://host:8428"),
    ],
)
def test_the_place_must_be_one(desk: Desk, words: Sequence[str], told: str) -> None:
    desk.world.api.requests.clear()
    with pytest.raises((SettingsError, StartError)) as error:
        desk.run(*FROM, *LABELS, *words)
    assert str(error.value) == told
    assert not desk.world.api.requests


def test_there_must_be_a_state_file_that_counts(desk: Desk, tmp_path: Path) -> None:
    remedy = "start the exporter first, with the same settings, and let it poll once: history ends where it begins"
    told = refused(desk, *FROM, *LABELS, flags=["--state.path", ":memory:"])
    assert told == "state.path is ':memory:', which nobody else can read; give the exporter a file"
    path = str(tmp_path / "none")
    told = refused(desk, *FROM, *LABELS, flags=["--state.path", path])
    assert told == f"state.path is {path!r}: there is no such file; {remedy}"
    new = tmp_path / "new"
    StateFile(str(new), COUNTED, NOW).close({})
    told = refused(desk, *FROM, *LABELS, flags=["--state.path", str(new)])
    assert told == f"the state file {new} does not count anything yet; {remedy}"
    started = World(billed(), NOW, state=tmp_path / "started")
    told = refused(desk, *FROM, *LABELS, flags=["--state.path", str(started.state)])
    assert "does not count anything yet" in told
    broken = tmp_path / "broken"
    for content in (b"SQLite format 3\0" + b"\1" * 5000, b"text\n" * 999):
        broken.write_bytes(content)
        told = refused(desk, *FROM, *LABELS, flags=["--state.path", str(broken)])
        assert told.startswith(f"the state file {broken} cannot be read: ")


def test_a_state_file_that_was_damaged_is_one_line(desk: Desk, tmp_path: Path) -> None:
    desk.world.crash()
    path = tmp_path / "damaged"
    assert desk.world.state
    shutil.copyfile(desk.world.state, path)
    shutil.copyfile(f"{desk.world.state}-wal", f"{path}-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE note SET value = '{' WHERE key LIKE '%usage%'")
    told = refused(desk, *FROM, *LABELS, flags=["--state.path", str(path)])
    assert told.startswith(f"the state file {path} cannot be read: ")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--usage.anchor", "2026-11-16"), "counts usage from 2026-11-15 00:00 UTC on, but usage.anchor is 2026-11-16"),
        (("--usage.models", "x"), "was begun with usage.models = unset, and now it is x; set it back"),
        (("--usage.workspace-ids", "x"), "was begun with usage.workspace_ids = unset, and now it is x"),
    ],
)
def test_settings_must_be_those_of_the_state_file(anchored: Desk, flags: Sequence[str], told: str) -> None:
    assert told in refused(anchored, *FROM, *LABELS, flags=flags)


def test_without_its_setting_an_anchor_is_that_of_the_state_file(anchored: Desk) -> None:
    assert refused(anchored, "--from", "2026-11-14", *LABELS, flags=()).startswith("--from is before 2026-11-15")


def test_another_organisation_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, billed())
    desk.world.api = World(replace(billed(), id="99999999-2222-3333-4444-555555555555"), NOW).api
    with pytest.raises(OtherOrganizationError) as error:
        desk.text("2026-11-18")
    assert str(error.value).startswith(
        f"the state file {desk.world.state} counts organisation 11111111-2222-3333-4444-555555555555, but the key is "
        "of 99999999-2222-3333-4444-555555555555; use a key of that organisation, or choose another --state.path"
    )
    assert "usage" not in desk.world.api.requests
    assert not list(tmp_path.glob("*.om"))


@pytest.fixture
def short(tmp_path: Path) -> Desk:
    """Return a desk with less to write: the day before the start, and an hour."""
    return Desk(tmp_path, billed(used(TODAY - 2 * DAY)), now=TODAY + HOUR)


def test_what_the_key_may_not_read_is_said_and_left_out(short: Desk) -> None:
    whole = read(short.text("2026-11-18"))
    assert not [told for told in short.said if "going on without" in told]
    for endpoint in ("organization", "workspaces", "api_keys", "rate_limits"):
        short.world.faults.add(Fault(kind=403, endpoint=endpoint))
    lines = read(short.text("2026-11-18"))
    told = [told for told in short.said if "going on without" in told]
    assert [line.partition(":")[0] for line in told] == ["organization", "workspaces", "api_keys", "rate_limits"]
    assert all(line.endswith("give the key the right to read it") for line in told)
    lacking = {family for family, _ in whole} - {family for family, _ in lines}
    assert lacking == {
        "anthropic_organization_info",
        "anthropic_rate_limit",
        "anthropic_model_group_info",
        "anthropic_api_key_expires_timestamp_seconds",
    }
    figures = {key: value for key, value in whole.items() if key[0].endswith("_total")}
    assert figures.items() <= lines.items()


@pytest.mark.parametrize("kind", [401, 403])
def test_a_key_that_is_refused_midway_leaves_a_file_as_it_was(short: Desk, kind: int) -> None:
    file = short.folder / "out.om"
    file.write_text("before")
    left = sorted(short.folder.iterdir())
    short.world.faults.add(Fault(kind=kind, endpoint="cost"))
    with pytest.raises(StartError) as error:
        short.text("2026-11-18")
    remedy = {401: "is this an Admin API key, and has it not expired?", 403: "or use a key that has it"}[kind]
    assert str(error.value).startswith(f"cost: the API answered {kind}")
    assert str(error.value).endswith(remedy)
    assert short.world.api.requests["usage"] > 0
    assert file.read_text() == "before"
    assert sorted(short.folder.iterdir()) == left


def test_a_busy_api_is_waited_for_and_the_figures_are_the_same(short: Desk) -> None:
    whole, begun = short.text("2026-11-18"), short.world.now
    short.said.clear()
    short.world.faults.add(Fault(kind=429, endpoint="usage", grouped_by="api_key_id", times=2, retry_after="120"))
    assert short.text("2026-11-18") == whole
    assert short.world.now - begun >= 240
    waiting = [told for told in short.said if "waiting" in told]
    assert len(waiting) == 2
    assert all("usage: the API answered 429" in told for told in waiting)


def test_an_api_that_is_down_is_given_up(short: Desk) -> None:
    short.world.faults.add(Fault(kind=503, endpoint="usage"))
    begun = short.world.now
    with pytest.raises(StartError, match=r"usage: the API answered 503.*; tried for \d+ s, try again later"):
        short.text("2026-11-18")
    assert short.world.now - begun > 5 * MINUTE
    assert not list(short.folder.glob("*.om"))

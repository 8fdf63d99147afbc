"""The state file of the real program: what is refused, what is set aside, and that nothing is ever overwritten."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, MINUTE, Tokens
from exporter.demo.server import Application, serve
from tests.events import SONNET, Use, WrittenOrganization, line
from tests.world import KEY, TOKENS, Page, World, total, value, watermark

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess, Samples

pytestmark = pytest.mark.process

NAME = "anthropic-exporter.db"
ERROR = "anthropic-exporter: error: "
THEIRS, THEIR_MODEL = "99999999-8888-7777-6666-555555555555", "claude-of-another-organisation"
THEIR_KEY = "sk-ant-admin01-canary-of-another-organisation"
KEY_FILE = {"ANTHROPIC_ADMIN_API_KEY": None, "ANTHROPIC_ADMIN_API_KEY_FILE": "key"}
NOWHERE = ("--api.base-url", "http://127.0.0.1:9", "--web.listen-address", "127.0.0.1:0")
QUICK = (
    *("--usage.poll-interval", "1", "--usage.settle", "70", "--usage.hold", "1"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "1", "--limits.poll-interval", "1"),
    *("--usage.api-key-poll-interval", "1"),
)
OLD = 1000
PAGE = 4096
"""Bytes of a page of the database."""
LOADED = "anthropic_exporter_state_loaded"
WATERMARK = "anthropic_usage_watermark_timestamp_seconds"
OTHERS = {
    *("anthropic_api_key_usage_tokens_total", "anthropic_api_key_estimated_cost_usd_total"),
    "anthropic_estimated_cost_usd_total",
}
"""What the same usage is counted in as well."""
REQUESTS = "anthropic_exporter_api_requests_total"
FAILURES = "anthropic_exporter_poll_failures_total"

Start = Callable[..., "ExporterProcess"]


def organization(model: str = SONNET.model) -> WrittenOrganization:
    """Return one that uses a token a second, now, and has used some three days ago."""
    now = int(time.time()) // MINUTE * MINUTE
    used = SONNET._replace(model=model)
    uses = [Use(now - 3 * DAY, used, Tokens(output=OLD))]
    uses += [Use(now + n * MINUTE, used, Tokens(output=60)) for n in range(-180, 60)]
    return WrittenOrganization(uses, {now - now % DAY - n * DAY: [line("250")] for n in (1, 2)})


def truth(known: WrittenOrganization, reached: float) -> int:
    """Return what was used up to a moment of these hours; within a minute usage is even."""
    minute, part = divmod(int(reached * 1000), 60_000)
    return sum(use.tokens.output for use in known.uses if use.time < minute * MINUTE) + 60 * part // 60_000


def day(ago: int) -> str:
    return f"{datetime.fromtimestamp(time.time() - ago * DAY, UTC):%Y-%m-%d}"


class Left(NamedTuple):
    """A state file, and what was served last before it was left."""

    path: Path
    page: Page


def leave(path: Path, known: WrittenOrganization, *flags: str, crash: bool = False) -> Left:
    """Let a run end half an hour ago; one that crashes was stopped and started once before."""
    world = World(known, time.time() - 3600, *flags, state=path)
    world.run(1200, scrape_every=MINUTE)
    world.stop()
    if crash:
        world.start()
        world.run(300, scrape_every=MINUTE)
        world.crash()
    assert world.state
    return Left(world.state, world.page())


@pytest.fixture(scope="module")
def mine() -> WrittenOrganization:
    return organization()


@pytest.fixture(scope="module")
def left(mine: WrittenOrganization, tmp_path_factory: pytest.TempPathFactory) -> Left:
    return leave(tmp_path_factory.mktemp("left") / NAME, mine)


@pytest.fixture
def state(left: Left, tmp_path: Path) -> Path:
    """Return a state file that was left by a clean stop, where the program looks for it."""
    return Path(shutil.copy(left.path, tmp_path / NAME))


@pytest.fixture
def api(mine: WrittenOrganization) -> AdminApi:
    return AdminApi(mine, key=KEY, clock=time.time)


@pytest.fixture
def api_url(api: AdminApi) -> Iterator[str]:
    with serve(api) as server:
        yield server.url


@pytest.fixture
def theirs() -> AdminApi:
    """Return the API of another organisation, for the same key."""
    other = organization(THEIR_MODEL)
    other.id = THEIRS
    return AdminApi(other, key=KEY, clock=time.time)


@pytest.fixture
def run(exporter_process: Start) -> Iterator[Start]:
    """Serve what an API at a URL says, as quickly as can be; what still runs in the end is killed, to save time."""
    programs: list[ExporterProcess] = []

    def start(url: str, *flags: str, env: Mapping[str, str | None] | None = None) -> "ExporterProcess":
        given = {"ANTHROPIC_ADMIN_API_KEY": KEY, **(env or {})}
        programs.append(exporter_process("--api.base-url", url, *QUICK, *flags, env=given))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def as_it_is(app: Application) -> Application:
    return app


def nameless(app: Application) -> Application:
    """Return an API that does not say in its headers whose data it is."""

    def answer(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        def start(status: str, headers: Sequence[tuple[str, str]]) -> object:
            return start_response(status, [header for header in headers if header[0] != "anthropic-organization-id"])

        return app(environ, start)

    return answer


def gated(app: Application, gate: Event) -> Application:
    """Return an API that answers when the gate opens."""

    def answer(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        gate.wait(10)
        return app(environ, start_response)

    return answer


def by_key(*apis: AdminApi) -> Application:
    """Return several APIs at one address."""

    def answer(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        given = environ["HTTP_X_API_KEY"]
        return next((api for api in apis if api.key == given), apis[0])(environ, start_response)

    return answer


def counted(path: Path) -> list[Any]:
    """Return what a file counts, and whose it is; not where its series stand, which a stop changes."""
    queries = (
        "SELECT family, labels, base FROM series ORDER BY 1, 2",
        "SELECT family, labels, width, start, counts FROM register JOIN series ON id = series ORDER BY 1, 2, 3, 4",
        "SELECT value FROM note WHERE key = 'organization'",
    )
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(query).fetchall() for query in queries]


def usage(page: Page) -> Page:
    return {key: sample for key, sample in page.items() if key[0] in {TOKENS, WATERMARK, *OTHERS}}


def grows(before: Page) -> Callable[["Samples"], bool]:
    return lambda after: total(after, TOKENS) > total(before, TOKENS)


def is_up(samples: "Samples") -> bool:
    return total(samples, "anthropic_up") == 5


def refused(cwd: Path, *flags: str, code: int = 2, under: Sequence[str] = ()) -> str:
    """Run a start that has to fail at once; return the one line that it says."""
    command = [*under, sys.executable, "-m", "exporter", *NOWHERE, *flags]
    given = {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY}
    done = subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert [said.startswith(ERROR) for said in done.stderr.splitlines()] == [True], done.stderr
    assert KEY not in done.stderr
    return done.stderr


def ended(program: "ExporterProcess") -> tuple[int, str]:
    """Wait until a program ends by itself; return its exit code and the line that it ends with."""
    program.process.wait(20)
    code, _ = program.terminate()
    *_, last = program.log().splitlines()
    assert (last.startswith(ERROR), program.log().count(ERROR)) == (True, 1)
    assert "Traceback" not in program.log()
    assert KEY not in program.log()
    return code, last


# --- whose counters they are


@pytest.mark.parametrize("way", [as_it_is, nameless])
def test_the_state_of_another_organisation_is_kept_from_it(
    run: Start, theirs: AdminApi, way: Callable[[Application], Application], left: Left, state: Path
) -> None:
    before, gate = counted(state), Event()
    with serve(gated(way(theirs), gate)) as server:
        program = run(server.url, "--api.timeout", "10")
        served = program.samples()
        gate.set()
        code, told = ended(program)
    assert usage(served) == usage(left.page)
    assert code == 1
    assert f"{state} counts organisation {WrittenOrganization.id}, but the key is of {THEIRS}; use a key of" in told
    assert "--state.path" in told
    assert "msg=stopping" in program.log()
    assert counted(state) == before


def test_with_the_right_key_it_goes_on(run: Start, api_url: str, left: Left, state: Path) -> None:
    program = run(api_url)
    samples = program.samples()
    assert (value(samples, LOADED), usage(samples)) == (1, usage(left.page))
    assert f'level=info msg="going on from the state file" file={state}\n' in program.log()
    program.wait_for(grows(left.page))


def test_while_the_api_cannot_say_whose_usage_it_is_nothing_is_merged(
    run: Start, api: AdminApi, left: Left, state: Path
) -> None:
    before = counted(state)
    # The first meets the look at the bill before usage is read, which nobody hears of; the second whoever asks next.
    api.faults.add(Fault(kind=503, endpoint="organization", retry_after="6", times=2))
    api.faults.add(Fault(kind="slow", endpoint="organization", seconds=30))
    with serve(nameless(api)) as server:
        program = run(server.url, "--api.timeout", "1", "--api.poll-deadline", "1")
        samples = program.wait_for(lambda samples: total(samples, FAILURES, reason="timeout") > 0)
        assert total(samples, FAILURES, reason="server") > 0
        assert total(samples, REQUESTS, endpoint="usage", code="200") > 0
        assert (usage(samples), counted(state)) == (usage(left.page), before)
        api.faults.clear()
        program.wait_for(grows(left.page))
        assert program.terminate()[0] == 0


def test_a_key_that_may_not_tell_its_organisation_is_warned_about_once(
    run: Start, api: AdminApi, left: Left, state: Path
) -> None:
    api.faults.add(Fault(kind=403, endpoint="organization"))
    with serve(nameless(api)) as server:
        program = run(server.url)
        program.wait_for(grows(left.page))
        assert program.terminate()[0] == 0
    warnings = [said for said in program.log().splitlines() if "its organisation" in said]
    assert len(warnings) == 1
    assert 'level=warning msg="the key may not tell its organisation; that it is the same one' in warnings[0]


def test_an_answer_to_whose_usage_it_is_that_is_no_answer_merges_nothing(
    run: Start, api: AdminApi, left: Left, state: Path
) -> None:
    before = counted(state)
    api.faults.add(Fault(kind="html", endpoint="organization"))
    with serve(nameless(api)) as server:
        program = run(server.url)
        program.wait_for(lambda samples: total(samples, REQUESTS, endpoint="organization", code="200") > 2)
        assert (usage(program.samples()), counted(state)) == (usage(left.page), before)
        api.faults.clear()
        program.wait_for(grows(left.page))


@pytest.mark.parametrize("way", [as_it_is, nameless])
def test_a_key_file_that_is_rotated_to_another_organisation_ends_it(
    run: Start, api: AdminApi, theirs: AdminApi, way: Callable[[Application], Application], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    theirs.key = THEIR_KEY
    with serve(way(by_key(api, theirs))) as server:
        program = run(server.url, env=KEY_FILE)
        program.wait_for(is_up)
        (tmp_path / "new").write_text(THEIR_KEY)
        (tmp_path / "new").replace(tmp_path / "key")
        code, told = ended(program)
    assert code == 1
    assert f"{tmp_path / NAME} counts organisation {WrittenOrganization.id}, but the key is of {THEIRS}" in told
    assert THEIR_MODEL not in str(counted(tmp_path / NAME))


# --- what they count


def test_an_anchor_is_for_ever(run: Start, mine: WrittenOrganization, api_url: str, left: Left, tmp_path: Path) -> None:
    state = Path(shutil.copy(left.path, tmp_path / "unset.db"))
    told = refused(tmp_path, "--usage.anchor", day(1), "--state.path", "unset.db")
    assert re.search(rf"the state file {re.escape(str(state))} counts usage from [\d-]{{10}} \d\d:\d\d UTC on", told)
    assert f"usage.anchor is {day(1)}; unset it, or choose another --state.path" in told
    assert state.read_bytes() == left.path.read_bytes()

    state, page = leave(tmp_path / NAME, mine, "--usage.anchor", day(4))
    before = state.read_bytes()
    assert f"counts usage from {day(4)} 00:00 UTC on" in refused(tmp_path, "--usage.anchor", day(5))
    assert state.read_bytes() == before
    program = run(api_url)
    assert usage(program.samples()) == usage(page)
    samples = program.wait_for(grows(page))
    assert total(samples, TOKENS) == truth(mine, watermark(samples)) > OLD


def test_a_filter_is_for_ever(run: Start, api_url: str, state: Path, tmp_path: Path) -> None:
    before = state.read_bytes()
    told = refused(tmp_path, "--usage.models", "a")
    assert f"{state} was begun with usage.models = unset, and now it is a; set it back, or choose another" in told
    assert state.read_bytes() == before
    assert value(run(api_url).samples(), LOADED) == 1


# --- what is no state file


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return spoil


def another_program(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE note (key, value)", "PRAGMA user_version = 1")(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (sql("PRAGMA user_version = 99"), "written by a newer version (schema 99, this one knows 1); run that version"),
        (another_program, "that is a database of another program; choose another"),
    ],
    ids=["of a newer version", "of another program"],
)
def test_a_database_that_is_not_ours_to_write_stays_as_it_is(
    change: Callable[[Path], None], why: str, state: Path, tmp_path: Path
) -> None:
    change(state)
    before = state.read_bytes()
    told = refused(tmp_path)
    assert str(state) in told
    assert why in told
    assert state.read_bytes() == before
    assert not set_aside(state)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


PATHS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a directory": ("x", Path.mkdir, "that is not a file; name one"),
    "a pipe": ("x", make_fifo, "that is not a file; name one"),
    "a device": ("/dev/null", lambda _: None, "that is not a file; name one"),
    "no directory": ("none/x.db", lambda _: None, "none'; create it"),
    "below a file": ("x/x.db", Path.touch, "x'; create it"),
    "where nobody can write": ("/proc/x.db", lambda _: None, "/proc/x.db cannot be used: "),
    "a link to itself": ("x", make_loop, "x"),
    "a long name": ("x" * 300, lambda _: None, "x"),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_where_no_file_can_be(case: str, tmp_path: Path) -> None:
    path, make, why = PATHS[case]
    make(tmp_path / "x")
    told = refused(tmp_path, "--state.path", path)
    assert why in told
    assert "--state.path" in told or "state.path" in told


def test_no_file_has_that_name(tmp_path: Path) -> None:
    (tmp_path / "exporter.toml").write_text('[state]\npath = "a\\u0000b"\n')
    assert "state.path" in refused(tmp_path, "--config.file", "exporter.toml")


def test_no_directory_is_left(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    assert "state.path" in refused(tmp_path / "gone", under=("sh", "-c", 'rmdir "$PWD"; exec "$0" "$@"'))


@pytest.mark.parametrize("part", ["file", "directory", "hidden directory"])
def test_what_may_not_be_written(part: str, state: Path, left: Left, tmp_path: Path) -> None:
    place = state if part == "file" else tmp_path / "place"
    if place != state:
        place.mkdir()
        state = state.replace(place / NAME)
    place.chmod(0o000 if part == "hidden directory" else 0o500)
    try:
        if os.access(place, os.W_OK):
            pytest.skip("this user may write everything")
        told = refused(tmp_path, "--state.path", str(state))
    finally:
        place.chmod(0o700)
    assert str(state) in told
    assert re.search("cannot be used: Permission denied; .*choose another", told)
    assert state.read_bytes() == left.path.read_bytes()


@pytest.mark.parametrize(("blocks", "existing"), [(1, True), (1, False), (0, False)])
def test_a_full_disk_at_the_start(blocks: int, existing: bool, state: Path, left: Left, tmp_path: Path) -> None:  # noqa: FBT001
    path = state if existing else tmp_path / "new.db"
    under = ("sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"')
    told = refused(tmp_path, "--state.path", str(path), code=1, under=under)
    assert re.search(rf"{re.escape(str(path))} cannot be written: .+; see to the disk and start again\n", told)
    assert not existing or path.read_bytes() == left.path.read_bytes()
    assert not set_aside(path)


# --- one writer


def test_a_second_process_is_refused_however_it_spells_the_path_until_the_first_is_gone(
    run: Start, api_url: str, left: Left, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.db").symlink_to(NAME)
    first = run(api_url)
    for path in (f"sub/../{NAME}", "link.db"):
        told = refused(tmp_path, "--state.path", path, code=1)
        assert f"the state file {state} is in use by process {first.process.pid}; stop it, or choose another" in told
    seen = first.wait_for(grows(left.page))
    first.kill()

    second = run(api_url, "--state.path", "link.db")
    assert total(second.samples(), TOKENS) >= total(seen, TOKENS)
    second.wait_for(grows(seen))


def test_another_name_of_the_same_file_is_the_same_file(run: Start, api_url: str, state: Path, tmp_path: Path) -> None:
    (tmp_path / "other.db").hardlink_to(state)
    assert "other.db" in refused(tmp_path, "--state.path", "other.db")


def test_the_lock_overwrites_nothing(left: Left, state: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    Path(f"{state}.lock").symlink_to("precious")
    refused(tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"
    assert state.read_bytes() == left.path.read_bytes()


# --- what is broken


def set_aside(path: Path) -> list[Path]:
    """Return the files that were set aside, without their logs and their logs' indexes."""
    return [found for found in path.parent.glob(f"{path.name}.corrupt-*") if not found.name.endswith(("-wal", "-shm"))]


def shred(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))  # noqa: S311 - any bytes will do


def spoil_the_middle(path: Path) -> None:
    """Write over the end of one page and the begin of the next: within a page there may be nothing."""
    content = path.read_bytes()
    middle = len(content) // 2 // PAGE * PAGE
    path.write_bytes(content[: middle - 512] + bytes(range(256)) * 4 + content[middle + 512 :])


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


SPOILED = {
    "any bytes": shred,
    "a spoilt middle": spoil_the_middle,
    "half of it": halve,
    "no figures": sql("UPDATE register SET counts = 'abc'"),
    "a note too few": sql("DELETE FROM note WHERE key = 'ledger.usage'"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_corrupt_file_is_set_aside_and_the_counters_begin_anew(
    case: str, run: Start, api_url: str, state: Path, tmp_path: Path
) -> None:
    SPOILED[case](state)
    before = state.read_bytes()
    program = run(api_url)
    samples = program.wait_for(lambda samples: any(name == TOKENS for name, _ in samples))
    assert (value(samples, LOADED), total(samples, TOKENS)) == (0, 0)
    (aside,) = set_aside(state)
    assert re.fullmatch(rf"{NAME}\.corrupt-\d{{8}}T\d{{6}}Z", aside.name)
    told = f'level=error msg="the state file was corrupt; the counters begin anew" file={state} kept_as={aside}\n'
    assert told in program.log()
    assert aside.read_bytes() == before
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob(f"{NAME}*")} == {0o600}


def test_a_corrupt_file_takes_its_log_with_it(
    run: Start, mine: WrittenOrganization, api_url: str, tmp_path: Path
) -> None:
    path = leave(tmp_path / NAME, mine, crash=True).path
    spoil_the_middle(path)
    before = [Path(f"{path}{companion}").read_bytes() for companion in ("", "-wal")]
    run(api_url, "--state.path", str(path))
    (aside,) = set_aside(path)
    assert [Path(f"{aside}{companion}").read_bytes() for companion in ("", "-wal")] == before


def test_with_a_configured_anchor_what_a_corrupt_file_counted_is_counted_anew(
    run: Start, mine: WrittenOrganization, api_url: str, state: Path
) -> None:
    spoil_the_middle(state)
    program = run(api_url, "--usage.anchor", day(4))
    samples = program.wait_for(lambda samples: any(name == TOKENS for name, _ in samples))
    assert total(samples, TOKENS) == truth(mine, watermark(samples)) > OLD
    samples = program.wait_for(is_up)
    assert total(samples, "anthropic_cost_usd_total") == 5


def test_no_file_that_was_set_aside_before_is_overwritten(run: Start, api_url: str, state: Path) -> None:
    now = time.time()
    stamps = [f"{datetime.fromtimestamp(now + n, UTC):%Y%m%dT%H%M%SZ}" for n in range(60)]
    older = [Path(f"{state}.corrupt-{stamp}") for stamp in stamps]
    for path in older:
        path.write_text("an older one")
    shred(state)
    before = state.read_bytes()
    program = run(api_url)
    program.wait_for(grows(program.samples()))
    (aside,) = set(set_aside(state)) - {*older}
    assert (aside.name[-3:], aside.read_bytes()) == ("Z-2", before)
    assert {path.read_text() for path in older} == {"an older one"}


# --- what is new


def test_an_empty_file_is_a_new_one(run: Start, api_url: str, tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    program = run(api_url)
    assert f'level=info msg="new state" file={tmp_path / NAME}\n' in program.log()
    assert value(program.samples(), LOADED) == 0
    assert not list(tmp_path.glob("*.corrupt*"))


def test_an_empty_file_with_a_log_is_not_a_new_one(
    run: Start, mine: WrittenOrganization, api_url: str, tmp_path: Path
) -> None:
    path = leave(tmp_path / NAME, mine, crash=True).path
    os.truncate(path, 0)
    log = Path(f"{path}-wal").read_bytes()
    program = run(api_url, "--state.path", str(path))
    (aside,) = set_aside(path)
    assert [Path(f"{aside}{companion}").read_bytes() for companion in ("", "-wal")] == [b"", log]
    assert "the state file was corrupt" in program.log()


def test_a_new_file_is_for_its_owner_alone(run: Start, api_url: str, tmp_path: Path) -> None:
    run(api_url).wait_for(is_up)
    modes = {file.name.removeprefix(NAME): f"{file.stat().st_mode & 0o777:o}" for file in tmp_path.glob(f"{NAME}*")}
    assert modes == dict.fromkeys(["", "-wal", "-shm", ".lock", ".heartbeat"], "600")


def test_in_memory_is_warned_about_but_in_the_demo(run: Start, exporter_process: Start, tmp_path: Path) -> None:
    warning = "the counters are kept in memory only: a restart begins at 0"
    assert f'level=warning msg="{warning}"\n' in run(NOWHERE[1], "--state.path", ":memory:").log()
    demo = exporter_process("demo", env={"ANTHROPIC_ADMIN_API_KEY": None})
    assert value(demo.samples(), LOADED) == 0
    assert warning not in demo.log()
    assert list(tmp_path.iterdir()) == []


def test_the_demo_stays_away_from_the_real_state(exporter_process: Start, left: Left, state: Path) -> None:
    program = exporter_process("demo", env={"ANTHROPIC_EXPORTER_STATE_PATH": NAME})
    program.wait_for(is_up)
    assert state.read_bytes() == left.path.read_bytes()

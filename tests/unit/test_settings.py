import traceback
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import SettingsError
from exporter.settings import Settings, command, load, rows

CANARY = "sk-ant-admin01-canary"
KEY = {"ANTHROPIC_ADMIN_API_KEY": CANARY}
TODAY = date(2026, 11, 23)

SAMPLES = {
    "api.base_url": "https://proxy.example/anthropic",
    "api.timeout": 7.5,
    "api.poll_deadline": 90,
    "usage.poll_interval": 61,
    "usage.settle": 301,
    "usage.hold": 151,
    "usage.anchor": "2026-11-01",
    "usage.by_api_key": False,
    "usage.api_key_poll_interval": 301,
    "usage.workspace_ids": ["wrkspc_1", "wrkspc_2"],
    "usage.models": ["claude-a", "claude-b"],
    "usage.service_tiers": ["batch"],
    "cost.poll_interval": 3601,
    "names.poll_interval": 3602,
    "limits.poll_interval": 901,
    "prices.file": "prices.toml",
    "budget.monthly_usd": "1000.10",
    "budget.workspaces": {"wrkspc_1": "10.5", "wrkspc_2": "20"},
    "metrics.max_series": 100,
    "state.path": "/data/state.db",
    "web.listen_address": "[::1]:0",
    "web.telemetry_path": "/probe/metrics",
    "web.config_file": "web.yml",
    "demo.history": "past",
    "log.level": "debug",
    "log.format": "json",
}
"""A value other than the default for every setting but the file itself."""


def read(argv: Sequence[str] = (), env: Mapping[str, str] = KEY, **options: Any) -> Settings:
    return load(argv, env, today=TODAY, **options)


def refusal(argv: Sequence[str] = (), env: Mapping[str, str] = KEY, **options: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        read(argv, env, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return text


def as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}={amount}" for name, amount in value.items())
    return ",".join(value) if isinstance(value, list) else str(value)


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'{name} = "{amount}"' for name, amount in value.items()) + "}"
    return as_text(value) if isinstance(value, bool | int | float) else repr(value)


def config(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "exporter.toml"
    file.write_text(text)
    return ["--config.file", str(file)]


def test_the_samples_cover_every_setting() -> None:
    assert set(SAMPLES) == {row.name for row in rows()} - {"config.file"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_setting_is_the_same_by_flag_variable_and_file(name: str, tmp_path: Path) -> None:
    row = next(row for row in rows() if row.name == name)
    section, _, key = name.partition(".")
    text = as_text(SAMPLES[name])
    by_flag = read([row.flag, text])
    assert by_flag != read()
    assert by_flag == read([f"--{name}={text}"]) == read(env={**KEY, row.variable: text})
    by_file = read(config(tmp_path, f"[{section}]\n{key} = {as_toml(SAMPLES[name])}\n"))
    assert getattr(by_file, section) == getattr(by_flag, section)


@given(st.floats(min_value=60, max_value=86400))
def test_a_duration_survives_every_way_in(seconds: float) -> None:
    by_flag = read([f"--usage.poll-interval={seconds!r}"])
    by_variable = read(env={**KEY, "ANTHROPIC_EXPORTER_USAGE_POLL_INTERVAL": repr(seconds)})
    assert by_flag.usage.poll_interval == by_variable.usage.poll_interval == seconds


def test_a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_defaults(tmp_path: Path) -> None:
    name = "ANTHROPIC_EXPORTER_COST_POLL_INTERVAL"
    argv = config(tmp_path, "[cost]\npoll_interval = 300\n")
    defaults = {"cost": {"poll_interval": 200}}
    assert read().cost.poll_interval == 3600
    assert read(defaults=defaults).cost.poll_interval == 200
    assert read(argv, defaults=defaults).cost.poll_interval == 300
    assert read(argv, {**KEY, name: "400"}, defaults=defaults).cost.poll_interval == 400
    assert read([*argv, "--cost.poll-interval=500"], {**KEY, name: "400"}).cost.poll_interval == 500


def test_sources_add_up_inside_one_section(tmp_path: Path) -> None:
    argv = config(tmp_path, "[usage]\nsettle = 400\n")
    usage = read([*argv, "--usage.hold=200"], {**KEY, "ANTHROPIC_EXPORTER_USAGE_POLL_INTERVAL": "90"}).usage
    assert (usage.settle, usage.hold, usage.poll_interval) == (400, 200, 90)


def test_the_process_environment_is_not_read_when_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_EXPORTER_LOG_LEVEL", "debug")
    assert read().log.level == "info"


def test_the_config_file_may_be_named_by_its_variable(tmp_path: Path) -> None:
    file = config(tmp_path, "[log]\nlevel = 'error'\n")[1]
    assert read(env={**KEY, "ANTHROPIC_EXPORTER_CONFIG_FILE": file}).log.level == "error"


def test_an_empty_variable_counts_as_unset() -> None:
    empty = {"ANTHROPIC_EXPORTER_USAGE_ANCHOR": "", "ANTHROPIC_ADMIN_API_KEY_FILE": ""}
    assert read(env=KEY | empty) == read()


def test_kubernetes_service_variables_are_ignored() -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_10017_TCP_ADDR")
    assert read(env=KEY | {f"ANTHROPIC_EXPORTER_{name}": "x" for name in names}) == read()


def test_settings_do_not_change_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().usage.settle = 1


def test_amounts_are_exact() -> None:
    budget = read(["--budget.workspaces", "a=0.1, b=2", "--budget.monthly-usd", "0.30"]).budget
    assert (budget.workspaces, budget.monthly_usd) == ({"a": Decimal("0.1"), "b": Decimal(2)}, Decimal("0.30"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--usage.pol-interval", "30"], "unknown flag --usage.pol-interval; did you mean --usage.poll-interval?"),
        (["--usage.settl=9"], "unknown flag --usage.settl; did you mean --usage.settle?"),
        (["--usage.settle"], "--usage.settle: a value is missing; write --usage.settle=VALUE"),
        (["--api-key", "x"], "unknown flag --api-key; the key comes from the environment only"),
        (["300"], "unexpected argument '300'"),
        (["--usage.poll_interval", "-5"], "--usage.poll_interval is '-5': it must be greater than or equal to 1"),
        (["--usage.settle", "nan"], "--usage.settle is 'nan': it must be a finite number"),
        (["--usage.settle", "inf"], "--usage.settle is 'inf': it must be a finite number"),
        (["--usage.settle", "5m"], "--usage.settle is '5m': it must be a number"),
        (["--usage.by-api-key", "perhaps"], "--usage.by-api-key is 'perhaps': it must be true or false"),
        (["--usage.anchor", "2026-11-24"], "--usage.anchor is '2026-11-24': it must not be in the future"),
        (["--usage.anchor", "20261101"], "YYYY-MM-DD"),
        (["--usage.anchor", "2026-02-30"], "YYYY-MM-DD"),
        (["--usage.workspace-ids", "a,default"], "--usage.workspace-ids is 'a,default': the API cannot filter"),
        (["--budget.workspaces", "a"], "id=amount"),
        (["--budget.workspaces", "a=1,a=2"], "each id once"),
        (["--budget.monthly-usd", "-1"], "greater than or equal to 0"),
        (["--budget.monthly-usd", "NaN"], "finite number"),
        (["--log.level", "loud"], "--log.level is 'loud': it must be 'debug', 'info', 'warning' or 'error'"),
        (["--log.level", "a\nb"], r"--log.level is 'a\nb'"),
    ],
)
def test_a_bad_flag_is_named_with_its_value_and_the_remedy(argv: list[str], message: str) -> None:
    assert message in refusal(argv)


def test_a_bad_variable_is_named_as_the_operator_wrote_it() -> None:
    name = "ANTHROPIC_EXPORTER_USAGE_POLL_INTERVAL"
    assert refusal(env={**KEY, name: "0"}).startswith(f"{name} is '0': it must be")
    assert f"did you mean {name}?" in refusal(env={**KEY, "ANTHROPIC_EXPORTER_USAGE_POLLINTERVAL": "60"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[usage]\npoll_interval = 0\n", ": [usage] poll_interval is 0: it must be greater than or equal to 1"),
        ("[usage]\npol_interval = 90\n", ": unknown key [usage] pol_interval; did you mean [usage] poll_interval?"),
        ("[usge]\nsettle = 90\n", ": unknown section [usge]; did you mean [usage]?"),
        ("usage = 3\n", ": unknown key usage outside of a section; write it as [usage]"),
        ("poll_interval = 3\n", ": unknown key poll_interval outside of a section; did you mean ["),
        ("api_key = 'sk-ant-admin01-canary'\n", "the key comes from the environment only"),
        ("[config]\nfile = 'x'\n", ": unknown section [config]"),
        ("[usage]\nsettle = \n", "is not valid TOML: Invalid value (at line 2, column 10)"),
        ("[usage]\nsettle", "(at line 2, column 7)"),
        ("[usage]\nsettle = true\n", ": [usage] settle is true: it must be a number"),
        ("[usage]\nsettle = " + "[" * 5000, "is not valid TOML"),
        ("[usage]\nsettle = " + "1" * 5000, "is not valid TOML"),
        ("[usage]\nmodels = 3\n", ": [usage] models is 3: write it as a list"),
        ("[usage]\nanchor = 2026-11-01T00:00:00Z\n", "YYYY-MM-DD"),
    ],
)
def test_a_bad_file_is_named_with_the_place_in_it(text: str, message: str, tmp_path: Path) -> None:
    answer = refusal(config(tmp_path, text))
    assert message in answer
    assert answer.startswith(str(tmp_path / "exporter.toml"))


def test_toml_may_write_dates_arrays_and_tables(tmp_path: Path) -> None:
    text = "[usage]\nanchor = 2026-11-01\nmodels = ['a', 'b']\n[budget.workspaces]\nw = 10.5\n"
    settings = read(config(tmp_path, text))
    assert (settings.usage.anchor, settings.usage.models) == (date(2026, 11, 1), ("a", "b"))
    assert settings.budget.workspaces == {"w": Decimal("10.5")}


def test_a_config_file_that_is_missing_or_a_folder_or_not_text_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(["--config.file", str(tmp_path / "none")])
    assert "is not a file" in refusal(["--config.file", str(tmp_path)])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in refusal(["--config.file", str(tmp_path / "bytes")])
    assert "cannot be read (File name too long)" in refusal(["--config.file", "x" * 5000])


def test_of_several_errors_the_first_is_told_and_the_others_are_counted() -> None:
    answer = refusal(["--usage.settle", "0", "--usage.hold", "0", "--api.timeout", "0"])
    assert answer.startswith("--api.timeout is '0'")
    assert answer.endswith("(and 2 more)")


@pytest.mark.parametrize("setting", [row.flag for row in rows() if row.name.endswith("poll_interval")])
def test_polling_faster_than_the_api_allows_is_for_loopback_only(setting: str) -> None:
    assert f"{setting} is '59': it must be at least 60" in refusal([setting, "59"])
    for host in ("127.0.0.2:1", "[::1]:1", "localhost:1"):
        read([setting, "1", "--api.base-url", f"http://{host}"])


def test_the_key_comes_from_one_of_two_variables(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {CANARY}\n")
    by_file = read(env={"ANTHROPIC_ADMIN_API_KEY_FILE": str(file)})
    assert (by_file.api_key, by_file.api_key_file) == (None, file)
    by_value = read(env={"ANTHROPIC_ADMIN_API_KEY": f" {CANARY}\n"})
    assert by_value.api_key is not None
    assert by_value.api_key.get_secret_value() == CANARY
    assert CANARY not in repr(by_value)


def test_no_key_or_two_keys_are_refused_naming_both_variables(tmp_path: Path) -> None:
    for env in ({}, {**KEY, "ANTHROPIC_ADMIN_API_KEY_FILE": str(tmp_path)}):
        answer = refusal(env=env)
        assert "ANTHROPIC_ADMIN_API_KEY " in answer.replace(",", " ")
        assert "ANTHROPIC_ADMIN_API_KEY_FILE" in answer


@pytest.mark.parametrize("content", [b"", b" \n", b"a\nb\n", b"key word", "clé".encode(), b"\x00key", b"\xff"])
def test_a_file_or_variable_without_one_usable_line_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    assert f"ANTHROPIC_ADMIN_API_KEY_FILE is '{file}': it " in refusal(env={"ANTHROPIC_ADMIN_API_KEY_FILE": str(file)})
    if content:
        env = {"ANTHROPIC_ADMIN_API_KEY": content.decode("utf-8", "surrogateescape")}
        assert refusal(env=env).startswith("ANTHROPIC_ADMIN_API_KEY: it ")


def test_a_key_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        answer = refusal(env={"ANTHROPIC_ADMIN_API_KEY_FILE": str(path)})
        assert f"'{path}': it cannot be read" in answer


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    assert "[redacted]" in refusal([CANARY])
    assert "[redacted]" in refusal(["--state.path", "x", "--log.level", f"prefix{CANARY}"])
    other = {"ANTHROPIC_ADMIN_API_KEY": "a-key-of-another-form"}
    assert "another-form" not in refusal([f"--{other['ANTHROPIC_ADMIN_API_KEY']}"], other)


def test_a_command_without_need_of_a_key_neither_checks_nor_keeps_one() -> None:
    env = {**KEY, "ANTHROPIC_ADMIN_API_KEY_FILE": "/nowhere"}
    settings = read(env=env, needs_key=False)
    assert settings == read(env={}, needs_key=False)
    assert (settings.api_key, settings.api_key_file) == (None, None)


def test_the_command_may_stand_before_or_after_the_flags() -> None:
    flags = ["--state.path", "check"]
    assert command(["demo", "--state.path", "check"]) == ("demo", flags)
    assert command(["--state.path", "check", "demo"]) == ("demo", flags)
    assert command(["--state.path", "check"]) == (None, ["--state.path", "check"])


def test_every_row_has_a_description_and_names_of_one_pattern() -> None:
    for row in rows():
        assert row.description
        assert row.flag == "--" + row.name.replace("_", "-")
        assert row.variable == "ANTHROPIC_EXPORTER_" + row.name.replace(".", "_").upper()
    assert {row.default for row in rows()} >= {"60", "true", "", "./anthropic-exporter.db", "127.0.0.1:10017"}

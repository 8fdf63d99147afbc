"""Every setting that a file outside of the program names is one that the program knows."""

import re
import shlex
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter import settings
from exporter.settings.commands import OPTIONS
from exporter.settings.options import take
from exporter.settings.sources import KEY_FILE_VARIABLE, KEY_VARIABLE, PREFIX, parse_flags
from tests.tools import ROOT

PLACES = ("deploy", "Dockerfile", "README.md", ".github", "Makefile")
ROWS = settings.rows()
NAMES = {row.name for row in ROWS}
SECTIONS = {name.partition(".")[0] for name in NAMES}
VARIABLES = {row.variable for row in ROWS} | {KEY_VARIABLE, KEY_FILE_VARIABLE}

OTHERS_FLAGS = re.compile(r"--(alertmanager|cluster|query|storage)\..*|--web\.(enable-\w+|external-url)")
"""Flags of Prometheus, Alertmanager and Thanos; what they have in common with us is spelled as here."""
FILE_NAME = re.compile(r".*\.(yml|yaml|toml|json|db|crt|key)")


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError:
        return ""


def files() -> dict[str, str]:
    found = (
        file for place in PLACES for file in ((ROOT / place).rglob("*") if (ROOT / place).is_dir() else [ROOT / place])
    )
    return {str(file.relative_to(ROOT)): text for file in found if file.is_file() and (text := text_of(file))}


FILES = files()
TEXTS = pytest.mark.parametrize("text", FILES.values(), ids=FILES)


def unknown_flags(text: str) -> list[str]:
    flags = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z]+\.[a-z][a-z_.-]*[a-z]", text))
    return [flag for flag in flags if parse_flags(ROWS, [f"{flag}=x"])[1] and not OTHERS_FLAGS.fullmatch(flag)]


def unknown_variables(text: str) -> list[str]:
    named = dict.fromkeys(re.findall(r"\bANTHROPIC_(?:ADMIN|EXPORTER)_\w*", text))
    return [name for name in named if name not in VARIABLES | {PREFIX}]


def unknown_names(text: str) -> list[str]:
    quoted = dict.fromkeys(re.findall(rf"`((?:{'|'.join(SECTIONS)})\.\w+)`", text))
    return [name for name in quoted if name not in NAMES and not FILE_NAME.fullmatch(name)]


def unknown_keys(tables: Iterable[str]) -> list[str]:
    """Look into TOML; a price file, which has models, has keys of its own."""
    read = [table for text in tables if "model" not in (table := tomllib.loads(text))]
    return [
        f"{section}.{key}"
        for table in read
        for section, keys in table.items()
        for key in (keys if isinstance(keys, dict) else [""])
        if f"{section}.{key}" not in NAMES
    ]


@TEXTS
def test_every_flag_variable_and_name_is_known(text: str) -> None:
    assert unknown_flags(text) == []
    assert unknown_variables(text) == []
    assert unknown_names(text) == []


def test_every_key_in_toml_is_known() -> None:
    blocks = [
        block for text in FILES.values() for block in re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]
    assert unknown_keys([*blocks, *(text for name, text in FILES.items() if name.endswith(".toml"))]) == []


def test_what_is_misspelled_is_found() -> None:
    assert unknown_flags("x --usage.holt 3 --web.config.file=f --storage.tsdb.path=d --usage.poll-interval") == [
        "--usage.holt"
    ]
    assert unknown_variables("ANTHROPIC_EXPORTER_USAGE_HOLT, ANTHROPIC_EXPORTER_*, ANTHROPIC_ADMIN_API_KEY") == [
        "ANTHROPIC_EXPORTER_USAGE_HOLT"
    ]
    assert unknown_names("`usage.holt` of `usage.hold` in `web.yml`") == ["usage.holt"]
    assert unknown_keys(["[usage]\nholt = 1\nhold = 2\n", "[[model]]\nids = []\n"]) == ["usage.holt"]


def assigned(text: str) -> dict[str, str]:
    """Read an environment file, with what it holds as comments."""
    return dict(re.findall(r"^#?([A-Z]\w+)=(.*)$", text, re.MULTILINE))


def test_the_example_environment_is_accepted_and_changes_something() -> None:
    text = FILES["deploy/systemd/environment"]
    variables = assigned(text)
    today = datetime.now(UTC).date()
    loaded = settings.load([], variables, today=today, needs_key=False)
    assert loaded != settings.load([], {}, today=today, needs_key=False)
    assert loaded.budget.workspaces
    assert not {KEY_VARIABLE, KEY_FILE_VARIABLE} & variables.keys()


def test_what_the_unit_sets_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "admin-api-key").write_text("sk-ant-admin01-test\n")
    lines = re.findall(r"^#?Environment=(\w+)=(.*)$", FILES["deploy/systemd/anthropic-exporter.service"], re.MULTILINE)
    variables = {name: value.replace("%d", str(tmp_path)) for name, value in lines}
    loaded = settings.load([], variables, today=datetime.now(UTC).date())
    assert loaded.api_key_file == tmp_path / "admin-api-key"
    assert loaded.web.config_file == tmp_path / "web.yml"


def test_the_commands_of_the_readme_have_the_options_that_there_are() -> None:
    text = FILES["README.md"].replace("\\\n", " ")
    found = re.findall(r"anthropic-exporter (backfill|export|report)( [^`#|'\n]+)", text)
    assert {command for command, _ in found} == OPTIONS.keys()
    for command, words in found:
        _, left = take(shlex.split(words), OPTIONS[command])
        assert [word for word in left if word not in {"usage", "cost"}] == [], f"{command}{words}"

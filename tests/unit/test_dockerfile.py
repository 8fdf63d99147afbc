"""The Dockerfile as it is written; tests/integration/test_image.py builds the image and runs it."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter import settings
from exporter.settings.values import parse_listen_address
from tests.tools import ROOT, call, linter

TEXT = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.strip() for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines() if line
]


def given(name: str) -> list[str]:
    """Return the arguments of each instruction with this name."""
    return [line.partition(" ")[2] for line in INSTRUCTIONS if line.startswith(f"{name} ")]


def environment() -> dict[str, str]:
    return dict(re.findall(r"(ANTHROPIC_\w+)=(\S+)", " ".join(given("ENV"))))


def test_hadolint_has_nothing_to_say() -> None:
    done = call(linter("hadolint"), ROOT / "Dockerfile")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "hadolint" not in TEXT


def test_its_settings_are_known_and_differ_from_the_defaults_in_their_place_only() -> None:
    assert set(environment()) <= {row.variable for row in settings.rows()}
    today = datetime.now(UTC).date()
    ours = settings.load([], environment(), today=today, needs_key=False)
    default = settings.load([], {}, today=today, needs_key=False)

    (volume,) = given("VOLUME")
    assert ours.state.path == f"{volume}/{Path(default.state.path).name}"
    host, port = parse_listen_address(ours.web.listen_address)
    assert (host, port) == ("0.0.0.0", parse_listen_address(default.web.listen_address)[1])  # noqa: S104
    assert given("EXPOSE") == [str(port)]


def test_both_stages_have_the_same_base_and_it_can_be_given() -> None:
    arguments = dict(text.split("=") for text in given("ARG"))
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-[a-z]+", arguments["PYTHON_IMAGE"])
    assert given("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_a_build_is_given_no_secret_and_labels_have_what_it_is_given() -> None:
    names = {text.split("=")[0] for text in given("ARG")}
    assert names == {"PYTHON_IMAGE", "VERSION", "REVISION"}
    (labels,) = given("LABEL")
    assert all(f'="${{{name}}}"' in labels for name in names - {"PYTHON_IMAGE"})


def test_the_user_is_a_number_and_the_last_word() -> None:
    (user,) = given("USER")
    assert re.fullmatch(r"\d{5}:\d{5}", user)
    steps = [number for number, line in enumerate(INSTRUCTIONS) if line.startswith(("RUN ", "COPY "))]
    assert INSTRUCTIONS.index(f"USER {user}") > max(steps)


@pytest.mark.parametrize(
    "command", re.findall(r"pip (?:--python \S+ )?(?:install|wheel) [^&]+", " ".join(INSTRUCTIONS))
)
def test_what_is_installed_was_locked(command: str) -> None:
    assert {"--require-hashes", "--no-index", "--no-build-isolation"} & set(command.split()), command
    assert {"--require-hashes", "--no-deps"} & set(command.split()), command


def test_dependencies_are_a_layer_before_the_source() -> None:
    starts = ("COPY deploy/requirements.txt", "RUN python3 -m venv", "COPY exporter")
    order = [next(number for number, line in enumerate(INSTRUCTIONS) if line.startswith(start)) for start in starts]
    assert order == sorted(order)


@pytest.mark.parametrize("name", ["HEALTHCHECK", "ENTRYPOINT"])
def test_commands_need_no_shell(name: str) -> None:
    (command,) = given(name)
    assert re.search(r'(^|CMD )\["anthropic-exporter"(, "health")?\]$', command)

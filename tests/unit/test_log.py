import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import log

SECRET = 'sk-ant-"canary"\\key'
Format = Literal["logfmt", "json"]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root, quiet = logging.getLogger(), ("httpx", "httpcore", "apscheduler")
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    for name in quiet:
        logging.getLogger(name).setLevel(logging.NOTSET)


def written(format: Format, write: Callable[[logging.Logger], None], *, level: str = "info") -> str:  # noqa: A002
    stream = io.StringIO()
    log.configure(level, format, stream=stream, secrets=lambda: ["", SECRET])
    write(logging.getLogger("exporter.test"))
    return stream.getvalue()


def test_a_logfmt_record_has_time_level_text_and_fields() -> None:
    fields = {"report": "usage", "rows": 3, "took": 0.25, "ok": True, "note": "a b", "none": None}
    line = written("logfmt", lambda logger: logger.info("poll %s", "done", extra={"fields": fields}))
    pattern = r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info msg=\"poll done\" (.*)\n"
    match = re.fullmatch(pattern, line)
    assert match is not None
    assert match[1] == 'report=usage rows=3 took=0.25 ok=true note="a b" none=null'


def test_a_json_record_is_one_object() -> None:
    line = written("json", lambda logger: logger.warning("late", extra={"fields": {"tokens": 5, "msg": "x"}}))
    record = json.loads(line)
    assert record.pop("ts").endswith("Z")
    assert record == {"level": "warning", "msg": "late", "tokens": 5}


@pytest.mark.parametrize("value", ["", "a=b", 'say "x"', "back\\slash", "two\nlines", "tab\t", "\u2028"])
def test_a_logfmt_value_that_could_be_misread_is_quoted(value: str) -> None:
    line = written("logfmt", lambda logger: logger.info("x", extra={"fields": {"key": value}}))
    assert len(line.splitlines()) == 1
    assert json.loads(line.partition(" key=")[2]) == value


@given(st.text(), st.text(), st.sampled_from(["logfmt", "json"]))
def test_any_text_is_one_line(message: str, value: str, form: Format) -> None:
    line = written(form, lambda logger: logger.info(message, extra={"fields": {value: value}}))
    assert len(line.splitlines()) == 1
    line.encode()


def refuse() -> None:
    raise ValueError(f"bad\nanswer to {SECRET}")


def fail(logger: logging.Logger) -> None:
    try:
        refuse()
    except ValueError:
        logger.exception("poll failed with %s", SECRET, extra={"fields": {"key": SECRET, "keys": [SECRET]}})


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_an_exception_is_a_field_and_no_secret_is_written(form: Format) -> None:
    text = written(form, fail)
    assert text.count("\n") == 1
    assert "traceback" in text
    assert "ValueError" in text
    assert "canary" not in text
    assert text.count(log.REDACTED) >= 5


def test_a_record_with_the_wrong_arguments_is_still_written() -> None:
    line = written("logfmt", lambda logger: logger.info("%d polls", "many"))
    assert "polls" in line
    assert "many" in line


@pytest.mark.parametrize(("level", "scheduler"), [("debug", True), ("info", False)])
def test_libraries_are_quiet(level: str, *, scheduler: bool) -> None:
    written("logfmt", lambda _: None, level=level)
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpcore.connection").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("apscheduler.scheduler").isEnabledFor(logging.DEBUG) is scheduler


def test_libraries_do_not_speak_below_the_level_asked_for() -> None:
    written("logfmt", lambda _: None, level="error")
    assert not logging.getLogger("httpx").isEnabledFor(logging.WARNING)


def test_configuring_again_replaces_the_handler() -> None:
    first = io.StringIO()
    log.configure("info", "logfmt", stream=first)
    assert written("logfmt", lambda logger: logger.info("once")).count("\n") == 1
    assert first.getvalue() == ""


def test_records_below_the_level_are_not_written() -> None:
    assert written("json", lambda logger: logger.info("quiet"), level="warning") == ""

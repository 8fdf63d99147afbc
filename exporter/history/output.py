"""Where text is written to: a file that appears only when it is whole, or standard output."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from exporter.errors import SettingsError, StartError


@contextmanager
def whole(path: str) -> Iterator[TextIO]:
    """Open a file for UTF-8 text that gets its name when the block ends well; else nothing of it is left.

    Raises SettingsError if no file can be made there, and StartError if it cannot be finished.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{token_hex(4)}.partial")
    try:
        with _opened(path, target, partial) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        remedy = "make room there, or give a file elsewhere"
        raise StartError(f"{_shown(path)}: {error.strerror}; {remedy}") from None
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Give standard output, for UTF-8 text; who closes it early has seen enough. Raises StartError."""
    stream = sys.stdout
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8", newline="\n")
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        _discard(stream)
    except OSError as error:
        _discard(stream)
        raise StartError(f"standard output: {error.strerror}; send it where there is room") from None


def _opened(path: str, target: Path, partial: Path) -> TextIO:
    try:
        if target.is_dir():
            problem = "that is a folder; give a file"
        elif target.exists() and not target.is_file():
            problem = "that is no regular file; give one"
        else:
            return partial.open("x", encoding="utf-8", newline="")
    except OSError as error:
        problem = f"{error.strerror}; give a file in a folder that exists and that you may write to"
    raise SettingsError(f"{_shown(path)}: {problem}")


def _discard(stream: TextIO) -> None:
    """Let what could not be written go nowhere: Python would try again at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _shown(path: str) -> str:
    return repr(path[:100])

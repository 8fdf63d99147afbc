import os
from pathlib import Path

import httpx
import pytest

from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.errors import AuthError
from exporter.settings.values import key_file_problem

KEY = "sk-ant-admin01-first"
OTHER = "sk-ant-admin01-other"


def key_file(folder: Path, content: bytes | str = KEY + "\n") -> Path:
    path = folder / "key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def replaced_unnoticed(path: Path, content: str) -> None:
    """Write as many bytes into the same file and turn its time back: no stat can tell."""
    stat = path.stat()
    path.write_text(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_key_from_a_variable_is_given_as_it_is() -> None:
    credentials = Credentials(KEY, None)
    credentials.refused()
    assert credentials.key() == credentials.current == KEY


def test_a_key_file_is_read_without_the_space_around_the_key(tmp_path: Path) -> None:
    assert Credentials(None, key_file(tmp_path, f"\n  {KEY}\r\n\n")).key() == KEY


def test_a_changed_key_file_is_read_again(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    credentials = Credentials(None, path)
    assert credentials.key() == KEY
    path.write_text(OTHER + "-longer")
    assert credentials.key() == credentials.current == OTHER + "-longer"


def test_a_key_file_replaced_by_a_link_is_read_again(tmp_path: Path) -> None:
    """A mounted secret is rotated by moving a symbolic link; size and time may stay the same."""
    for name, text in (("one", KEY), ("two", OTHER)):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1_793_577_600, 1_793_577_600))
    link = tmp_path / "key"
    link.symlink_to("one")
    credentials = Credentials(None, link)
    assert credentials.key() == KEY
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert credentials.key() == OTHER


def test_an_unchanged_key_file_is_not_read_at_each_request(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    credentials = Credentials(None, path)
    replaced_unnoticed(path, OTHER + "\n")
    assert credentials.key() == KEY


def test_after_a_refusal_the_key_file_is_read_even_if_it_looks_unchanged(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    credentials = Credentials(None, path)
    replaced_unnoticed(path, OTHER + "\n")
    credentials.refused()
    assert credentials.key() == OTHER


def test_a_missing_key_file_leaves_the_last_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = key_file(tmp_path)
    credentials = Credentials(None, path)
    path.unlink()
    assert credentials.key() == KEY
    assert "keeping the last key" in caplog.text
    path.write_text(OTHER)
    assert credentials.key() == OTHER


BAD_CONTENT = [
    b"", b" \n", b"two words", b"two\nlines", b"sk-ant-\xc3\xa9", b"sk-ant-\xff", b"\xef\xbb\xbfsk-ant", b"sk\x00ant",
    b"sk\x7fant", b"sk\tant", "sk-ant\u2028x".encode(), b"sk\x1bant", "sk\u00a0ant".encode(),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD_CONTENT)
def test_a_file_without_a_key_leaves_the_last_key_and_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = key_file(tmp_path)
    credentials = Credentials(None, path)
    key_file(tmp_path, content)
    assert [credentials.key() for _ in range(3)] == [KEY] * 3
    assert [record.getMessage() for record in caplog.records] == ["key file does not hold a key, keeping the last one"]


@pytest.mark.parametrize("content", [*BAD_CONTENT, KEY.encode(), b" !~\n", b'"quoted"', b"\x1dsk-ant\x1e"])
def test_the_settings_and_the_credentials_agree_on_what_a_key_is(tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path, content)
    refused = bool(key_file_problem(path))
    assert (Credentials(None, path).key() == "") is refused


def test_a_401_makes_the_next_request_carry_the_rotated_key(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    seen: list[str] = []

    def api(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["x-api-key"])
        return httpx.Response(200 if seen[-1] == OTHER else 401, content=b"{}")

    credentials = Credentials(None, path)
    replaced_unnoticed(path, OTHER + "\n")
    client = Client("https://api.test", credentials, timeout=1, listener=Listener(), timing=Timing(),
                    transport=httpx.MockTransport(api))  # fmt: skip
    with pytest.raises(AuthError):
        client.get("usage", "/v1/usage")
    assert client.get("usage", "/v1/usage") == b"{}"
    assert seen == [KEY, OTHER]

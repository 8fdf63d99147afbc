import pytest

from exporter.settings.values import base_url, is_loopback, one_line, parse_listen_address, shown, telemetry_path


@pytest.mark.parametrize(
    "url",
    [
        "http://api.anthropic.com",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://localhost",
        "api.anthropic.com",
        "https://",
        "https://[::1",
        "https://host:99999",
        "https://a b",
        "https://host\n",
        "https://user:word@host",
        "https://@host",
        "https://host/?a=1",
        "https://host/#",
    ],
)
def test_the_key_goes_to_plain_https_addresses_or_loopback_only(url: str) -> None:
    with pytest.raises(ValueError, match=r"write it as|remove|use https"):
        base_url(url)


@pytest.mark.parametrize(
    "url",
    ["https://api.example", "https://proxy.example:8443/a", "http://127.1.2.3", "http://[::1]:9", "http://localhost"],
)
def test_a_good_base_url_passes_without_its_trailing_slash(url: str) -> None:
    assert base_url(f"{url}/") == base_url(url) == url
    assert is_loopback(url) is url.startswith("http:")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:10017", ("127.0.0.1", 10017)),
        ("[::1]:9", ("::1", 9)),
        (":0", ("", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_a_listen_address_is_split(text: str, parsed: tuple[str, int]) -> None:
    assert parse_listen_address(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "::1:9", "[1.2.3.4]:9", "[]:9", "a:65536", "a b:1", "a:1\n", "a:-1", "a:\u0663"]
)
def test_a_bad_listen_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|IPv6"):
        parse_listen_address(text)


@pytest.mark.parametrize("text", ["metrics", "/", "", "/-/healthy", "/-/ready", "/a b", "/a?b", "//", "/a/", "/a\n"])
def test_a_bad_telemetry_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"/path|health checks"):
        telemetry_path(text)


def test_the_userinfo_of_a_url_is_not_shown() -> None:
    assert shown("https://user:p@ss/w@host/a") == "'[redacted]@host/a'"


@pytest.mark.parametrize("secret", ["sk-ant-admin01-canary", "form'\"of\\another"])
def test_an_error_is_one_line_without_the_secret(secret: str) -> None:
    line = one_line(f"bad\n\tvalue {secret} or {secret!r}\x1b", f" {secret}\n")
    assert line == "bad value [redacted] or '[redacted]'"


def test_what_looks_like_a_key_is_not_shown_even_if_it_is_not_ours() -> None:
    assert one_line("bad 'sk-ant-other'", "") == "bad '[redacted]'"

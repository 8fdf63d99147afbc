"""The real program behind TLS, client certificates and passwords, as its users and a real Prometheus see it."""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import bcrypt
import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.certificates import Authority
from tests.integration.conftest import ExporterProcess, PrometheusServer, until
from tests.world import KEY

pytestmark = pytest.mark.process

PATHS = {"/metrics": 200, "/": 200, "/-/healthy": 200, "/-/ready": 200, "/nowhere": 404}
WORD = "grüße: canary of the web config"
PAIR = "cert_file: cert.pem, key_file: key.pem"
MUTUAL = f"tls_server_config: {{{PAIR}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert}}\n"
REFUSED = (httpx.TransportError, ssl.SSLError)

Run = Callable[..., ExporterProcess]


def users(**words: str) -> str:
    lines = (
        f"  {name}: '{bcrypt.hashpw(word.encode(), bcrypt.gensalt(5)).decode()}'\n" for name, word in words.items()
    )
    return "basic_auth_users:\n" + "".join(lines)


BOTH = f"tls_server_config: {{{PAIR}}}\n" + users(prometheus=WORD)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the authority of the certificate in ``tmp_path``."""
    authority = Authority()
    authority.write(tmp_path)
    return authority


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


@pytest.fixture
def run(exporter_process: Run, config: Path) -> Iterator[Run]:
    """Write the web config and start the program with it."""
    organization = SimulatedOrganization(
        seed=7, started=int(time.time()) - 3 * DAY, arrival=Arrival(median=0, late_share=0), bill_delay=0
    )
    with serve(AdminApi(organization, key=KEY, clock=time.time)) as api:

        def start(text: str, **options: bool) -> ExporterProcess:
            config.write_text(text)
            flags = ("--api.base-url", api.url, "--web.config.file", config.name)
            return exporter_process(*flags, env={"ANTHROPIC_ADMIN_API_KEY": KEY}, **options)

        yield start


def get(
    program: ExporterProcess,
    client: ssl.SSLContext | None,
    path: str = "/metrics",
    word: str | None = None,
    user: str = "prometheus",
) -> httpx.Response:
    url = program.url.removesuffix("/metrics") + path
    auth = None if word is None else (user, word)
    with httpx.Client(trust_env=False, verify=client or False) as http:
        return http.get(url, auth=auth)


def serial(program: ExporterProcess, client: ssl.SSLContext) -> str:
    """Return the serial number of the certificate that a new connection gets."""
    with httpx.Client(trust_env=False, verify=client) as http, http.stream("GET", program.url) as answer:
        certificate = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
        return str(certificate["serialNumber"])


def logged(program: ExporterProcess, text: str) -> int:
    """Wait until the program has logged the text; return how often."""
    return program.up(lambda: program.log().count(text) or None)


def test_every_path_asks_for_the_password_over_tls(run: Run, authority: Authority) -> None:
    program, client = run(BOTH), authority.client()
    assert program.url.startswith("https://127.0.0.1:")
    for path, status in PATHS.items():
        for refused in (get(program, client, path), get(program, client, path, "wrong")):
            assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Basic ")
            assert b"anthropic_" not in refused.content
        assert get(program, client, path, WORD).status_code == status
    assert get(program, client, word=WORD, user="nobody").status_code == 401
    assert "anthropic_exporter_build_info" in get(program, client, word=WORD).text
    with pytest.raises(httpx.TransportError):
        httpx.get(program.url.replace("https", "http"), trust_env=False)
    assert WORD not in program.log()
    assert "$2b$" not in program.log()


def test_headers_are_on_every_answer(run: Run) -> None:
    program = run(f"http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n{users(prometheus=WORD)}")
    for path, status in PATHS.items():
        for word, expected in ((WORD, status), ("wrong", 401)):
            answer = get(program, None, path, word)
            assert (answer.status_code, answer.headers["x-frame-options"]) == (expected, "deny")


def test_a_content_security_policy_of_ones_own_goes_before_the_page_s(run: Run) -> None:
    headers = "{X-Frame-Options: deny, Content-Security-Policy: \"frame-ancestors 'none'\"}"
    program = run(f"http_server_config: {{headers: {headers}}}")
    with httpx.Client(trust_env=False) as client:
        page = client.get(program.url.removesuffix("/metrics") + "/")
    assert page.headers.get_list("content-security-policy") == ["frame-ancestors 'none'"]


def test_a_client_needs_a_certificate(run: Run, authority: Authority) -> None:
    program = run(MUTUAL)
    for stranger in (authority.client(), authority.client(Authority())):
        with pytest.raises(REFUSED):
            get(program, stranger)
    assert get(program, authority.client(authority)).status_code == 200


def test_a_clients_name_must_be_on_the_list(run: Run, authority: Authority) -> None:
    program = run(MUTUAL.replace("}", ", client_allowed_sans: [prometheus.example]}"))
    for path, status in PATHS.items():
        assert get(program, authority.client(authority, ["prometheus.example"]), path).status_code == status
        assert get(program, authority.client(authority, ["grafana.example"]), path).status_code == 403


def test_a_certificate_is_replaced_while_it_runs(run: Run, authority: Authority, tmp_path: Path) -> None:
    program, client = run(f"tls_server_config: {{{PAIR}}}"), authority.client()
    old = serial(program, client)
    with httpx.Client(trust_env=False, verify=client) as kept:
        assert kept.get(program.url).status_code == 200
        cert, key = authority.pair()
        (tmp_path / "cert.pem").write_text(cert)
        assert serial(program, client) == old
        (tmp_path / "key.pem").write_text(key)
        assert serial(program, client) != old
        assert kept.get(program.url).status_code == 200
    assert logged(program, "it is not the key of the certificate") == 1


def test_users_change_while_it_runs(run: Run, config: Path, authority: Authority) -> None:
    program, client = run(BOTH), authority.client()
    with httpx.Client(trust_env=False, verify=client, auth=("prometheus", WORD)) as kept:
        assert kept.get(program.url).status_code == 200
        config.write_text(BOTH.partition("basic")[0] + users(grafana="another"))
        assert kept.get(program.url).status_code == 401
    assert get(program, client, word=WORD).status_code == 401
    assert get(program, client, word="another", user="grafana").status_code == 200


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tls_server_confi: {}", "tls_server_confi: there is no such key; the nearest one is tls_server_config"),
        (f"basic_auth_users: {{a: {WORD!r}}}", "basic_auth_users.a: it is not a bcrypt hash"),
        ("tls_server_config: {cert_file: cert.pem}", "tls_server_config.key_file: it is missing"),
    ],
)
def test_a_broken_file_at_the_start_is_one_line(run: Run, authority: Authority, text: str, line: str) -> None:
    program = run(text, wait=False)
    assert program.process.wait(20) == 2
    program.terminate()
    (told,) = program.log().splitlines()
    assert f"web.yml: {line}" in told
    assert WORD not in told


@pytest.mark.parametrize("text", ["", "[", "basic_auth_users: {}", "tls_server_config: {cert_file: cert.pem}", None])
def test_a_broken_file_later_changes_nothing(run: Run, config: Path, authority: Authority, text: str | None) -> None:
    program, client = run(BOTH), authority.client()
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    for _ in range(3):
        assert get(program, client).status_code == 401
        assert get(program, client, word=WORD).status_code == 200
    assert logged(program, "the web config cannot be used") == 1
    config.write_text(BOTH + users(grafana="another").partition("\n")[2])
    assert get(program, client, word="another", user="grafana").status_code == 200
    assert logged(program, "the web config was read again") == 1


@pytest.mark.prometheus
def test_prometheus_scrapes_with_its_certificate_and_password(
    run: Run, authority: Authority, tmp_path: Path, prometheus: Callable[..., PrometheusServer]
) -> None:
    program = run(MUTUAL + users(prometheus=WORD))
    cert, key = authority.pair("prometheus.example")
    for name, text in (("client.pem", cert), ("client-key.pem", key), ("word", WORD)):
        (tmp_path / name).write_text(text)
    files = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client-key.pem"}
    tls = {name: str(tmp_path / file) for name, file in files.items()}
    login = {"username": "prometheus", "password_file": str(tmp_path / "word")}
    with prometheus({"real": program.url}, scrape={"tls_config": tls, "basic_auth": login}) as server:
        server.wait_for("min_over_time(up[1m]) == 1 and count_over_time(up[1m]) >= 3", lambda found: len(found) == 1)
        assert len(server.query("anthropic_exporter_build_info")) == 1


@pytest.mark.prometheus
@pytest.mark.parametrize(("without", "reason"), [("tls_config", "x509"), ("basic_auth", "401")])
def test_prometheus_is_refused_without_either(
    run: Run,
    authority: Authority,
    tmp_path: Path,
    prometheus: Callable[..., PrometheusServer],
    without: str,
    reason: str,
) -> None:
    program = run(BOTH)
    scrape: Mapping[str, Mapping[str, str]] = {
        "tls_config": {"ca_file": str(tmp_path / "ca.pem")},
        "basic_auth": {"username": "prometheus", "password": WORD},
    }
    rest = {name: settings for name, settings in scrape.items() if name != without}
    with prometheus({"real": program.url}, scrape=rest) as server:
        server.wait_for("up == 0", lambda found: len(found) == 1)

        def told() -> str | None:
            error = str(server.targets()[0]["lastError"])
            return error if reason in error else None

        until(told, 10, lambda: str(server.targets()))

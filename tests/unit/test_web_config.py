"""The web config file: what it may say, who is let in, and how it is read again."""

import base64
import logging
import os
import re
import shutil
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from textwrap import indent
from typing import Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exporter.errors import SettingsError
from exporter.web.config import Door, Policy
from exporter.web.users import Passwords
from tests.certificates import Authority, encrypted, shake

CANARY = "CanaryOfTheWebConfig"
TAIL = "O" * 33 + CANARY
HASH = f"$2y$10${TAIL}"
"""Looks like a hash; no password has it."""

QUICK = bcrypt.gensalt(4)
NICENESS = os.getpriority(os.PRIO_PROCESS, 0)
PAIR = "cert_file: cert.pem, key_file: key.pem"
SECURE = f"tls_server_config: {{{PAIR}}}\n"
MUTUAL = "client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
AUTHORITY, STRANGER = Authority(), Authority()

CERT_MISSING = "tls_server_config.cert_file: it is missing; name the file, or put its PEM text under cert"
KEY_MISSING = "tls_server_config.key_file: it is missing; name the file, or put its PEM text under key"
NO_CERT = "it is not a certificate in PEM; give one that begins with -----BEGIN CERTIFICATE-----"
NO_KEY = "it is not a private key in PEM; give one that begins with -----BEGIN PRIVATE KEY-----"
NO_NAME = "that is no file name; PEM text goes under the key of the same name without _file"
NO_HASH = "it is not a bcrypt hash; make one with htpasswd -nBC 10 NAME, and put it in quotes"
NO_YAML = "it is not YAML; look at indentation and quotes"
NO_SECTION = "it must hold keys of its own; indent them below it"
NO_TEXT = "it must be text; put it in quotes"
NO_BOOLEAN = "it must be true or false"
NO_HEADER = "a header must be one line of printable ASCII; remove everything else"
NO_USER = "no client can send a name with a colon or a control character; take another"
NO_CIPHER = "there is no such cipher suite in Go's list; the nearest one is"
NO_CERT_ASKED = "no client is asked for a certificate; set client_auth_type to RequireAndVerifyClientCert, or remove it"
MAYBE_NO_CERT = (
    "a client may come without a certificate; set client_auth_type to RequireAndVerifyClientCert, or remove it"
)
UNVERIFIED = (
    "tls_server_config.client_auth_type: {} is not possible, Python's ssl cannot take certificates that it does "
    "not verify; use RequireAndVerifyClientCert"
)
BELOW = "tls_server_config.max_version: it is below min_version (TLS12 where that is not set); swap them or remove one"

REFUSED: dict[str, str] = {
    # YAML and its shape
    f"basic_auth_users: {{a: {CANARY}": f"line 1: {NO_YAML}",
    f"a: b\nb: *{CANARY}": f"line 2: {NO_YAML}",
    f"a: !{CANARY} b": f"line 1: {NO_YAML}",
    "a: !!int ''": NO_YAML,
    "a: !!timestamp x": NO_YAML,
    "a: 2026-13-45": NO_YAML,
    "[" * 5000: NO_YAML,
    "a\0": NO_YAML,
    "{}\n---\n{}": f"line 2: {NO_YAML}",
    f"- {CANARY}": "it must hold keys; the known ones are tls_server_config, http_server_config, basic_auth_users",
    CANARY: "it must hold keys; the known ones are tls_server_config, http_server_config, basic_auth_users",
    "tls_server_config: {cert: a, key: b, cert: c}": "line 1: cert is there twice; remove one of them",
    "http_server_config:\n\nhttp_server_config:": "line 3: http_server_config is there twice; remove one of them",
    f"basic_auth_users:\n  a: '{HASH}'\n  a: '{HASH}'": "line 3: a is there twice; remove one of them",
    f"{{'{HASH}': 1, '{HASH}': 2}}": "line 1: a key that is not shown is there twice; remove one of them",
    # keys
    "tls_config: {}": "tls_config: there is no such key; the nearest one is tls_server_config",
    "tls_server_config: {cert_fil: }": "tls_server_config.cert_fil: there is no such key; the nearest one is cert_file",
    "http_server_config: {http_2: true}": "http_server_config.http_2: there is no such key; the nearest one is http2",
    "http_server_config: {headers: {x-frame-options: deny}}": (
        "http_server_config.headers.x-frame-options: there is no such key; the nearest one is X-Frame-Options"
    ),
    "http_server_config: {headers: {frame_options: deny}}": (
        "http_server_config.headers.frame_options: there is no such key; the nearest one is X-Frame-Options"
    ),
    f"'{HASH}': alice": "a key that is not shown: there is no such key; the nearest one is http_server_config",
    "a: 1\nb: 2": "a: there is no such key; the nearest one is basic_auth_users (and 1 more)",
    "rate_limit: {interval: 1s, burst: 5}": (
        "rate_limit: requests are not limited by this program; remove it, and limit them in a proxy"
    ),
    # types
    "tls_server_config: 3": f"tls_server_config: {NO_SECTION}",
    f"http_server_config: {CANARY}": f"http_server_config: {NO_SECTION}",
    "http_server_config: {headers: [a]}": f"http_server_config.headers: {NO_SECTION}",
    "basic_auth_users: [a]": (
        "basic_auth_users: it must be a list of names, each with a hash behind it; indent them below it"
    ),
    "tls_server_config: {1: 2}": "tls_server_config.1: its keys must be text; put them in quotes",
    f"basic_auth_users: {{1: '{HASH}'}}": f"basic_auth_users.1: {NO_TEXT}",
    "tls_server_config: {cert_file: [a]}": f"tls_server_config.cert_file: {NO_TEXT}",
    "tls_server_config: {key: 5}": f"tls_server_config.key: {NO_TEXT}",
    "tls_server_config: {cipher_suites: a}": (
        "tls_server_config.cipher_suites: it must be a list; put a dash before each entry"
    ),
    "tls_server_config: {client_allowed_sans: [1]}": f"tls_server_config.client_allowed_sans.0: {NO_TEXT}",
    "tls_server_config: {prefer_server_cipher_suites: 1}": (
        f"tls_server_config.prefer_server_cipher_suites: {NO_BOOLEAN}"
    ),
    "http_server_config: {http2: 'true'}": f"http_server_config.http2: {NO_BOOLEAN}",
    # choices
    "tls_server_config: {min_version: TLS14}": (
        "tls_server_config.min_version: it must be 'TLS10', 'TLS11', 'TLS12' or 'TLS13'"
    ),
    "tls_server_config: {max_version: tls12}": (
        "tls_server_config.max_version: it must be 'TLS10', 'TLS11', 'TLS12' or 'TLS13'"
    ),
    "tls_server_config: {client_auth_type: Require}": (
        "tls_server_config.client_auth_type: it must be 'NoClientCert', 'RequestClientCert', 'RequireAnyClientCert', "
        "'RequireClientCert', 'VerifyClientCertIfGiven' or 'RequireAndVerifyClientCert'"
    ),
    "tls_server_config: {cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA]}": (
        f"tls_server_config.cipher_suites.1: {NO_CIPHER} TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    ),
    "tls_server_config: {cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}": (
        f"tls_server_config.cipher_suites.0: {NO_CIPHER} TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
    ),
    "tls_server_config: {curve_preferences: [P256]}": (
        "tls_server_config.curve_preferences.0: it must be 'CurveP256', 'CurveP384', 'CurveP521' or 'X25519'"
    ),
    "http_server_config: {headers: {X-Frame-Options: DENY}}": (
        "http_server_config.headers.X-Frame-Options: it must be 'deny' or 'sameorigin'"
    ),
    "http_server_config: {headers: {X-Content-Type-Options: sniff}}": (
        "http_server_config.headers.X-Content-Type-Options: it must be 'nosniff'"
    ),
    'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nSet-Cookie: b"}}': (
        f"http_server_config.headers.Content-Security-Policy: {NO_HEADER}"
    ),
    'http_server_config: {headers: {X-XSS-Protection: "1\\n"}}': (
        f"http_server_config.headers.X-XSS-Protection: {NO_HEADER}"
    ),
    "http_server_config: {headers: {Strict-Transport-Security: Ähre}}": (
        f"http_server_config.headers.Strict-Transport-Security: {NO_HEADER}"
    ),
    # users
    f"basic_auth_users: {{alice: {CANARY}}}": f"basic_auth_users.alice: {NO_HASH}",
    "basic_auth_users: {alice: }": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '{HASH}x'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '{HASH}\n\n'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '$2x$10${TAIL}'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '$2y$03${TAIL}'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '$2y$32${TAIL}'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{alice: '$2y$10${'/' * 22 + TAIL[22:]}'}}": f"basic_auth_users.alice: {NO_HASH}",
    f"basic_auth_users: {{'a:b': '{HASH}'}}": f"basic_auth_users.a key that is not shown: {NO_USER}",
    f"basic_auth_users: {{\"a\\tb\": '{HASH}'}}": f"basic_auth_users.a key that is not shown: {NO_USER}",
    f"basic_auth_users: {{'{HASH}': alice}}": f"basic_auth_users.a key that is not shown: {NO_HASH}",
    # certificates
    "tls_server_config: {cert_file: cert.pem}": KEY_MISSING,
    "tls_server_config: {key_file: key.pem}": CERT_MISSING,
    f"tls_server_config: {{key: {CANARY}}}": CERT_MISSING,
    "tls_server_config: {min_version: TLS13}": CERT_MISSING,
    "tls_server_config: {client_auth_type: NoClientCert}": CERT_MISSING,
    f"tls_server_config: {{{PAIR}, cert: {CANARY}}}": (
        "tls_server_config.cert: cert_file is there, too; remove one of the two"
    ),
    f"tls_server_config: {{{PAIR}, key: {CANARY}}}": (
        "tls_server_config.key: key_file is there, too; remove one of the two"
    ),
    f"tls_server_config: {{{PAIR}, {MUTUAL}, client_ca: {CANARY}}}": (
        "tls_server_config.client_ca: client_ca_file is there, too; remove one of the two"
    ),
    f"tls_server_config: {{cert_file: cert.pem, key_file: '-----BEGIN {CANARY}'}}": (
        f"tls_server_config.key_file: {NO_NAME}"
    ),
    f'tls_server_config: {{cert_file: cert.pem, key_file: "{CANARY}\\n"}}': f"tls_server_config.key_file: {NO_NAME}",
    "tls_server_config: {cert_file: none.pem, key_file: key.pem}": (
        "tls_server_config.cert_file: '{}/none.pem': it cannot be read (No such file or directory); give a file that "
        "the exporter's user may read"
    ),
    "tls_server_config: {cert_file: cert.pem, key_file: .}": (
        "tls_server_config.key_file: '{}': that is not a file; name one"
    ),
    "tls_server_config: {cert_file: cert.pem, key_file: pipe}": (
        "tls_server_config.key_file: '{}/pipe': that is not a file; name one"
    ),
    "tls_server_config: {cert_file: large, key_file: key.pem}": (
        "tls_server_config.cert_file: '{}/large': it is larger than 1 MiB; name another file"
    ),
    "tls_server_config: {cert_file: rubbish, key_file: key.pem}": f"tls_server_config.cert_file: {NO_CERT}",
    "tls_server_config: {cert_file: key.pem, key_file: key.pem}": f"tls_server_config.cert_file: {NO_CERT}",
    "tls_server_config: {cert_file: cert.pem, key_file: rubbish}": f"tls_server_config.key_file: {NO_KEY}",
    "tls_server_config: {cert_file: cert.pem, key_file: cert.pem}": f"tls_server_config.key_file: {NO_KEY}",
    f"tls_server_config: {{cert: {CANARY}, key_file: key.pem}}": f"tls_server_config.cert: {NO_CERT}",
    f"tls_server_config: {{cert_file: cert.pem, key: {CANARY}}}": f"tls_server_config.key: {NO_KEY}",
    "tls_server_config: {cert_file: cert.pem, key_file: other-key.pem}": (
        "tls_server_config.key_file: it is not the key of the certificate; give the two that belong together"
    ),
    "tls_server_config: {cert_file: cert.pem, key_file: weak-key.pem}": (
        "tls_server_config.key_file: it is not the key of the certificate; give the two that belong together"
    ),
    "tls_server_config: {cert_file: cert.pem, key_file: encrypted.pem}": (
        "tls_server_config.key_file: it is encrypted, and nobody is there to type the password; decrypt it with "
        "openssl pkey"
    ),
    "tls_server_config: {cert_file: weak.pem, key_file: weak-key.pem}": (
        "tls_server_config.cert_file: OpenSSL finds it too weak (EE_KEY_TOO_SMALL); use a longer key and SHA-256"
    ),
    # clients
    f"tls_server_config: {{{PAIR}, client_ca_file: ca.pem}}": f"tls_server_config.client_ca_file: {NO_CERT_ASKED}",
    f"tls_server_config: {{{PAIR}, client_ca: {CANARY}, client_auth_type: NoClientCert}}": (
        f"tls_server_config.client_ca: {NO_CERT_ASKED}"
    ),
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}": UNVERIFIED.format("RequireAnyClientCert"),
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireClientCert}}": UNVERIFIED.format("RequireClientCert"),
    f"tls_server_config: {{{PAIR}, client_ca_file: rubbish, client_auth_type: RequireAndVerifyClientCert}}": (
        f"tls_server_config.client_ca_file: {NO_CERT}"
    ),
    f"tls_server_config: {{{PAIR}, client_ca: {CANARY}, client_auth_type: RequestClientCert}}": (
        f"tls_server_config.client_ca: {NO_CERT}"
    ),
    f"tls_server_config: {{{PAIR}, client_allowed_sans: [a]}}": (
        f"tls_server_config.client_allowed_sans: {MAYBE_NO_CERT}"
    ),
    f"tls_server_config: {{{PAIR}, client_allowed_sans: [a], client_auth_type: VerifyClientCertIfGiven}}": (
        f"tls_server_config.client_allowed_sans: {MAYBE_NO_CERT}"
    ),
    f"tls_server_config: {{{PAIR}, {MUTUAL}, client_allowed_sans: []}}": (
        "tls_server_config.client_allowed_sans: the list is empty, nobody could come in; name somebody, or remove it"
    ),
    # what does not go together
    f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}": BELOW,
    f"tls_server_config: {{{PAIR}, max_version: TLS11}}": BELOW,
    f"tls_server_config: {{{PAIR}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}}": (
        "tls_server_config.cipher_suites: all of them are of TLS 1.3, which max_version rules out; name others, or "
        "raise it"
    ),
    f"tls_server_config: {{{PAIR}, curve_preferences: [X25519, CurveP256]}}": (
        "tls_server_config.curve_preferences: Python's ssl can set one curve only; name one, or none for OpenSSL's "
        "choice"
    ),
}
"""The file, and the one line that is said about it; {} stands for its folder."""


class Checker:
    """Stands in for bcrypt: counts, waits while it is told to, and knows one password."""

    def __init__(self, right: bytes = b"right") -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.threads: set[int] = set()
        self.niceness: set[int] = set()
        self.open, self.begun = threading.Event(), threading.Event()
        self.open.set()
        self._right = right

    def __call__(self, password: bytes, expected: bytes) -> bool:
        self.calls.append((password, expected))
        self.threads.add(threading.get_ident())
        self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.begun.set()
        assert self.open.wait(10)
        return password == self._right


class House:
    """A folder with a web config and certificates, and what its door has told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "web.yml"
        self.heard: list[bool] = []
        AUTHORITY.write(folder)

    def door(self, text: str, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> Door:
        self.file.write_text(text)
        door = Door(self.file, check=check)
        door.tell(self.heard.append)
        return door

    def policy(self, text: str) -> Policy:
        return self.door(text).look()

    def replace(self, name: str, text: str) -> None:
        """Write the file as careful programs do: beside it, then over it."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House(tmp_path_factory.mktemp("refused"))
    cert, key = AUTHORITY.pair()
    weak, weak_key = weak_pair()
    contents = {
        "other.pem": cert,
        "other-key.pem": key,
        "encrypted.pem": encrypted((house.folder / "key.pem").read_text()),
    }
    contents |= {"weak.pem": weak, "weak-key.pem": weak_key, "large": "x" * (1024 * 1024 + 1)}
    contents |= {"rubbish": f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n"}
    for name, text in contents.items():
        (house.folder / name).write_text(text)
    os.mkfifo(house.folder / "pipe")
    return house


def weak_pair() -> tuple[str, str]:
    """Return a certificate whose key is shorter than OpenSSL's usual least, and the key."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is what is tried
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    moment = x509.load_pem_x509_certificate(AUTHORITY.pem.encode())
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(moment.not_valid_before_utc).not_valid_after(moment.not_valid_after_utc)
    cert = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return cert.public_bytes(Encoding.PEM).decode(), private.decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def users(**passwords: str) -> str:
    lines = (f"  {name}: '{bcrypt.hashpw(word.encode(), QUICK).decode()}'\n" for name, word in passwords.items())
    return "basic_auth_users:\n" + "".join(lines)


def settled(verdict: bool | Future[bool]) -> bool:  # noqa: FBT001
    return verdict.result(10) if isinstance(verdict, Future) else verdict


# ---- what is refused


@pytest.mark.parametrize(("text", "line"), REFUSED.items())
def test_what_cannot_be_used_is_refused_in_one_line(refusing: House, text: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        refusing.door(text)
    told = str(caught.value)
    assert told == f"{refusing.file}: {line.format(refusing.folder)}"
    assert "\n" not in told
    assert CANARY not in told
    assert refusing.heard == []


def test_a_file_that_is_not_there_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Door(tmp_path / "line\nbreak.yml")
    remedy = "it cannot be read (No such file or directory); give a file that the exporter's user may read"
    assert str(caught.value) == f"{tmp_path}/line\\nbreak.yml: {remedy}"


# ---- what is accepted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
        "tls_server_config: {cert_file: '', key: '', client_auth_type: '', min_version: , cipher_suites: }",
        "http_server_config: {http2: , headers: {X-Frame-Options: '', Content-Security-Policy: , X-XSS-Protection: }}",
        "http_server_config: {http2: false, headers: }",
        "basic_auth_users: {}",
    ],
)
def test_an_empty_file_and_blank_keys_ask_for_nothing(house: House, text: str) -> None:
    policy = house.policy(text)
    assert (policy.tls, policy.headers, policy.admits(None), policy.admits_peer(None)) == (None, {}, True, True)
    assert house.heard == [True]


def test_headers_are_passed_on_as_they_are_written(house: House) -> None:
    headers = {
        "Content-Security-Policy": "default-src 'self'",
        "X-Frame-Options": "sameorigin",
        "X-Content-Type-Options": "nosniff",
        "X-XSS-Protection": "1; mode=block",
        "Strict-Transport-Security": "max-age=31536000",
    }
    lines = "".join(f'    {name}: "{value}"\n' for name, value in headers.items())
    assert house.policy(f"http_server_config:\n  http2: true\n  headers:\n{lines}").headers == headers


def test_anchors_of_yaml_can_be_used(house: House) -> None:
    policy = house.policy(f"{users(alice='secret')}  bob: &one '{HASH}'\n  carol: *one\n")
    assert set(policy.users) == {b"alice", b"bob", b"carol"}


def test_nothing_secret_is_in_a_representation(house: House) -> None:
    door = house.door(f"{SECURE}basic_auth_users: {{alice: '{HASH}'}}")
    door.look().admits(basic("alice", CANARY))
    assert CANARY not in repr((door, door.look(), vars(door)))


# ---- TLS


def test_names_of_files_begin_at_the_folder_of_the_config(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (house.folder / "below").mkdir()
    house.policy(SECURE)
    elsewhere = f"tls_server_config: {{cert_file: ../cert.pem, key_file: {house.folder / 'key.pem'}}}"
    (house.folder / "below/web.yml").write_text(elsewhere)
    monkeypatch.chdir(house.folder / "below")
    for file in (Path("../web.yml"), Path("web.yml")):
        shake(Door(file).look().tls, AUTHORITY.client())


def test_a_handshake_agrees_on_tls_13_and_http_11(house: House) -> None:
    client = AUTHORITY.client()
    client.set_alpn_protocols(["h2", "http/1.1"])
    tls = house.policy(SECURE).tls
    assert tls is not None
    assert tls.options & ssl.OP_NO_RENEGOTIATION
    assert tls.options & ssl.OP_NO_COMPRESSION
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    shaken = shake(tls, client)
    assert (shaken.version, shaken.protocol, shaken.peer) == ("TLSv1.3", "http/1.1", None)


def test_pem_text_can_stand_in_the_file(house: House) -> None:
    cert, key = AUTHORITY.pair()
    inline = "".join(
        f"  {name}: |\n{indent(text, '    ')}"
        for name, text in (("cert", cert), ("key", key), ("client_ca", f"# größer\n{STRANGER.pem}"))
    )
    text = f"tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n{inline}"
    before = len(list(Path("/dev/fd").iterdir()))
    tls = house.policy(text).tls
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert shake(tls, AUTHORITY.client(STRANGER)).peer


def old(client: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = version
    return client


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ("", ["TLSv1_2", "TLSv1_3"]),
        ("min_version: TLS13", ["TLSv1_3"]),
        ("min_version: TLS12", ["TLSv1_2", "TLSv1_3"]),
        ("min_version: TLS11", ["TLSv1_1", "TLSv1_2", "TLSv1_3"]),
        ("min_version: TLS10", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"]),
        ("max_version: TLS12", ["TLSv1_2"]),
        ("min_version: TLS10, max_version: TLS11", ["TLSv1", "TLSv1_1"]),
        ("cipher_suites: [TLS_AES_256_GCM_SHA384]", ["TLSv1_3"]),
        (
            "min_version: TLS11, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA]",
            ["TLSv1_1", "TLSv1_2", "TLSv1_3"],
        ),
    ],
)
def test_versions(house: House, settings: str, accepted: list[str]) -> None:
    tls = house.policy(f"tls_server_config: {{{PAIR}, {settings}}}").tls
    found = []
    for name in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"):
        try:
            shake(tls, old(AUTHORITY.client(), ssl.TLSVersion[name]))
            found.append(name)
        except (ssl.SSLError, OSError):
            pass
    assert found == accepted


GO_SUITES = {
    f"TLS_ECDHE_ECDSA_WITH_{cipher}": f"ECDHE-ECDSA-{name}"
    for cipher, name in {
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    }.items()
}


@pytest.mark.parametrize(("suite", "name"), GO_SUITES.items())
def test_each_cipher_suite_by_its_name_in_go(house: House, suite: str, name: str) -> None:
    tls = house.policy(f"tls_server_config: {{{PAIR}, max_version: TLS12, cipher_suites: [{suite}]}}").tls
    client = AUTHORITY.client()
    client.set_ciphers("ALL")
    assert shake(tls, client).cipher == name


def test_the_suites_for_rsa_have_the_same_names(house: House) -> None:
    suites = ", ".join(suite.replace("ECDSA", "RSA") for suite in GO_SUITES)
    tls = house.policy(f"tls_server_config: {{{PAIR}, cipher_suites: [{suites}]}}").tls
    assert tls is not None
    named = [str(cipher["name"]) for cipher in tls.get_ciphers()]
    expected = [name.replace("ECDSA", "RSA") for name in GO_SUITES.values()]
    assert [name for name in named if not name.startswith("TLS_")] == expected


@pytest.mark.parametrize(("preference", "chosen"), [("true", "AES256-GCM-SHA384"), ("false", "AES128-GCM-SHA256")])
def test_the_servers_order_of_suites_counts_if_that_is_set(house: House, preference: str, chosen: str) -> None:
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    settings = f"max_version: TLS12, cipher_suites: [{suites}], prefer_server_cipher_suites: {preference}"
    tls = house.policy(f"tls_server_config: {{{PAIR}, {settings}}}").tls
    client = AUTHORITY.client()
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert shake(tls, client).cipher == f"ECDHE-ECDSA-{chosen}"


CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


@pytest.mark.parametrize("curve", CURVES)
def test_the_curve_that_is_set_is_the_only_one(house: House, curve: str) -> None:
    tls = house.policy(f"tls_server_config: {{{PAIR}, curve_preferences: [{curve}]}}").tls
    for other, name in CURVES.items():
        client = AUTHORITY.client()
        client.set_ecdh_curve(name)
        if other == curve:
            shake(tls, client)
        else:
            with pytest.raises((ssl.SSLError, OSError)):
                shake(tls, client)


INTERMEDIATE = STRANGER.intermediate()
CLIENTS = {"none": None, "ours": AUTHORITY, "stranger": STRANGER, "intermediate": INTERMEDIATE}


@pytest.mark.parametrize(
    ("settings", "welcome"),
    [
        ("client_auth_type: NoClientCert", {"none", "ours", "stranger", "intermediate"}),
        ("client_auth_type: RequestClientCert", {"none", "ours", "stranger", "intermediate"}),
        ("client_auth_type: RequestClientCert, client_ca_file: ca.pem", {"none", "ours", "stranger", "intermediate"}),
        ("client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem", {"none", "ours"}),
        ("client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem", {"ours"}),
        ("client_auth_type: RequireAndVerifyClientCert, client_ca_file: stranger.pem", {"stranger", "intermediate"}),
        ("client_auth_type: RequireAndVerifyClientCert, client_ca_file: intermediate.pem", {"intermediate"}),
    ],
)
def test_which_clients_are_let_in(house: House, settings: str, welcome: set[str]) -> None:
    (house.folder / "stranger.pem").write_text(f"# Behörde\n{STRANGER.pem}")
    (house.folder / "intermediate.pem").write_text(INTERMEDIATE.pem)
    tls = house.policy(f"tls_server_config: {{{PAIR}, {settings}}}").tls
    found = set()
    for name, own in CLIENTS.items():
        try:
            shake(tls, AUTHORITY.client(own))
            found.add(name)
        except (ssl.SSLError, OSError):
            pass
    assert found == welcome


def test_without_an_authority_the_systems_are_trusted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(house.folder / "ca.pem"))
    tls = house.policy(f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}").tls
    assert shake(tls, AUTHORITY.client(AUTHORITY)).peer
    with pytest.raises((ssl.SSLError, OSError)):
        shake(tls, AUTHORITY.client(STRANGER))


@pytest.mark.parametrize(
    ("allowed", "welcome"),
    [
        ("one.example", True),
        ("2001:db8::1", True),
        ("192.0.2.7", True),
        ("me@mail.example", True),
        ("ONE.example", False),
        ("*.example", False),
        ("example", False),
        ("2001:DB8:0:0:0:0:0:1", False),
    ],
)
def test_names_of_clients(house: House, allowed: str, welcome: bool) -> None:  # noqa: FBT001
    policy = house.policy(f"tls_server_config: {{{PAIR}, {MUTUAL}, client_allowed_sans: [nobody, '{allowed}']}}")
    names = ("one.example", "2001:db8::1", "192.0.2.7", "me@mail.example")
    peer = shake(policy.tls, AUTHORITY.client(AUTHORITY, names)).peer
    assert policy.admits_peer(peer) is welcome
    assert not policy.admits_peer(None)
    assert not policy.admits_peer({})


def test_a_uri_is_a_name_and_a_malformed_address_is_none(house: House) -> None:
    policy = house.policy(f"tls_server_config: {{{PAIR}, {MUTUAL}, client_allowed_sans: ['spiffe://a/b', <invalid>]}}")
    assert policy.admits_peer({"subjectAltName": (("IP Address", "<invalid>"), ("URI", "spiffe://a/b"))})
    assert not policy.admits_peer(
        {"subjectAltName": (("IP Address", "<invalid>"), ("DirName", ((("commonName", "a"),),)))}
    )


# ---- users


@pytest.mark.parametrize(
    ("authorization", "welcome"),
    [
        (basic("alice", "secret"), True),
        (basic("alice", "secret").replace("Basic ", "bASIC   "), True),
        (basic("bob", "secret"), True),
        (basic("jörg", "grüße:☕:"), True),
        (basic("empty", ""), True),
        (basic("alice", "grüße:☕:"), False),
        (basic("alice", "Secret"), False),
        (basic("alice", ""), False),
        (basic("Alice", "secret"), False),
        (basic("nobody", "secret"), False),
        (basic("alice", "sec\0ret"), False),
        (basic("", ""), False),
        (None, False),
        ("", False),
        ("Basic", False),
        ("Basic !!!", False),
        (basic("alice", "secret").replace("YWxp", "YWxp!"), False),
        ("Basic " + base64.b64encode(b"empty").decode(), False),
        ("Basic Ä", False),
        ("Basic " + base64.b64encode(b"alice").decode(), False),
        ("Basic " + base64.b64encode(b"bob:secret").decode().rstrip("="), False),
        ("Basic " + base64.b64encode(b"\xff\xfe:secret").decode(), False),
        (basic("alice", "secret").replace("Basic", "Bearer"), False),
    ],
)
def test_who_is_let_in(house: House, authorization: str | None, welcome: bool) -> None:  # noqa: FBT001
    policy = house.policy(users(alice="secret", bob="secret", jörg="grüße:☕:", empty=""))
    assert settled(policy.admits(authorization)) is welcome
    assert settled(policy.admits(authorization)) is welcome


def test_hashes_of_other_programs(house: House) -> None:
    hashes = {
        "go": "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
        "a": bcrypt.hashpw(b"fakepassword", bcrypt.gensalt(4, b"2a")).decode(),
        "b": bcrypt.hashpw(b"fakepassword", bcrypt.gensalt(5, b"2b")).decode(),
    }
    policy = house.policy("basic_auth_users:" + "".join(f"\n  {name}: {known}" for name, known in hashes.items()))
    for name in hashes:
        assert settled(policy.admits(basic(name, "fakepassword")))
        assert not settled(policy.admits(basic(name, "fakepasswort")))


def test_bcrypt_looks_at_72_bytes_as_in_go(house: House) -> None:
    policy = house.policy(users(alice="x" * 72, long="ü" * 36))
    assert settled(policy.admits(basic("alice", "x" * 72 + "anything")))
    assert settled(policy.admits(basic("long", "ü" * 36 + "anything")))
    assert not settled(policy.admits(basic("alice", "x" * 71)))
    assert not settled(policy.admits(basic("alice", "y" * 100)))


def test_a_verdict_is_remembered_either_way(house: House) -> None:
    check = Checker()
    policy = house.door(users(alice="unused"), check).look()
    for password, verdict in (("right", True), ("wrong", False)):
        asked = policy.admits(basic("alice", password))
        assert isinstance(asked, Future)
        assert asked.result(10) is verdict
        assert policy.admits(basic("alice", password)) is verdict
    assert [password for password, _ in check.calls] == [b"right", b"wrong"]


def test_a_right_password_does_not_help_an_unknown_user_who_is_checked_as_dearly(house: House) -> None:
    check = Checker()
    dear = "$2b$09$" + "." * 52 + "/"
    policy = house.door(f"{users(alice='unused')}  bob: '{dear}'\n", check).look()
    assert settled(policy.admits(basic("bob", "right")))
    assert not settled(policy.admits(basic("nobody", "right")))
    assert policy.admits(basic("nobody", "right")) is False
    (_, known), (_, decoy) = check.calls
    assert (known[:7], decoy[:7], len(decoy)) == (b"$2b$09$", b"$2b$09$", 60)
    assert bcrypt.checkpw(b"right", decoy.replace(b"$09$", b"$04$")) is False


def test_wrong_passwords_do_not_push_out_right_ones(house: House) -> None:
    check = Checker()
    policy = house.door(users(alice="unused"), check).look()
    assert settled(policy.admits(basic("alice", "right")))
    for number in range(101):
        assert not settled(policy.admits(basic("alice", f"wrong {number}")))
    assert policy.admits(basic("alice", "right")) is True
    assert policy.admits(basic("alice", "wrong 1")) is False
    assert isinstance(policy.admits(basic("alice", "wrong 0")), Future)


def test_what_was_asked_last_is_remembered_longest() -> None:
    passwords = Passwords(Checker(), remembered=2)
    hashes = {b"alice": b"hash"}

    def ask(word: bytes) -> bool | Future[bool]:
        return passwords.verdict(b"alice", word, hashes, b"decoy")

    for word in (b"1", b"2", b"1", b"3"):
        settled(ask(word))
    assert ask(b"1") is False
    assert isinstance(ask(b"2"), Future)


def test_where_a_name_ends_makes_a_difference() -> None:
    passwords, hashes = Passwords(Checker()), {b"a": b"x", b"ax": b"x"}
    assert not settled(passwords.verdict(b"a", b"xb", hashes, b""))
    assert isinstance(passwords.verdict(b"ax", b"b", hashes, b""), Future)


def test_one_is_checked_at_a_time_and_few_may_wait(house: House) -> None:
    check = Checker()
    policy = house.door(users(alice="unused"), check).look()
    check.open.clear()
    first = policy.admits(basic("alice", "first"))
    assert check.begun.wait(10)
    waiting = [policy.admits(basic("alice", f"wrong {number}")) for number in range(15)]
    honest = policy.admits(basic("alice", "right"))
    assert [policy.admits(basic("alice", f"more {number}")) for number in range(3)] == [False] * 3
    again = policy.admits(basic("alice", "right"))
    assert again is honest
    assert isinstance(again, Future)
    assert not again.cancel()
    assert len(check.calls) == 1
    check.open.set()
    assert (settled(first), settled(honest), [settled(wrong) for wrong in waiting]) == (False, True, [False] * 15)
    assert len(check.calls) == 17
    assert len(check.threads) == 1
    assert threading.get_ident() not in check.threads
    assert isinstance(policy.admits(basic("alice", "more 0")), Future), "what was refused unchecked is not remembered"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_checking_gives_way_to_scrapes() -> None:
    check = Checker()
    assert settled(Passwords(check).verdict(b"alice", b"right", {b"alice": b"hash"}, b""))
    assert check.niceness == {max(NICENESS, 10)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == NICENESS


def test_a_checker_that_raises_refuses_and_goes_on() -> None:
    def check(password: bytes, _: bytes) -> bool:
        if password == b"odd":
            raise ValueError
        return True

    passwords = Passwords(check)
    assert not settled(passwords.verdict(b"alice", b"odd", {b"alice": b"hash"}, b""))
    assert settled(passwords.verdict(b"alice", b"even", {b"alice": b"hash"}, b""))


def test_no_password_and_no_hash_is_kept(house: House) -> None:
    door = house.door(f"basic_auth_users: {{alice: '{HASH}'}}", Checker(CANARY.encode()))
    assert settled(door.look().admits(basic("alice", CANARY)))
    assert CANARY not in repr(vars(door.look().passwords))


def test_what_is_remembered_tells_nothing_to_those_who_do_not_know_the_secret_of_the_process() -> None:
    remembered = []
    for _ in range(2):
        passwords = Passwords(Checker())
        assert settled(passwords.verdict(b"alice", b"right", {b"alice": b"hash"}, b""))
        remembered.append(vars(passwords)["_verdicts"])
    assert remembered[0] != remembered[1]


# ---- reading again


def test_nothing_is_read_again_while_nothing_changes(house: House) -> None:
    door = house.door(SECURE)
    assert door.look() is door.look()
    assert house.heard == [True]


def test_users_change_at_the_next_look(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.web.config")
    check = Checker()
    door = house.door(users(alice="unused"), check)
    assert settled(door.look().admits(basic("alice", "right")))
    house.file.write_text(users(robert="unused"))
    assert not settled(door.look().admits(basic("alice", "right")))
    assert settled(door.look().admits(basic("robert", "right")))
    (record,) = caplog.records
    told = (record.levelname, record.getMessage(), vars(record)["fields"])
    assert told == ("INFO", "the web config was read again", {"file": str(house.file), "tls": False, "users": 1})
    assert house.heard == [True, True]


def test_a_new_hash_forgets_the_old_verdicts_and_a_new_header_does_not(house: House) -> None:
    check = Checker()
    text = users(alice="unused")
    door = house.door(text, check)
    settled(door.look().admits(basic("alice", "right")))
    house.replace("web.yml", text + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    assert door.look().admits(basic("alice", "right")) is True
    house.replace("web.yml", f"basic_auth_users: {{alice: '{HASH}'}}")
    assert isinstance(door.look().admits(basic("alice", "right")), Future)


def test_a_certificate_is_replaced_in_two_steps(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.web.config")
    door = house.door(SECURE)
    client = AUTHORITY.client()
    old_serial = shake(door.look().tls, client).serial
    cert, key = AUTHORITY.pair()
    house.replace("cert.pem", cert)
    for _ in range(3):
        assert shake(door.look().tls, client).serial == old_serial
    house.replace("key.pem", key)
    new_serial = shake(door.look().tls, client).serial
    assert new_serial != old_serial
    assert house.heard == [True, False, True]
    mismatch, good = caplog.records
    assert (mismatch.levelname, good.levelname) == ("ERROR", "INFO")
    assert mismatch.getMessage() == "the web config cannot be used; the old one stays in force"
    reason = "tls_server_config.key_file: it is not the key of the certificate; give the two that belong together"
    assert vars(mismatch)["fields"] == {"file": str(house.file), "error": f"{house.file}: {reason}"}


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
def test_a_file_that_goes_and_comes_back(house: House, name: str) -> None:
    door = house.door(f"tls_server_config: {{{PAIR}, {MUTUAL}}}")
    before = door.look()
    (house.folder / name).rename(house.folder / "away")
    assert door.look() is before
    assert door.look() is before
    assert house.heard == [True, False]
    (house.folder / "away").rename(house.folder / name)
    assert door.look() is not before
    assert house.heard == [True, False, True]


def test_the_config_itself_goes_and_comes_back(house: House) -> None:
    door = house.door(SECURE)
    before = door.look()
    house.file.rename(house.folder / "away")
    assert door.look() is before
    (house.folder / "away").rename(house.file)
    assert door.look() is not before
    assert house.heard == [True, False, True]


def test_each_broken_change_is_told_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    door = house.door(SECURE)
    before = door.look()
    for text in (f"tls_server_confi: {CANARY}", "[", SECURE.replace("key.pem", "none.pem")):
        house.replace("web.yml", text)
        assert [door.look() for _ in range(3)] == [before] * 3
    assert house.heard == [True, False, False, False]
    errors = [vars(record)["fields"]["error"] for record in caplog.records]
    assert [error.partition(": ")[2].partition(":")[0] for error in errors] == [
        "tls_server_confi", "line 1", "tls_server_config.key_file",
    ]  # fmt: skip
    assert CANARY not in str(errors)
    (house.folder / "none.pem").write_text((house.folder / "key.pem").read_text())
    assert door.look() is not before
    assert house.heard[-1] is True


def test_permission_given_is_seen(house: House) -> None:
    """What was refused for its owner or mode heals although nobody has written to it."""
    door = house.door(SECURE)
    before = door.look()
    (house.folder / "key.pem").chmod(0o640)
    assert door.look() is not before


def test_a_file_of_the_same_size_and_time_is_another(house: House) -> None:
    door = house.door("http_server_config: {headers: {X-XSS-Protection: '0'}}")
    stat = house.file.stat()
    new = house.folder / "new"
    new.write_text(house.file.read_text().replace("'0'", "'1'"))
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(house.file)
    assert door.look().headers == {"X-XSS-Protection": "1"}


def test_the_links_of_kubernetes_are_followed(house: House) -> None:
    def publish(version: str) -> None:
        folder = house.folder / f"..{version}"
        folder.mkdir()
        AUTHORITY.write(folder)
        (folder / "web.yml").write_text(SECURE + f"http_server_config: {{headers: {{X-XSS-Protection: '{version}'}}}}")
        (house.folder / "..new").symlink_to(folder.name)
        (house.folder / "..new").replace(house.folder / "..data")

    publish("1")
    for name in ("web.yml", "cert.pem", "key.pem"):
        (house.folder / name).unlink(missing_ok=True)
        (house.folder / name).symlink_to(f"..data/{name}")
    door = Door(house.file)
    door.tell(house.heard.append)
    first = shake(door.look().tls, AUTHORITY.client()).serial
    publish("2")
    shutil.rmtree(house.folder / "..1")
    second = shake(door.look().tls, AUTHORITY.client()).serial
    assert first != second
    assert door.look().headers == {"X-XSS-Protection": "2"}
    assert house.heard == [True, True]


@pytest.mark.parametrize(("lost", "rest"), [("TLS", "users"), ("the users", "tls"), ("TLS", "")])
def test_an_open_door_needs_a_restart(house: House, caplog: pytest.LogCaptureFixture, lost: str, rest: str) -> None:
    """A file that is just being written is empty for a moment; it must not let everybody in."""
    parts = {"tls": SECURE, "users": users(alice="secret"), "": ""}
    door = house.door(parts["tls"] + parts["users"])
    before = door.look()
    house.file.write_text(parts[rest])
    assert door.look() is before
    assert house.heard == [True, False]
    told = vars(caplog.records[-1])["fields"]["error"]
    assert told == f"{house.file}: it would take away {lost}; if that is meant, restart the exporter"
    house.file.write_text(parts["tls"] + parts["users"])
    assert door.look() is not before


def test_protection_can_be_added(house: House) -> None:
    door = house.door("")
    assert door.look().admits(None) is True
    house.file.write_text(SECURE + users(alice="secret"))
    assert door.look().admits(None) is False
    shake(door.look().tls, AUTHORITY.client())


def test_many_threads_look_and_one_reads(house: House) -> None:
    door = house.door(SECURE)
    start = threading.Barrier(8)

    def look(_: int) -> Iterable[Any]:
        start.wait(10)
        return [door.look().headers for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        for change in range(1, 6):
            house.replace("web.yml", SECURE + f"http_server_config: {{headers: {{X-XSS-Protection: '{change}'}}}}")
            seen = list(pool.map(look, range(8)))
            assert all(headers == {"X-XSS-Protection": str(change)} for each in seen for headers in each)
            assert house.heard == [True] * (change + 1)


def test_the_readmes_example_opens_the_door(tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(tls_server_config:.*?)```", readme, re.DOTALL)
    house = House(tmp_path)
    for wanted, made in {"server.crt": "cert.pem", "server.key": "key.pem", "ca.crt": "ca.pem"}.items():
        (tmp_path / wanted).write_bytes((tmp_path / made).read_bytes())
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    policy = house.policy(example.replace("$2y$10$...", hashed))
    assert policy.tls is not None
    assert policy.tls.verify_mode is ssl.CERT_REQUIRED
    assert set(policy.users) == {b"prometheus"}

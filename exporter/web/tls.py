"""The TLS part of the web config file: what it may say, and the ssl context that it means.

Key paths in errors begin with ``tls_server_config``; no error holds what a certificate or key says.
"""

import difflib
import ipaddress
import os
import ssl
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from exporter.errors import SettingsError

SECTION = "tls_server_config"
SIZE_LIMIT = 1024 * 1024
"""Bytes of the largest file; bundles of authorities have some 200 KB."""

STRICT = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=False)

CIPHERS: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""OpenSSL's names of what Go's ``tls.CipherSuites()`` lists up to TLS 1.2, the better ones first."""

CIPHERS_OF_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""TLS 1.3 has these three, and Python cannot leave any out."""

CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
VERSIONS: Mapping[str, ssl.TLSVersion] = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
VERIFICATION: Mapping[str, ssl.VerifyMode] = {
    "NoClientCert": ssl.CERT_NONE,
    # As in Go it decides nothing; Python cannot ask for a certificate without looking into it.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
TOO_WEAK = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}
MISMATCH = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


class _EncryptedKeyError(Exception):
    pass


def _blank(value: object) -> object:
    return None if value == "" else value


def _file_name(text: str | None) -> str | None:
    # PEM text that was put in the wrong place must not be shown as the name of a file.
    if text is not None and (not text.isprintable() or "-----BEGIN" in text):
        raise ValueError("that is no file name; PEM text goes under the key of the same name without _file")
    return text


def _cipher(name: str) -> str:
    known = [*CIPHERS, *CIPHERS_OF_13]
    if name not in known:
        raise ValueError(f"there is no such cipher suite in Go's list; the nearest one is {nearest(name, known)}")
    return name


Blank = BeforeValidator(_blank)
FileName = Annotated[str | None, Blank, AfterValidator(_file_name)]
Pem = Annotated[SecretStr | None, BeforeValidator(_blank)]
Version = Annotated[Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None, Blank]
ClientAuth = Literal[
    "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "RequireClientCert",
    "VerifyClientCertIfGiven", "RequireAndVerifyClientCert",
]  # fmt: skip


class TlsSettings(BaseModel):
    """The keys of ``tls_server_config``; what is blank counts as unset."""

    model_config = STRICT

    cert: Pem = None
    key: Pem = None
    client_ca: Pem = None
    cert_file: FileName = None
    key_file: FileName = None
    client_ca_file: FileName = None
    client_auth_type: Annotated[ClientAuth | None, Blank] = None
    client_allowed_sans: list[str] | None = None
    min_version: Version = None
    max_version: Version = None
    cipher_suites: list[Annotated[str, AfterValidator(_cipher)]] | None = None
    prefer_server_cipher_suites: bool | None = None
    curve_preferences: list[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]] | None = None


def nearest(name: str, known: Collection[str]) -> str:
    """Return the known name that looks most like this one."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def files(settings: TlsSettings, folder: Path) -> list[Path]:
    """Return the files that the settings name."""
    named = (settings.cert_file, settings.key_file, settings.client_ca_file)
    return [folder / name for name in named if name]


def new_context(settings: TlsSettings, folder: Path) -> ssl.SSLContext | None:
    """Make the context, None without any TLS setting; relative names are looked up in ``folder``."""
    if all(value is None for value in settings.model_dump().values()):
        return None
    _check(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _choose(context, settings)
    _load_clients(context, settings, folder)
    _load_own(context, settings, folder)
    return context


def sans(certificate: Mapping[str, Any]) -> Iterator[str]:
    """List the alternate names in what ``getpeercert()`` returns, spelled as Go spells them."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "URI", "email"):
            yield name
        elif kind == "IP Address":
            with suppress(ValueError):
                yield str(ipaddress.ip_address(name.strip()))


def _refuse(key: str, problem: str) -> NoReturn:
    raise SettingsError(f"{SECTION}.{key}: {problem}")


def _check(settings: TlsSettings) -> None:
    """Check what no single key can know."""
    for key in ("cert", "key", "client_ca"):
        inline, file = getattr(settings, key), getattr(settings, f"{key}_file")
        if inline and file:
            _refuse(key, f"{key}_file is there, too; remove one of the two")
        if not (inline or file or key == "client_ca"):
            _refuse(f"{key}_file", f"it is missing; name the file, or put its PEM text under {key}")
    _check_clients(settings)
    if VERSIONS[settings.max_version or "TLS13"] < VERSIONS[settings.min_version or "TLS12"]:
        _refuse("max_version", "it is below min_version (TLS12 where that is not set); swap them or remove one")
    if settings.max_version not in (None, "TLS13") and settings.cipher_suites and not _ciphers(settings):
        _refuse("cipher_suites", "all of them are of TLS 1.3, which max_version rules out; name others, or raise it")
    if len(settings.curve_preferences or ()) > 1:
        _refuse("curve_preferences", "Python's ssl can set one curve only; name one, or none for OpenSSL's choice")


def _check_clients(settings: TlsSettings) -> None:
    kind, ca = settings.client_auth_type or "NoClientCert", "client_ca" if settings.client_ca else "client_ca_file"
    remedy = "set client_auth_type to RequireAndVerifyClientCert"
    if kind in ("RequireAnyClientCert", "RequireClientCert"):
        reason = "Python's ssl cannot take certificates that it does not verify"
        _refuse("client_auth_type", f"{kind} is not possible, {reason}; use RequireAndVerifyClientCert")
    if getattr(settings, ca) and kind == "NoClientCert":
        _refuse(ca, f"no client is asked for a certificate; {remedy}, or remove it")
    if settings.client_allowed_sans is not None and kind != "RequireAndVerifyClientCert":
        _refuse("client_allowed_sans", f"a client may come without a certificate; {remedy}, or remove it")
    if settings.client_allowed_sans == []:
        _refuse("client_allowed_sans", "the list is empty, nobody could come in; name somebody, or remove it")


def _ciphers(settings: TlsSettings) -> list[str]:
    return [CIPHERS[name] for name in settings.cipher_suites or () if name in CIPHERS]


def _choose(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Set versions, cipher suites and the curve."""
    oldest = VERSIONS[settings.min_version or "TLS12"]
    chosen = _ciphers(settings)
    if settings.cipher_suites and not chosen:
        oldest = ssl.TLSVersion.TLSv1_3
    context.minimum_version = oldest
    context.maximum_version = VERSIONS[settings.max_version or "TLS13"]
    if oldest < ssl.TLSVersion.TLSv1_2:
        # OpenSSL 3 knows SHA-1 signatures, which these versions are made of, at this level only.
        chosen = [*(chosen or CIPHERS.values()), "@SECLEVEL=0"]
    if chosen:
        context.set_ciphers(":".join(chosen))
    if settings.prefer_server_cipher_suites is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for curve in settings.curve_preferences or ():
        context.set_ecdh_curve(CURVES[curve])


def _load_clients(context: ssl.SSLContext, settings: TlsSettings, folder: Path) -> None:
    """Ask for client certificates; without an authority of its own the system's are trusted, as in Go."""
    context.verify_mode = VERIFICATION[settings.client_auth_type or "NoClientCert"]
    # As in Go, an intermediate authority can be trusted by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if settings.client_ca or settings.client_ca_file:
        key, content = _pem(settings, "client_ca", folder)
        _trust(context, key, content)
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)


def _load_own(context: ssl.SSLContext, settings: TlsSettings, folder: Path) -> None:
    cert, chain = _pem(settings, "cert", folder)
    key, private = _pem(settings, "key", folder)
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, chain)
    try:
        with _named(chain) as chain_file, _named(private) as key_file:
            context.load_cert_chain(chain_file, key_file, password=_no_password)
    except _EncryptedKeyError:
        _refuse(key, "it is encrypted, and nobody is there to type the password; decrypt it with openssl pkey")
    except ssl.SSLError as error:
        if error.reason in TOO_WEAK:
            _refuse(cert, f"OpenSSL finds it too weak ({error.reason}); use a longer key and SHA-256")
        if error.reason in MISMATCH:
            _refuse(key, "it is not the key of the certificate; give the two that belong together")
        _refuse(key, "it is not a private key in PEM; give one that begins with -----BEGIN PRIVATE KEY-----")


def _no_password() -> str:
    raise _EncryptedKeyError


def _trust(context: ssl.SSLContext, key: str, content: bytes) -> None:
    """Let the context trust these certificates; there must be at least one."""
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        _refuse(key, "it is not a certificate in PEM; give one that begins with -----BEGIN CERTIFICATE-----")


def _pem(settings: TlsSettings, key: str, folder: Path) -> tuple[str, bytes]:
    """Return the key that was set and the PEM text."""
    inline, name = getattr(settings, key), getattr(settings, f"{key}_file")
    if inline:
        return key, inline.get_secret_value().encode("ascii", "ignore")
    try:
        return f"{key}_file", content(folder / name)
    except SettingsError as error:
        _refuse(f"{key}_file", f"{str(folder / name)[:200]!r}: {error}")


def content(path: Path) -> bytes:
    """Read a file; raise SettingsError, which does not name it."""
    try:
        # A pipe would be waited for, and a device never ends.
        if path.exists() and not path.is_file():
            raise SettingsError("that is not a file; name one")
        with path.open("rb") as file:
            read = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); give a file that the exporter's user may read"
        raise SettingsError(problem) from None
    if len(read) > SIZE_LIMIT:
        raise SettingsError("it is larger than 1 MiB; name another file")
    return read


@contextmanager
def _named(text: bytes) -> Iterator[str]:
    """Lend a file name for ``text``, as OpenSSL reads nothing else: a file in memory, or one without a name on disk."""
    with _memory() as file:
        file.write(text)
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _memory() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("pem"), "w+b")
    return tempfile.TemporaryFile()

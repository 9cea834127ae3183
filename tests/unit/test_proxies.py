"""Which proxy a request goes through, and what is said where it does not work."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from agentkit.client import Client, ServerUnreachableError
from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import submit
from agentkit.core.messages import UserMessage, text_of
from agentkit.core.proxies import proxy_for
from agentkit.errors import ProviderError
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.transport import close_clients
from agentkit.testing.provider_contract import build
from agentkit.testing.wire_server import Reply, WireServer
from tests import openai_server

VENDOR = "http://vendor.example/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def call(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    request = ModelRequest("m", "", [UserMessage("hi", 0)], options={"connect_timeout": 2.0})
    return text_of(build(OpenAIProvider().stream(request, Cancellation())))


def failure(url: str, monkeypatch: pytest.MonkeyPatch) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call(url, monkeypatch)
    return caught.value


@pytest.mark.parametrize(
    ("settings", "url", "proxy"),
    [
        ({}, "https://vendor.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://vendor.example", "p:1 (HTTPS_PROXY)"),
        ({"https_proxy": "http://p:1"}, "https://vendor.example", "p:1 (https_proxy)"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://vendor.example", None),
        ({"ALL_PROXY": "socks5://p:1"}, "http://vendor.example", "p:1 (ALL_PROXY)"),
        ({"ALL_PROXY": "socks5://p:1", "HTTP_PROXY": "q:2"}, "http://vendor.example", "q:2 (HTTP_PROXY)"),
        ({"HTTP_PROXY": "http://user:secret@p:1"}, "http://vendor.example", "p:1 (HTTP_PROXY)"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "vendor.example"}, "http://vendor.example", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": ".example"}, "http://vendor.example:8000", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "*"}, "http://vendor.example", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8,[::1]"}, "http://10.1.2.3/v1", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3/v1", "p:1 (HTTP_PROXY)"),
        ({"HTTP_PROXY": "p:1"}, "http://127.0.0.1:8000", None),
        ({"HTTP_PROXY": "p:1"}, "http://[::1]:8000", None),
        ({"HTTP_PROXY": "p:1"}, "http://localhost/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://app.localhost/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://[half", None),
        ({"HTTP_PROXY": "http://[half"}, "http://vendor.example", "? (HTTP_PROXY)"),
    ],
)
def test_the_environment_names_the_proxy(
    settings: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (None if found is None else str(found)) == proxy
    assert "secret" not in repr(found)


@pytest.mark.parametrize("setting", ["ALL_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks5h://127.0.0.1:9", "http://127.0.0.1:9", "not a url"])
def test_loopback_goes_through_no_proxy(setting: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting, proxy)
    with WireServer(lambda _: Reply(openai_server.frames("hi"))) as server:
        assert call(server.url, monkeypatch) == "hi"


def test_a_vendor_is_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: Reply(openai_server.frames("hi"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert call(VENDOR, monkeypatch) == "hi"
        assert proxy.requests[0].headers["host"] == "vendor.example"


@pytest.fixture
def socks(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """A SOCKS 5 proxy that answers for every host. Yields its address and the requests that it was sent."""
    asked: list[bytes] = []
    body = b"".join(openai_server.frames("hi"))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"\x05\x00")
            asked.append(connection.recv(300))
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            connection.recv(65536)
            connection.sendall(head + body)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_vendor_is_reached_through_socks(
    scheme: str, socks: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = socks
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{address}")
    assert call(VENDOR, monkeypatch) == "hi"
    assert b"vendor.example" in asked[0]


@pytest.mark.parametrize("scheme", ["http://", "socks5://", ""])
def test_a_dead_proxy_is_named_and_not_taken_for_the_vendor(
    scheme: str, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}127.0.0.1:{dead_port}")
    error = failure(VENDOR, monkeypatch)
    assert error.retryable
    assert "the proxy" in error.message
    assert f"127.0.0.1:{dead_port} (ALL_PROXY)" in str(error)
    assert "ALL_PROXY" not in error.message, "the names of settings are the operator's"


def test_a_proxy_that_wants_a_password_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: Reply([], 407)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:secret-pw@"))
        error = failure(VENDOR, monkeypatch)
    assert not error.retryable
    assert "HTTP_PROXY" in str(error)
    assert "secret-pw" not in str(error)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    error = failure(VENDOR, monkeypatch)
    assert not error.retryable
    assert "the proxy" in error.message
    assert "HTTP_PROXY" in str(error)


def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, dead_port: int) -> None:
    submit(close_clients()).result(5)  # the next one reads the setting
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    error = failure(f"https://localhost:{dead_port}/v1", monkeypatch)
    assert "SSL_CERT_FILE" in str(error)
    assert not error.retryable


# -- agentkit's own client


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://127.0.0.1:9", "not a url"])
def test_the_client_reaches_loopback_through_no_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with WireServer(lambda _: Reply([b"{}"], 200, "application/json")) as server, Client(server.url) as client:
        assert client.abort("x") is None or server.requests


def test_the_client_names_a_dead_proxy(dead_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{dead_port}")
    with Client("http://agents.example", retry_seconds=0) as client, pytest.raises(ServerUnreachableError) as caught:
        client.get("x")
    assert f"127.0.0.1:{dead_port} (ALL_PROXY)" in caught.value.message


def test_the_client_names_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://user:secret@127.0.0.1:1")
    with pytest.raises(ServerUnreachableError) as caught:
        Client("http://agents.example")
    assert "ALL_PROXY" in caught.value.message
    assert "secret" not in caught.value.message

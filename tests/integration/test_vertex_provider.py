"""Claude and Gemini on Vertex AI against a local server that speaks their wires."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agentkit import Agent, AgentKit, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers import google_cloud, resolve
from agentkit.providers.connection import Connection
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.providers.vertex import VertexProvider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests import google_server
from tests.anthropic_server import frames
from tests.misbehaving import TextStreamContract
from tests.vendor_bounds import VendorBoundsContract

MODEL = "claude-haiku-4-5@20251001"


def error_body(message: str, status: str = "INVALID_ARGUMENT") -> bytes:
    return json.dumps([{"error": {"code": 400, "message": message, "status": status}}]).encode()


@pytest.fixture(autouse=True)
def google_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own settings counts."""
    monkeypatch.setattr(google_cloud, "_process", google_cloud._Process())
    for name in ("CLOUD_ML_REGION", "CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("ANTHROPIC_VERTEX_PROJECT_ID", "shop")


class TestVertexProvider(ProviderContract, TextStreamContract, VendorBoundsContract):
    no_content = (b": keepalive\n\n", b"\n", b"id: 1\n", b'event: ping\ndata: {"type": "ping"}\n\n')

    def provider(self) -> Provider:
        return VertexProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_VERTEX_BASE_URL", f"{url}/v1/")
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


def ask(connection: Connection, **options: Any) -> str:
    request = ModelRequest(MODEL, "", [UserMessage("hello", 0)], options=options, connection=connection)
    return text_of(build(VertexProvider().stream(request, Cancellation())))


def test_the_body_is_anthropics_with_the_version_and_the_model_in_the_url() -> None:
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        assert ask(Connection(f"{server.url}/v1", lambda: "token-1"), betas="one,two") == "hi"
    (request,) = server.requests
    assert request.path == (f"/v1/projects/shop/locations/global/publishers/anthropic/models/{MODEL}:streamRawPredict")
    assert request.body == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "stream": True,
    }
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.headers["anthropic-beta"] == "one,two"


@pytest.mark.parametrize(
    ("url", "region", "sent"),
    [
        (None, "", "https://aiplatform.googleapis.com/v1/projects/shop/locations/global/"),
        (None, "us-east5", "https://us-east5-aiplatform.googleapis.com/v1/projects/shop/locations/us-east5/"),
        (None, "eu", "https://aiplatform.eu.rep.googleapis.com/v1/projects/shop/locations/eu/"),
        (
            "https://europe-west1-aiplatform.googleapis.com/v1",
            "us-east5",
            "https://europe-west1-aiplatform.googleapis.com/v1/projects/shop/locations/europe-west1/",
        ),
        (
            "https://gateway.example.com/v1/projects/other/locations/us",
            "us-east5",
            "https://gateway.example.com/v1/projects/other/locations/us/",
        ),
    ],
)
def test_project_and_location_are_those_of_the_address_or_the_settings(
    monkeypatch: pytest.MonkeyPatch, url: str | None, region: str, sent: str
) -> None:
    monkeypatch.setenv("CLOUD_ML_REGION", region)
    request = ModelRequest(MODEL, "", [UserMessage("hi", 0)], connection=Connection(url, "token-1"))
    assert VertexProvider()._call(request, {}).url == f"{sent}publishers/anthropic/models/{MODEL}:streamRawPredict"


# -- Gemini

GEMINI = "gemini-3.8-flash"
GEMINI_PATH = f"publishers/google/models/{GEMINI}:streamGenerateContent?alt=sse"


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def google_vendor(request: Request) -> Reply:
    """Call a function, then answer."""
    if len(request.body["contents"]) == 1:
        return Reply(google_server.frames([{"type": "toolCall", "name": "weather", "arguments": {"city": "Rome"}}]))
    return Reply(google_server.frames("It is sunny."))


def test_gemini_is_asked_on_its_own_wire_and_its_signatures_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    with WireServer(google_vendor) as server:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
        agent = Agent("a", f"vertex:{GEMINI}", tools=[weather], api_key=lambda: "token-1")
        run = AgentKit(agents=[agent]).run("a", "How is the weather?")
    assert (run.status, run.error) == ("completed", None)
    assert run.messages is not None
    answers = [message for message in run.messages if message["role"] == "assistant"]
    assert {(answer["api"], answer["provider"]) for answer in answers} == {("google-generate-content", "vertex")}
    assert run.usage["cost"]["total"] > 0
    first, second = server.requests
    assert first.path == f"/v1/projects/shop/locations/global/{GEMINI_PATH}"
    assert first.headers["authorization"] == "Bearer token-1"
    assert "x-goog-api-key" not in first.headers
    assert second.body["contents"][1]["parts"][0]["thoughtSignature"] == google_server.SIGNATURE


@pytest.mark.parametrize(
    ("url", "location", "sent"),
    [
        (None, "", "https://aiplatform.googleapis.com/v1/projects/shop/locations/global/"),
        (None, "us-east5", "https://us-east5-aiplatform.googleapis.com/v1/projects/shop/locations/us-east5/"),
        (
            "https://europe-west1-aiplatform.googleapis.com/v1beta1/",
            "us-east5",
            "https://europe-west1-aiplatform.googleapis.com/v1beta1/projects/shop/locations/europe-west1/",
        ),
        (
            "https://gateway.example.com/v1/projects/other/locations/us/publishers/google",
            "",
            "https://gateway.example.com/v1/projects/other/locations/us/",
        ),
    ],
)
def test_project_and_location_of_gemini_are_those_of_the_address_or_of_googles_settings(
    monkeypatch: pytest.MonkeyPatch, url: str | None, location: str, sent: str
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", location)
    request = ModelRequest(GEMINI, "", [UserMessage("hi", 0)], connection=Connection(url, "token-1"))
    provider = VertexProvider().wire(request.connection, GEMINI)
    assert provider._call(request).url == f"{sent}{GEMINI_PATH}"  # type: ignore[attr-defined]  # what a request is made of


def test_the_default_credentials_give_gemini_a_token_too(tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: Reply(google_server.frames("hi"))) as server:
        request = ModelRequest(GEMINI, "", [UserMessage("hi", 0)], connection=Connection(server.url))
        assert text_of(build(VertexProvider().stream(request, Cancellation()))) == "hi"
    assert server.requests[0].headers["authorization"] == "Bearer google-token-1"
    assert "/projects/account-project/" in server.requests[0].path


# -- google-auth's credentials


class TokenServer(ThreadingHTTPServer):
    """Google's token endpoint: a new token for each request, or a refusal."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.given = 0
        self.status = 200
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.given += 1
        token = {"access_token": f"google-token-{self.server.given}", "expires_in": 3600, "token_type": "Bearer"}
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(token if self.server.status == 200 else {"error": "invalid_grant"}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TokenServer]:
    server = TokenServer()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "project_id": "account-project",
        "client_email": "shop@example.com",
        "private_key": pem.decode(),
        "token_uri": f"http://127.0.0.1:{server.server_address[1]}/token",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    yield server
    server.shutdown()
    server.server_close()


def test_the_default_credentials_give_one_token_for_many_requests(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_VERTEX_PROJECT_ID")
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        monkeypatch.setenv("ANTHROPIC_VERTEX_BASE_URL", f"{server.url}/v1")
        run = AgentKit(agents=[Agent("a", f"vertex:{MODEL}")]).run("a", "Hi")
        assert ask(Connection()) == "hi"
    assert (run.status, run.messages[-1]["provider"]) == ("completed", "vertex")
    assert run.usage["cost"]["total"] > 0
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer google-token-1"] * 2
    assert "/projects/account-project/" in server.requests[0].path


def test_a_refused_token_is_replaced_and_shown_by_no_error(tokens: TokenServer) -> None:
    refusal = Reply([error_body("bad google-token-1", "UNAUTHENTICATED")], 401, "application/json")
    replies = iter([refusal, Reply(frames("hi"))])
    with WireServer(lambda _: next(replies)) as server:
        with pytest.raises(ProviderError, match=r"bad \*\*\*") as caught:
            ask(Connection(server.url))
        assert ask(Connection(server.url)) == "hi"
    assert "the Google Cloud credentials" in str(caught.value)
    assert server.requests[-1].headers["authorization"] == "Bearer google-token-2"


def test_credentials_that_give_no_token_are_an_error(tokens: TokenServer) -> None:
    tokens.status = 400
    with pytest.raises(ProviderError, match="give no token") as caught:
        ask(Connection("http://127.0.0.1:1"))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("unset", "hint"),
    [("", "GOOGLE_APPLICATION_CREDENTIALS"), ("ANTHROPIC_VERTEX_PROJECT_ID", "ANTHROPIC_VERTEX_PROJECT_ID")],
)
def test_a_missing_setting_is_named_and_not_retried(monkeypatch: pytest.MonkeyPatch, unset: str, hint: str) -> None:
    if unset:
        monkeypatch.delenv(unset)
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "token-1")
    with pytest.raises(ProviderError, match=hint) as caught:
        ask(Connection())
    assert not caught.value.retryable


def test_the_provider_is_found_by_its_name() -> None:
    provider, model = resolve(f"vertex:{MODEL}")
    assert (type(provider), provider.api, model) == (VertexProvider, "anthropic-messages", MODEL)

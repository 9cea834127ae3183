"""The OpenAI adapter against a local server that speaks its wire."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import submit
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers.compat import Compat
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.providers.transport import close_clients
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply
from tests.misbehaving import ErrorAsJsonContract, TextStreamContract
from tests.openai_server import OpenAIServer, error_body, frames
from tests.vendor_bounds import VendorBoundsContract

HELLO = ModelRequest("gpt-test", "", [UserMessage("hello", 0)])
ROOT = Path(__file__).parents[2]


class TestOpenAIProvider(ProviderContract, TextStreamContract, ErrorAsJsonContract, VendorBoundsContract):
    no_content = (
        b": keepalive\n\n",
        b"\r\n",
        b"data:\n\n",
        b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\n',
    )

    def provider(self) -> Provider:
        return OpenAIProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1/")
        monkeypatch.setenv("OPENAI_API_KEY", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


class TestOpenAIProviderWithoutTheFastExtra(TestOpenAIProvider):
    """The same answers, faults and bounds over httpx's own transport."""

    @pytest.fixture(autouse=True)
    def _without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        submit(close_clients()).result(5)
        with monkeypatch.context() as patch:
            patch.setattr("agentkit.providers.transport.AVAILABLE", False)
            yield
        submit(close_clients()).result(5)


def test_the_key_goes_to_the_chat_completions_of_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer(["hi"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
        assert text_of(build(OpenAIProvider().stream(HELLO, Cancellation()))) == "hi"
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == "Bearer sk-1"


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with OpenAIServer(["hi"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        build(OpenAIProvider().stream(HELLO, Cancellation()))
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/openai/deployments/d?api-version=1", "/openai/deployments/d/chat/completions?api-version=1"),
    ],
)
def test_the_path_is_added_before_the_query(monkeypatch: pytest.MonkeyPatch, base: str, path: str) -> None:
    with OpenAIServer(["hi"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}{base}")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        build(OpenAIProvider(compat=Compat(key_header="api-key")).stream(HELLO, Cancellation()))
    assert server.requests[0].path == path
    assert server.requests[0].headers["api-key"] == "sk-1"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("key", "url", "hint"),
    [
        ("", "", "OPENAI_API_KEY"),
        ("sk-ключ", "", "OPENAI_API_KEY"),
        ("sk-1 sk-2", "", "OPENAI_API_KEY"),
        ("sk-1", "localhost/v1", "OPENAI_BASE_URL"),
        ("sk-1", "http://[::1/v1", "OPENAI_BASE_URL"),
    ],
)
def test_a_wrong_setting_is_named_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, key: str, url: str, hint: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ProviderError, match=hint) as caught:
        list(OpenAIProvider().stream(HELLO, Cancellation()))
    assert not caught.value.retryable


def test_an_error_inside_the_stream_hides_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = b'event: error\ndata: {"error": {"message": "bad key sk-99", "code": 401}}\n\n'
    with OpenAIServer(lambda _: Reply([*frames("hi")[:2], failure])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-99")
        with pytest.raises(ProviderError, match=r"bad key \*\*\*"):
            list(OpenAIProvider().stream(HELLO, Cancellation()))


@pytest.mark.parametrize("monkey", ["", "from gevent import monkey; monkey.patch_all()"])
def test_the_scripted_server_is_a_process_and_gevent_can_talk_to_it(tmp_path: Path, monkey: str) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([[{"type": "toolCall", "name": "f", "arguments": {}}], "done"]))
    command = [sys.executable, "-m", "tests.openai_server", "--port", "0", "--script", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            answer = subprocess.run(
                [sys.executable, "-c", f"{monkey}\n{_CLIENT}"],
                env={**os.environ, "OPENAI_BASE_URL": url, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=30,
            )
        finally:
            server.terminate()
    assert answer.stdout.split() == ["Finish", "ToolCallDelta", "late", "hi"], answer.stderr


_CLIENT = """
import threading
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage
from agentkit.providers import resolve
from agentkit.providers.protocol import ModelRequest
provider, model = resolve("openai:m")
parts = list(provider.stream(ModelRequest(model, "", [UserMessage("x", 0)]), Cancellation()))
print(type(parts[-1]).__name__, type(parts[0]).__name__)
cancel = Cancellation()
cancel.cancel("late")
print(cancel.reason, *provider.stream(ModelRequest(model, "", [UserMessage("x", 0)]), cancel), "hi")
"""


def test_httpx_is_not_loaded_before_a_model_is_called() -> None:
    code = "import sys, agentkit.providers, agentkit.providers.scripted; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=30).returncode == 0

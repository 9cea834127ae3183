"""The adapter of Google's generateContent against a local server that speaks its wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, AgentKit, RetryPolicy, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of, text_of_json
from agentkit.errors import ProviderError
from agentkit.providers.connection import Connection
from agentkit.providers.google import GoogleProvider
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests.google_server import SIGNATURE, error_body, event, frames
from tests.misbehaving import ErrorAsJsonContract, TextStreamContract
from tests.vendor_bounds import VendorBoundsContract

HELLO = ModelRequest("gemini-3.8-flash", "", [UserMessage("hello", 0)])


class TestGoogleProvider(ProviderContract, TextStreamContract, ErrorAsJsonContract, VendorBoundsContract):
    arguments_in_pieces = False
    no_content = (
        b": keepalive\n\n",
        b"\r\n",
        b'data: {"candidates": [{"content": {"role": "model"}, "index": 0}]}\n\n',
        b'data: {"usageMetadata": {"thoughtsTokenCount": 1}, "modelVersion": "gemini-test"}\n\n',
    )

    def provider(self) -> Provider:
        return GoogleProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"{url}/")
        monkeypatch.setenv("GEMINI_API_KEY", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(setting, raising=False)


@pytest.mark.parametrize(
    ("path", "model", "expected"),
    [
        ("", "gemini-3.8-flash", "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"),
        ("/", "models/gemini-3.8-flash", "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"),
        ("/v1alpha/", "m", "/v1alpha/models/m:streamGenerateContent?alt=sse"),
        ("/gateway", "tunedModels/mine", "/gateway/v1beta/tunedModels/mine:streamGenerateContent?alt=sse"),
        ("/v1?team=a", "a b?c", "/v1/models/a%20b%3Fc:streamGenerateContent?team=a&alt=sse"),
        (
            "/v1/projects/p/locations/global/publishers/google",
            "gemini-3.8-flash",
            "/v1/projects/p/locations/global/publishers/google/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
        ),
    ],
)
def test_the_method_of_the_model_is_asked_of_the_base_url(path: str, model: str, expected: str) -> None:
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        request = ModelRequest(
            model, "", [UserMessage("hello", 0)], connection=Connection(server.url + path, "key-1234")
        )
        assert text_of(build(GoogleProvider().stream(request, Cancellation()))) == "hi"
    assert server.requests[0].path == expected
    assert server.requests[0].headers["x-goog-api-key"] == "key-1234"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"GEMINI_API_KEY": " one\n"}, "one"),
        ({"GOOGLE_API_KEY": "two", "GEMINI_API_KEY": "one"}, "two"),
        ({"GOOGLE_API_KEY": " ", "GEMINI_API_KEY": "one"}, "one"),
        ({}, None),
    ],
)
def test_the_key_is_that_of_googles_own_libraries(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], key: str | None
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        build(GoogleProvider().stream(HELLO, Cancellation()))
    assert server.requests[0].headers.get("x-goog-api-key") == key


@pytest.mark.parametrize(("key", "is_bearer"), [("ya29.token-1234", True), ("AIza-key-1234", False)])
def test_access_tokens_of_google_cloud_are_bearer_tokens(key: str, is_bearer: bool) -> None:
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        request = ModelRequest("m", "", [UserMessage("hello", 0)], connection=Connection(server.url, lambda: key))
        build(GoogleProvider().stream(request, Cancellation()))
    headers = server.requests[0].headers
    assert (headers.get("authorization"), headers.get("x-goog-api-key")) == (
        (f"Bearer {key}", None) if is_bearer else (None, key)
    )


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({}, "GEMINI_API_KEY"),
        ({"GEMINI_API_KEY": "a b"}, "GEMINI_API_KEY"),
        ({"GOOGLE_API_KEY": "ключ"}, "GOOGLE_API_KEY"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "localhost/v1"}, "GOOGLE_GEMINI_BASE_URL"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "http://[::1/v1"}, "GOOGLE_GEMINI_BASE_URL"),
    ],
)
def test_a_wrong_setting_is_named_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], hint: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProviderError, match=hint) as caught:
        list(GoogleProvider().stream(HELLO, Cancellation()))
    assert not caught.value.retryable


def test_a_refusal_says_how_long_to_wait() -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
    error = {"code": 429, "message": "You exceeded your current quota.", "status": "RESOURCE_EXHAUSTED"}
    body = json.dumps([{"error": {**error, "details": [wait]}}]).encode()
    failure = failure_of(lambda _: Reply([body], 429, "application/json; charset=UTF-8"))
    assert (failure.status, failure.retryable, failure.retry_after) == (429, True, 37.0)
    assert "You exceeded your current quota." in failure.message


def test_an_error_inside_the_stream_is_of_its_status() -> None:
    error = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
    failure = failure_of(lambda _: Reply([*frames("hello there")[:2], event(error=error)]))
    assert (failure.status, failure.retryable) == (503, True)
    assert "The model is overloaded." in failure.message


@pytest.mark.parametrize("indent", [None, 2])
def test_a_gateway_that_sends_all_chunks_as_one_list_is_read(indent: int | None) -> None:
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames("hello there")]
    body = json.dumps(chunks, indent=indent).encode()
    with WireServer(lambda _: Reply([body], content_type="application/json; charset=UTF-8")) as server:
        request = ModelRequest("m", "", [UserMessage("hello", 0)], connection=Connection(server.url, "key-1234"))
        message = build(GoogleProvider().stream(request, Cancellation()))
    assert (text_of(message), message.usage.total_tokens) == ("hello there", 21)


def failure_of(answer: Callable[[Request], Reply]) -> ProviderError:
    with WireServer(answer) as server:
        request = ModelRequest("m", "", [UserMessage("hello", 0)], connection=Connection(server.url, "key-1234"))
        with pytest.raises(ProviderError) as caught:
            list(GoogleProvider().stream(request, Cancellation()))
    return caught.value


# -- a whole run


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


CALLS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Two cities."},
    {"type": "toolCall", "id": "fc-1", "name": "weather", "arguments": {"city": "Rome"}},
    {"type": "toolCall", "id": "fc-2", "name": "weather", "arguments": {"city": "Oslo"}},
]


def google_vendor(request: Request) -> Reply:
    """Call two functions, and refuse, as Gemini 3 does, a request that has lost the signature of the first."""
    calls = [part for content in request.body["contents"] for part in content["parts"] if "functionCall" in part]
    if not calls:
        return Reply(frames(CALLS))
    if "thoughtSignature" not in calls[0]:
        message = "Function call is missing a thought_signature in functionCall parts."
        return Reply([error_body(message)], 400, "application/json")
    return Reply(frames("It is sunny."))


def test_a_run_with_parallel_calls_carries_their_signature_back() -> None:
    with WireServer(google_vendor) as server:
        agent = Agent("a", "google:gemini-3.8-flash", tools=[weather], base_url=server.url, api_key="key-1234")
        run = AgentKit([agent]).run("a", "How is the weather?")
    assert (run.status, run.error) == ("completed", None)
    assert text_of_json((run.messages or [{}])[-1]) == "It is sunny."
    assert server.requests[1].body["contents"] == [
        {"role": "user", "parts": [{"text": "How is the weather?"}]},
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "fc-1", "name": "weather", "args": {"city": "Rome"}},
                    "thoughtSignature": SIGNATURE,
                },
                {"functionCall": {"id": "fc-2", "name": "weather", "args": {"city": "Oslo"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "sunny in Rome"}, "id": "fc-1"}},
                {"functionResponse": {"name": "weather", "response": {"output": "sunny in Oslo"}, "id": "fc-2"}},
            ],
        },
    ]


def test_a_run_begun_by_another_vendor_goes_on_with_gemini() -> None:
    call = {"type": "toolCall", "id": "toolu_1", "name": "weather", "arguments": {"city": "Rome"}}
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": [call], "api": "anthropic-messages", "provider": "anthropic", "model": "m"},
        {
            "role": "toolResult",
            "toolCallId": "toolu_1",
            "toolName": "weather",
            "content": [{"type": "text", "text": "?"}],
        },
        {"role": "user", "content": "And now?"},
    ]
    with WireServer(google_vendor) as server:
        agent = Agent("a", "google:gemini-3.8-flash", tools=[weather], base_url=server.url, api_key="key-1234")
        run = AgentKit([agent]).run("a", messages=history)
    assert (run.status, run.error) == ("completed", None)
    assert text_of_json((run.messages or [{}])[-1]) == "It is sunny."


def test_an_answer_that_is_a_signature_alone_is_empty_and_asked_for_again() -> None:
    silent = {"content": {"parts": [{"text": "", "thoughtSignature": SIGNATURE}]}, "finishReason": "STOP"}
    replies = iter([Reply([event(candidates=[silent])]), Reply(frames("Here I am."))])
    with WireServer(lambda _: next(replies)) as server:
        agent = Agent("a", "google:m", base_url=server.url, api_key="key-1234", retry=RetryPolicy(base=0.01))
        run = AgentKit([agent]).run("a", "hello")
    assert (run.status, run.error, len(server.requests)) == ("completed", None, 2)
    assert text_of_json((run.messages or [{}])[-1]) == "Here I am."

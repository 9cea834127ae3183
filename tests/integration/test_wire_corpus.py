"""Recordings of real vendors, where a folder with them is at hand: AGENTKIT_WIRE_CORPUS names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.messages import AssistantBlock, ContentBlock, Message, UserMessage
from agentkit.core.struct import check, to_json
from agentkit.errors import ProviderError
from agentkit.providers import anthropic
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.failures import status_error
from agentkit.providers.openai import decode
from agentkit.providers.protocol import Finish, ModelRequest, Part, ToolSpec
from agentkit.testing.provider_contract import build
from tests.histories import assistant
from tests.sse_cuts import events_of

CORPUS = os.environ.get("AGENTKIT_WIRE_CORPUS", "")
EXPECTED: dict[str, Any] = json.loads(Path(CORPUS, "expected.json").read_text()) if CORPUS else {}
ANTHROPIC = {name: expected for name, expected in EXPECTED.items() if expected["kind"] == "anthropic"}
OPENAI = {name: expected for name, expected in EXPECTED.items() if expected["kind"] == "openai"}

pytestmark = pytest.mark.skipif(not CORPUS, reason="AGENTKIT_WIRE_CORPUS is not set")


def joined(content: list[Any], kind: str) -> str:
    return "".join(block[kind] for block in content if block["type"] == kind)


def arguments_of(block: Any) -> Any:
    return f"INVALID:{block['rawArguments']}" if "rawArguments" in block else block["arguments"]


@pytest.mark.parametrize("step", [0, 1, 13])
@pytest.mark.parametrize("name", sorted(name for name in OPENAI if name.endswith(".sse")))
def test_a_recorded_stream_of_an_openai_compatible_server_decodes_as_expected(name: str, step: int) -> None:
    expected, body = OPENAI[name], Path(CORPUS, name).read_bytes()
    pieces = [body[at : at + step] for at in range(0, len(body), step)] if step else [body]
    parts: list[Part] = []
    if expected["error"]:
        with pytest.raises(ProviderError) as caught:
            parts.extend(decode(events_of(*pieces), "openai"))
        assert expected["error"]["message"] in caught.value.message
        return
    message = to_json(build(decode(events_of(*pieces), "openai")))
    calls = [block for block in message["content"] if block["type"] == "toolCall"]
    assert joined(message["content"], "text") == (expected["text"] or "") + expected["refusal"]
    assert joined(message["content"], "thinking") == expected["thinking"]
    assert [(call["id"], call["name"], arguments_of(call)) for call in calls] == [
        (tool["id"], tool["name"], tool["args"] or {}) for tool in expected["tools"]
    ]
    whole = "toolUse" if calls else "stop"
    assert message["stopReason"] == ("length" if expected["stop"] == "length" else whole)
    usage, counts = message["usage"], expected["usage"] or {}
    assert usage["input"] + usage["cacheRead"] == counts.get("prompt_tokens", 0)
    assert usage["cacheRead"] == (counts.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    # xAI counts its reasoning beside the completion, and in the total.
    beside = counts.get("total_tokens", 0) - counts.get("prompt_tokens", 0)
    assert usage["output"] == max(counts.get("completion_tokens", 0), beside)


@pytest.mark.parametrize("name", sorted(name for name in OPENAI if "_error_" in name and name.endswith(".json")))
def test_a_recorded_refusal_keeps_the_vendors_message(name: str) -> None:
    expected = OPENAI[name]
    body, status = expected["body"], expected["status"]
    error = status_error(
        "openai", status, expected.get("headers") or {}, json.dumps(body), key_setting="THE_KEY", url_setting="THE_URL"
    )
    inner = body.get("error", body)
    assert (inner.get("message") or inner.get("detail"))[:400] in error.message
    assert error.retryable is (status == 429 or status >= 500)
    if status == 401:
        assert error.internal == "check THE_KEY"
    if "context" in json.dumps(body):
        assert "shorten" in error.message


# -- Anthropic

STOPS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "toolUse"}
FAILS = {"refusal": "refused to answer", None: "before the answer was complete"}


@pytest.mark.parametrize("step", [0, 1, 13])
@pytest.mark.parametrize("name", sorted(name for name in ANTHROPIC if name.endswith(".sse")))
def test_a_recorded_stream_of_anthropic_decodes_as_expected(name: str, step: int) -> None:
    expected, body = ANTHROPIC[name], Path(CORPUS, name).read_bytes()
    pieces = [body[at : at + step] for at in range(0, len(body), step)] if step else [body]
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=0)
    parts: list[Part] = []
    failure: ProviderError | None = None
    try:
        for part in anthropic.decode(events_of(*pieces), "anthropic"):
            parts.append(part)
            builder.feed(part)
    except ProviderError as error:
        failure = error
    builder.finish()
    message = to_json(builder.message(stop_reason="error" if failure else None))
    assert bool(failure) is (expected["stop"] in FAILS)
    if failure:
        assert (expected["error"]["message"] if expected["error"] else FAILS[expected["stop"]]) in failure.message
        assert failure.retryable is (expected["stop"] != "refusal")
    calls = [block for block in message["content"] if block["type"] == "toolCall"]
    assert joined(message["content"], "text") == expected["text"]
    assert joined(message["content"], "thinking") == expected["thinking"]
    assert [(call["id"], call["name"], arguments_of(call)) for call in calls] == [
        (tool["id"], tool["name"], tool["args"] or {}) for tool in expected["tools"]
    ]
    signatures = [block.get("signature", "") for block in message["content"] if block["type"] == "thinking"]
    assert [len(value) for value in signatures if not value.startswith("redacted:")] == expected["signature_lengths"]
    assert sum(value.startswith("redacted:") for value in signatures) == expected["blocks"].count("redacted_thinking")
    if not failure:
        usage, counts = message["usage"], expected["usage"]
        assert message["stopReason"] == STOPS[expected["stop"]]
        assert [usage["input"], usage["output"]] == [counts["input_tokens"], counts["output_tokens"]]
        assert usage["cacheRead"] == counts["cache_read_input_tokens"]
        assert usage["cacheWrite"] == counts["cache_creation_input_tokens"]
        assert isinstance(parts[-1], Finish)
        assert parts[-1].model == expected["model"]


@pytest.mark.parametrize("name", sorted(name for name in ANTHROPIC if "_error_" in name and name.endswith(".json")))
def test_a_recorded_refusal_of_anthropic_keeps_its_message(name: str) -> None:
    body, status, headers = (ANTHROPIC[name][key] for key in ("body", "status", "headers"))
    error = status_error("anthropic", status, headers, json.dumps(body), key_setting="THE_KEY", url_setting="THE_URL")
    assert body["error"]["message"] in error.message
    assert not error.retryable
    assert "shorten" in error.message if "too long" in error.message else "shorten" not in error.message
    assert {401: "THE_KEY", 404: "the model's name"}.get(status, "") in (error.internal or "")


def recorded_requests() -> list[str]:
    """What Anthropic was sent, but for one with a document, which the protocol's messages cannot carry."""
    paths = Path(CORPUS).glob("anthropic_*.request.json") if CORPUS else []
    return sorted(path.name for path in paths if '"document"' not in path.read_text())


def blocks_of(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def asked(body: dict[str, Any]) -> ModelRequest:
    """The request of ours that should become `body`."""
    messages: list[Message] = []
    for turn in body["messages"]:
        if turn["role"] == "user":
            messages.append(UserMessage(check(turn["content"], str | list[ContentBlock]), 0))
        else:
            messages.append(assistant(*check(turn["content"], list[AssistantBlock])))
    system = body.get("system", [{"text": ""}])[0]
    ours = [tool for tool in body.get("tools", []) if "input_schema" in tool]
    options = {name: value for name, value in body.items() if name not in ("model", "messages", "system", "stream")}
    options["tools"] = [tool for tool in body.get("tools", []) if tool not in ours]
    return ModelRequest(
        body["model"],
        system["text"],
        messages,
        [ToolSpec(tool["name"], tool["description"], tool["input_schema"]) for tool in ours],
        {name: value for name, value in options.items() if value},
        instructions_cache="short" if "cache_control" in system else None,
    )


@pytest.mark.parametrize("name", recorded_requests())
def test_we_send_what_anthropic_was_seen_to_accept(name: str) -> None:
    accepted = json.loads(Path(CORPUS, name).read_text())
    messages = [{**turn, "content": blocks_of(turn["content"])} for turn in accepted["messages"]]
    assert anthropic.build_request(asked(accepted)) == {**accepted, "messages": messages, "stream": True}

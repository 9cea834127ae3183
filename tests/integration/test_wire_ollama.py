"""Recordings of Ollama, as in `test_wire_corpus`, and whether every recording there has its test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from httpx_sse import ServerSentEvent

from agentkit.core.messages import Usage
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers import ollama, openai
from agentkit.providers.failures import status_error
from agentkit.providers.protocol import Finish, Part
from agentkit.testing.provider_contract import build
from tests.integration.test_wire_corpus import ANTHROPIC, CORPUS, EXPECTED, OPENAI, joined
from tests.ndjson_cuts import lines_of

OLLAMA = {name: expected for name, expected in EXPECTED.items() if expected["kind"] == "ollama"}
FILTERED = "azure_content_filter.json"

pytestmark = pytest.mark.skipif(not CORPUS, reason="AGENTKIT_WIRE_CORPUS is not set")


@pytest.mark.parametrize("step", [0, 1, 13])
@pytest.mark.parametrize("name", sorted(name for name in OLLAMA if name.endswith(".ndjson")))
def test_a_recorded_stream_of_ollama_decodes_as_expected(name: str, step: int) -> None:
    expected, body = OLLAMA[name], Path(CORPUS, name).read_bytes()
    pieces = [body[at : at + step] for at in range(0, len(body), step)] if step else [body]
    parts: list[Part] = []
    if expected["error"]:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            parts.extend(ollama.decode(lines_of(*pieces)))
        assert caught.value.retryable
        parts.append(Finish("stop", Usage.of()))
        assert joined(to_json(build(parts).content), "text") == expected["text"]
        return
    parts = list(ollama.decode(lines_of(*pieces)))
    message = to_json(build(parts))
    calls = [block for block in message["content"] if block["type"] == "toolCall"]
    assert joined(message["content"], "text") == expected["text"]
    assert joined(message["content"], "thinking") == expected["thinking"]
    assert [(call["id"], call["name"], call["arguments"]) for call in calls] == [
        (tool["id"], tool["name"], tool["args"]) for tool in expected["tools"]
    ]
    assert message["stopReason"] == ("length" if expected["stop"] == "length" else "toolUse" if calls else "stop")
    assert message["usage"]["input"] == expected["usage"]["prompt_eval_count"]
    assert message["usage"]["output"] == expected["usage"]["eval_count"]
    assert isinstance(parts[-1], Finish)
    assert parts[-1].model == expected["model"]


@pytest.mark.parametrize("name", sorted(name for name in OLLAMA if name.endswith(".json")))
def test_a_recorded_refusal_of_ollama_keeps_its_message(name: str) -> None:
    body, status = OLLAMA[name]["body"], OLLAMA[name]["status"]
    error = status_error("ollama", status, {}, json.dumps(body), key_setting="", url_setting="OLLAMA_HOST")
    assert body["error"] in error.message
    assert error.internal == "check the model's name and OLLAMA_HOST"
    assert not error.retryable


def test_a_filtered_answer_without_a_message_is_a_named_error() -> None:
    event = ServerSentEvent(data=json.dumps(EXPECTED[FILTERED]["body"]))
    with pytest.raises(ProviderError, match="content filtered") as caught:
        list(openai.decode([event], "azure"))
    assert not caught.value.retryable


def test_every_recording_is_decoded_by_a_test() -> None:
    def streamed_or_refused(recordings: dict[str, Any], ending: str) -> set[str]:
        return {name for name in recordings if name.endswith(ending) or "_error_" in name}

    covered = streamed_or_refused(OPENAI, ".sse") | streamed_or_refused(ANTHROPIC, ".sse")
    covered |= streamed_or_refused(OLLAMA, ".ndjson") | {FILTERED}
    assert sorted(covered) == sorted(EXPECTED)
    assert len(covered) >= 66

"""Recordings of real vendors, where a folder with them is at hand: AGENTKIT_WIRE_CORPUS names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import ProviderError
from agentkit.providers.base import Part
from agentkit.providers.failures import status_error
from agentkit.providers.openai import decode
from tests.providers_contract import build
from tests.sse_cuts import events_of

CORPUS = os.environ.get("AGENTKIT_WIRE_CORPUS", "")
EXPECTED: dict[str, Any] = json.loads(Path(CORPUS, "expected.json").read_text()) if CORPUS else {}
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
    message = build(decode(events_of(*pieces), "openai"))
    calls = [block for block in message["content"] if block["type"] == "toolCall"]
    assert joined(message["content"], "text") == (expected["text"] or "") + expected["refusal"]
    assert joined(message["content"], "thinking") == expected["thinking"]
    assert [(call["id"], call["name"], arguments_of(call)) for call in calls] == [
        (tool["id"], tool["name"], tool["args"] or {}) for tool in expected["tools"]
    ]
    whole = "toolUse" if calls else "stop"
    assert message["stopReason"] == ("length" if expected["stop"] == "length" else whole)
    usage, given = message["usage"], expected["usage"] or {}
    assert usage["input"] + usage["cacheRead"] == given.get("prompt_tokens", 0)
    assert usage["cacheRead"] == (given.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    assert usage["output"] == given.get("completion_tokens", 0)


@pytest.mark.parametrize("name", sorted(name for name in OPENAI if "_error_" in name and name.endswith(".json")))
def test_a_recorded_refusal_keeps_the_vendors_words(name: str) -> None:
    expected = OPENAI[name]
    body, status = expected["body"], expected["status"]
    error = status_error(
        "openai", status, expected.get("headers") or {}, json.dumps(body), key_setting="THE_KEY", url_setting="THE_URL"
    )
    inner = body.get("error", body)
    assert (inner.get("message") or inner.get("detail"))[:400] in error.message
    assert error.retryable is (status == 429 or status >= 500)
    if status == 401:
        assert "THE_KEY" in error.message
    if "context" in json.dumps(body):
        assert "shorten" in error.message

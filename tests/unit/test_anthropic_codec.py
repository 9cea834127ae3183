"""The answers of the Anthropic adapter: events in, parts out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.messages import UserMessage
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.anthropic import EventDecoder, build_request, decode
from agentkit.providers.protocol import Finish, ModelRequest
from agentkit.testing.provider_contract import build
from tests.sse_cuts import events_of

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())

# -- the answer


def check(name: str, *pieces: bytes) -> None:
    expected = EXPECTED[name]
    if "error" in expected:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            list(decode(events_of(*pieces), "anthropic"))
        assert caught.value.retryable is expected["retryable"]
        assert caught.value.vendor == "anthropic"
        return
    message = build(decode(events_of(*pieces), "anthropic"))
    usage = message.usage
    assert to_json(message.content) == expected["content"]
    assert message.stop_reason == expected["stopReason"]
    assert [usage.input, usage.cache_read, usage.cache_write, usage.output] == expected["usage"]
    assert usage.total_tokens == sum(expected["usage"])


def test_every_golden_transcript_has_an_expectation() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.sse")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_transcript_decodes_the_same_wherever_it_is_cut(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    check(name, body)
    check(name, *(body[at : at + 1] for at in range(len(body))))
    for at in range(1, len(body)):
        check(name, body[:at], body[at:])


def test_a_transcript_that_ends_before_its_stop_reason_is_a_retryable_error() -> None:
    body = (GOLDEN / "parallel_tools.sse").read_bytes()
    finished = body.index(b"\n\n", body.index(b"event: message_delta"))
    for at in range(0, finished, 3):
        with pytest.raises(ProviderError, match="before the answer was complete") as caught:
            list(decode(events_of(body[:at]), "anthropic"))
        assert caught.value.retryable
    for at in range(finished, len(body)):
        assert isinstance(list(decode(events_of(body[:at]), "anthropic"))[-1], Finish)


def test_thinking_comes_back_as_it_was_sent() -> None:
    answer = build(decode(events_of((GOLDEN / "thinking_twice_redacted_and_omitted.sse").read_bytes()), "anthropic"))
    answer.api, answer.provider, answer.model = "anthropic-messages", "anthropic", "m"
    sent = build_request(ModelRequest("m", "", [UserMessage("hi", 0), answer]))["messages"][1]["content"]
    assert sent[:-1] == [
        {"type": "thinking", "thinking": "one", "signature": "QQ=="},
        {"type": "redacted_thinking", "data": "UkVE"},
        {"type": "redacted_thinking", "data": "QUNU"},
        {"type": "thinking", "thinking": "", "signature": "T01JVA=="},
        {"type": "thinking", "thinking": "two", "signature": "Qg=="},
    ]


def test_the_finish_names_the_model_that_answered() -> None:
    finish = list(decode(events_of((GOLDEN / "text.sse").read_bytes()), "anthropic"))[-1]
    assert isinstance(finish, Finish)
    assert finish.model == "golden-1"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message_start", "message": "x"},
        {"type": "content_block_start", "index": 0, "content_block": ["x"]},
        {"type": "content_block_delta", "index": [0], "delta": {}},
        {"type": "message_delta", "usage": 5},
    ],
)
def test_an_event_of_an_unknown_shape_is_a_provider_error(event: Any) -> None:
    with pytest.raises(ProviderError, match="unknown shape"):
        EventDecoder().feed(event)

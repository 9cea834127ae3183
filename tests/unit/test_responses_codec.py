"""The answers of OpenAI's Responses API: events in, parts out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.openai_responses import ResponseDecoder, decode
from agentkit.providers.protocol import Finish
from agentkit.testing.provider_contract import build
from tests.sse_cuts import events_of

GOLDEN = Path(__file__).parents[1] / "golden" / "openai-responses"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "a"}
WHOLE = [name for name, expected in EXPECTED.items() if "error" not in expected]


def check(name: str, *pieces: bytes) -> None:
    expected = EXPECTED[name]
    if "error" in expected:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            list(decode(events_of(*pieces), "openai"))
        assert caught.value.retryable is expected["retryable"]
        assert caught.value.vendor == "openai"
        return
    message = build(decode(events_of(*pieces), "openai"))
    usage = message.usage
    assert to_json(message.content) == expected["content"]
    assert message.stop_reason == expected["stopReason"]
    assert [usage.input, usage.cache_read, usage.output] == expected["usage"]


def test_every_golden_transcript_has_an_expectation() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.sse")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_transcript_decodes_the_same_wherever_it_is_cut(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    check(name, body)
    check(name, *(body[at : at + 1] for at in range(len(body))))
    for at in range(1, len(body), 13):
        check(name, body[:at], body[at:])


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"whole_response_alone.sse"}))
def test_a_transcript_that_ends_before_its_last_event_is_a_retryable_error(name: str) -> None:
    events = (GOLDEN / name).read_bytes().removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[:-1]
    for count in range(len(events)):
        with pytest.raises(ProviderError, match="before the answer was complete") as caught:
            list(decode(events_of(b"\n\n".join([*events[:count], b""])), "openai"))
        assert caught.value.retryable


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"no_indexes_and_no_ends_of_items.sse"}))
def test_the_whole_response_says_the_same_in_place_of_a_stream(name: str) -> None:
    """What a server sends that does not stream: the response of the last event, as an object of its own."""
    last = (GOLDEN / name).read_bytes().removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[-2]
    response = {"object": "response", **json.loads(last.partition(b"data: ")[2])["response"]}
    decoder = ResponseDecoder("openai")
    message = build([*decoder.feed(response), *decoder.finish()])
    assert to_json(message.content) == EXPECTED[name]["content"]
    assert message.stop_reason == EXPECTED[name]["stopReason"]


def test_the_finish_names_the_model_that_answered() -> None:
    finish = list(decode(events_of((GOLDEN / "text.sse").read_bytes()), "openai"))[-1]
    assert isinstance(finish, Finish)
    assert finish.model == "golden-1"


def test_what_follows_the_last_event_is_not_read() -> None:
    body = (GOLDEN / "text.sse").read_bytes()
    assert build(decode(events_of(body + b"data: {\n\n"), "openai")).stop_reason == "stop"


def test_a_failure_carries_what_the_vendor_had_counted() -> None:
    with pytest.raises(ProviderError) as caught:
        list(decode(events_of((GOLDEN / "failed.sse").read_bytes()), "openai"))
    assert caught.value.usage is not None
    assert (caught.value.usage.input, caught.value.usage.cache_read, caught.value.usage.output) == (12, 8, 5)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_item.added", "item": None},
        {"type": "response.output_item.added", "item": {"type": 5}},
        {"type": "response.output_item.done", "item": "message"},
        {"type": "response.output_item.done", "item": {"type": "message", "content": [7]}},
        {"type": "response.output_item.done", "item": {"type": "reasoning", "summary": 7}},
        {"type": "response.output_text.delta", "delta": {"text": "x"}},
        {"type": "response.content_part.done", "part": []},
        {"type": "response.completed", "response": []},
        {"type": "response.completed", "response": {"output": {"a": 1}}},
        {"type": "response.completed"},
    ],
)
def test_an_event_of_an_unknown_shape_is_a_provider_error(event: Any) -> None:
    with pytest.raises(ProviderError, match="unknown shape"):
        ResponseDecoder().feed(event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.queued", "response": {"status": "queued"}},
        {"type": "response.image_generation_call.partial_image", "partial_image_b64": "aGk=", "output_index": 0},
        {"type": "response.of_2030", "item": 7},
        {},
    ],
)
def test_an_event_of_an_unknown_type_is_passed_over(event: Any) -> None:
    decoder = ResponseDecoder()
    assert decoder.feed(event) == []
    assert not decoder.complete


@pytest.mark.parametrize("output", [[], [REASONING], [REASONING, REASONING], [{"type": "message", "content": []}]])
def test_reasoning_without_words_is_no_answer(output: list[Any]) -> None:
    decoder = ResponseDecoder()
    parts = decoder.feed({"object": "response", "status": "completed", "output": output})
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=0)
    for part in [*parts, *decoder.finish()]:
        builder.feed(part)
    assert builder.empty


def test_reasoning_without_words_stands_before_what_it_led_to() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    streamed, whole = ResponseDecoder(), ResponseDecoder()
    output = [REASONING, search, {**REASONING, "encrypted_content": "b"}, REASONING, call, REASONING]
    events = [{"type": "response.output_item.done", "item": item, "output_index": at} for at, item in enumerate(output)]
    end = {"type": "response.completed", "response": {"object": "response", "status": "completed", "output": output}}
    for decoder, fed in ((streamed, [*events, end]), (whole, [end])):
        message = build([*(part for event in fed for part in decoder.feed(event)), *decoder.finish()])
        kept = [(block.provider_data or {}).get("item", {}) for block in message.content]
        assert [item.get("encrypted_content") or item.get("type") for item in kept] == [
            "a",
            "web_search_call",
            "b",
            "a",
            None,
        ]


@pytest.mark.parametrize(
    ("problem", "retryable"),
    [
        ({"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}, True),
        ({"code": "Throttling", "message": "Slow down."}, True),
        ({"object": "error", "message": "Slow down.", "type": "rate_limit_error"}, True),
    ],
)
def test_an_error_in_place_of_events_is_one(problem: Any, retryable: bool) -> None:
    with pytest.raises(ProviderError, match="Slow down") as caught:
        ResponseDecoder("openai").feed(problem, "message")
    assert caught.value.retryable is retryable


def test_arguments_that_are_an_object_are_written_as_json() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"x": 1}}
    decoder = ResponseDecoder()
    parts = decoder.feed({"object": "response", "status": "completed", "output": [call]})
    assert to_json(build([*parts, *decoder.finish()]).content) == [
        {"type": "toolCall", "id": "c", "name": "f", "arguments": {"x": 1}}
    ]


def test_what_a_call_must_repeat_stands_beside_it() -> None:
    caller = {"type": "program", "caller_id": "p1"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n", "caller": caller}
    decoder = ResponseDecoder()
    parts = decoder.feed({"object": "response", "status": "completed", "output": [call]})
    [block] = build([*parts, *decoder.finish()]).content
    assert block.provider_data == {"caller": caller, "namespace": "n"}


def test_items_without_an_index_follow_each_other() -> None:
    texts = [{"type": "message", "content": [{"type": "output_text", "text": text}]} for text in ("One.", "Two.")]
    decoder = ResponseDecoder()
    parts = [
        part
        for item in texts
        for event in (
            {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
            {"type": "response.output_text.delta", "delta": item["content"][0]["text"]},
            {"type": "response.output_item.done", "item": item},
        )
        for part in decoder.feed(event)
    ]
    parts += decoder.feed({"type": "response.completed", "response": {"output": texts}})
    assert to_json(build([*parts, *decoder.finish()]).content) == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two."},
    ]

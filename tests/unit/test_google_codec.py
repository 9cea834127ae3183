"""The answers of the Google adapter: events in, parts out, and back as the parts that they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.messages import AssistantMessage, UserMessage
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.google import build_request, decode
from agentkit.providers.protocol import ModelRequest
from agentkit.testing.provider_contract import build
from tests.google_server import event
from tests.sse_cuts import events_of

GOLDEN = Path(__file__).parents[1] / "golden" / "google"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
ANSWERS = sorted(name for name in EXPECTED if "error" not in EXPECTED[name])


def check(name: str, *pieces: bytes) -> None:
    expected = EXPECTED[name]
    if "error" in expected:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            list(decode(events_of(*pieces), "google"))
        assert caught.value.retryable is expected["retryable"]
        assert caught.value.vendor == "google"
        return
    message = build(decode(events_of(*pieces), "google"))
    content, usage = to_json(message.content), message.usage
    assert [
        {**block, "id": "?"} if expects.get("id") == "?" else block for block, expects in _pairs(content, name)
    ] == (expected["content"])
    assert message.stop_reason == expected["stopReason"]
    assert message.provider_data == expected.get("providerData")
    assert [usage.input, usage.cache_read, usage.cache_write, usage.output] == expected["usage"]
    assert usage.total_tokens == sum(expected["usage"])


def _pairs(content: list[Any], name: str) -> list[tuple[Any, Any]]:
    """The blocks with those that are expected, where "?" stands for an id that is made up."""
    expected = EXPECTED[name]["content"]
    assert len(content) == len(expected), content
    return list(zip(content, expected, strict=True))


def test_every_golden_transcript_has_an_expectation() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.sse")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_transcript_decodes_the_same_wherever_it_is_cut(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    check(name, body)
    check(name, *(body[at : at + 1] for at in range(len(body))))
    for at in range(1, len(body), 3):
        check(name, body[:at], body[at:])


def test_a_transcript_that_ends_before_its_finish_reason_is_a_retryable_error() -> None:
    body = (GOLDEN / "parallel_calls_of_which_one_is_signed.sse").read_bytes()
    for at in range(0, body.index(b"finishReason"), 7):
        with pytest.raises(ProviderError, match="before the answer was complete") as caught:
            list(decode(events_of(body[:at]), "google"))
        assert caught.value.retryable


@pytest.mark.parametrize("name", ["blocked_prompt.sse", "finish_safety.sse", "error_in_the_stream.sse"])
def test_what_a_failed_answer_cost_is_counted(name: str) -> None:
    with pytest.raises(ProviderError) as caught:
        list(decode(events_of((GOLDEN / name).read_bytes()), "google"))
    assert caught.value.usage is not None
    assert caught.value.usage.input == 9


# -- what the vendor wants to see again


def parts_of(name: str) -> list[Any]:
    """The parts of a transcript as Google's own libraries keep them: unsigned texts that follow each other are one."""
    parts: list[Any] = []
    for line in (GOLDEN / name).read_text().splitlines():
        if not line.startswith("data: {"):
            continue
        for part in json.loads(line[6:])["candidates"][0]["content"].get("parts", []):
            plain = set(part) == {"text"}
            if plain and parts and set(parts[-1]) == {"text"}:
                parts[-1]["text"] += part["text"]
            elif part != {"text": ""}:
                parts.append(part)
    return parts


def replayed(message: AssistantMessage, model: str = "gemini-3.8-flash") -> list[Any]:
    request = ModelRequest(model, "", [UserMessage("hi", 0), message, UserMessage("go on", 0)])
    contents = build_request(request)["contents"]
    return [part for content in contents if content["role"] == "model" for part in content["parts"]]


def answer(name: str, model: str = "gemini-3.8-flash") -> AssistantMessage:
    message = build(decode(events_of((GOLDEN / name).read_bytes()), "google"))
    message.api, message.provider, message.model = "google-generate-content", "google", model
    return message


@pytest.mark.parametrize(
    "name",
    [
        "text.sse",
        "signed_text_in_the_middle.sse",
        "code_execution.sse",
        "search_and_citations.sse",
        "image.sse",
        "max_tokens.sse",
    ],
)
def test_an_answer_goes_back_as_the_parts_that_it_came_as(name: str) -> None:
    assert replayed(answer(name)) == parts_of(name)


def test_calls_go_back_with_their_ids_and_signatures_and_without_unsigned_thoughts() -> None:
    name = "parallel_calls_of_which_one_is_signed.sse"
    assert replayed(answer(name)) == [part for part in parts_of(name) if not part.get("thought")]


def test_signed_thoughts_go_back_as_one_part() -> None:
    assert replayed(answer("signed_thinking_alone.sse")) == [
        {"text": "Hm.", "thought": True, "thoughtSignature": "U0lHMg=="},
        {"text": "Yes."},
    ]


def test_a_made_up_id_does_not_go_back() -> None:
    calls = [part for part in replayed(answer("calls_in_one_chunk_without_ids.sse")) if "functionCall" in part]
    assert calls == [
        {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"},
        {"functionCall": {"name": "look", "args": {}}},
    ]


def test_another_model_of_googles_gets_no_signatures_but_the_one_that_skips_the_check() -> None:
    assert replayed(answer("text.sse"), "gemini-3-pro") == [{"text": "Grüezi 🏔 dort"}]
    assert replayed(answer("code_execution.sse"), "gemini-3-pro") == [{"text": "I compute."}, {"text": "It is 4."}]
    calls = replayed(answer("parallel_calls_of_which_one_is_signed.sse"), "gemini-3-pro")[1:]
    assert [call.get("thoughtSignature") for call in calls] == ["skip_thought_signature_validator", None]
    calls = replayed(answer("parallel_calls_of_which_one_is_signed.sse"), "gemini-2.5-pro")[1:]
    assert [call.get("thoughtSignature") for call in calls] == [None, None]


def test_many_small_parts_are_decoded_in_time_that_grows_with_their_number() -> None:
    parts = [{"text": "a", "thoughtSignature": "QQ=="}, {"videoMetadata": {}}] * 20_000
    end = event(candidates=[{"content": {"parts": [*parts[::2], *parts[1::2]]}, "finishReason": "STOP"}])
    message = build(decode(events_of(end), "google"))
    assert len(message.content) == 2

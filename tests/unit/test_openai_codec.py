"""The pure half of the OpenAI adapter: requests out, chunks in, and what failures say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agentkit.errors import ProviderError
from agentkit.messages import AssistantMessage, Message, ToolResultMessage, image, text, user_message, zero_usage
from agentkit.providers.base import Finish, ModelRequest, ToolSpec
from agentkit.providers.failures import retry_after, status_error, stream_error, vendor_message
from agentkit.providers.openai import ChunkDecoder, build_request, decode
from tests.providers_contract import build
from tests.sse_cuts import events_of

GOLDEN = Path(__file__).parents[1] / "golden" / "openai"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


def assistant(*content: Any, stop: str = "stop") -> AssistantMessage:
    return cast(
        AssistantMessage,
        {
            "role": "assistant",
            "content": list(content),
            "api": "",
            "provider": "",
            "model": "",
            "usage": zero_usage(),
            "stopReason": stop,
            "timestamp": 0,
        },
    )


def call(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "toolCall", "id": call_id, "name": "look", "arguments": arguments}


def result(call_id: str, *content: Any) -> ToolResultMessage:
    return {
        "role": "toolResult",
        "toolCallId": call_id,
        "toolName": "look",
        "content": list(content),
        "isError": False,
        "timestamp": 0,
    }


def sent(*messages: Message, **fields: Any) -> list[Any]:
    return cast(list[Any], build_request(ModelRequest("m", "", messages, **fields))["messages"])


# -- the request -----------------------------------------------------------------------------------


def test_a_request_streams_with_usage_and_carries_instructions_tools_and_options() -> None:
    schema = {"type": "object", "properties": {"cache": {"type": "string"}}}
    options = {
        "temperature": 0.5,
        "max_output_tokens": 9,
        "reasoning_effort": "low",
        "read_timeout": 5,
        "stream": False,
    }
    tools = [ToolSpec("look", "Looks.", schema)]
    assert build_request(ModelRequest("m", "Be brief.", [user_message("hi", 0)], tools, options)) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": schema}}],
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_request_without_tools_or_instructions_has_no_such_keys() -> None:
    body = build_request(ModelRequest("m", "", [user_message("hi", 0)], options={"max_tokens": 3}))
    assert sorted(body) == ["max_completion_tokens", "messages", "model", "stream", "stream_options"]


def test_images_become_data_urls_and_cache_marks_stay_behind() -> None:
    message = user_message([{**text("see"), "cache": "long"}, {**image("aGk=", "image/png"), "cache": "short"}], 0)
    message["cache"] = "short"
    assert sent(message) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        }
    ]


def test_tool_calls_and_results_are_sent_back_and_thinking_is_not() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    got = sent(assistant(thinking, text("ok"), call("a", x=1), stop="toolUse"), result("a", text("42")))
    function = {"name": "look", "arguments": '{"x": 1}'}
    assert got == [
        {"role": "assistant", "content": "ok", "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "42"},
    ]


def test_results_follow_their_calls_in_the_calls_order_and_missing_ones_are_made_up() -> None:
    got = sent(
        assistant(call("a"), call("b"), call("c"), stop="toolUse"),
        result("c", text("3")),
        user_message("hurry", 0),
        result("a", text("1")),
    )
    assert [(m["role"], m["content"]) for m in got] == [
        ("assistant", None),
        ("tool", "1"),
        ("tool", "no result"),
        ("tool", "3"),
        ("user", "hurry"),
    ]


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_a_failed_answer_is_left_out_with_the_results_of_its_calls(stop: str) -> None:
    got = sent(user_message("hi", 0), assistant(text("so f"), call("a"), stop=stop), result("a"), user_message("?", 0))
    assert [m["content"] for m in got] == ["hi", "?"]


def test_an_answer_with_nothing_to_send_is_left_out() -> None:
    assert sent(assistant({"type": "thinking", "thinking": "hm"}), user_message("hi", 0)) == [
        {"role": "user", "content": "hi"}
    ]


def test_images_of_results_follow_in_a_user_message() -> None:
    got = sent(assistant(call("a"), call("b"), stop="toolUse"), result("a", image("aGk=", "image/png")), result("b"))
    assert [m["role"] for m in got] == ["assistant", "tool", "tool", "user"]
    assert got[2]["content"] == "(no output)"
    assert got[3]["content"][0]["type"] == "image_url"


def test_arguments_are_sent_as_json_also_where_the_model_wrote_none() -> None:
    got = sent(assistant({**call("a"), "rawArguments": '{"x": "so f'}, stop="length"), user_message("go on", 0))
    assert got[0]["tool_calls"][0]["function"]["arguments"] == "{}"


# -- the answer ------------------------------------------------------------------------------------


def check(name: str, *pieces: bytes) -> None:
    expected = EXPECTED[name]
    if "error" in expected:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            list(decode(events_of(*pieces), "openai"))
        assert caught.value.retryable is expected["retryable"]
        assert caught.value.vendor == "openai"
        return
    message = build(decode(events_of(*pieces), "openai"))
    usage = message["usage"]
    assert message["content"] == expected["content"]
    assert message["stopReason"] == expected["stopReason"]
    assert [usage["input"], usage["cacheRead"], usage["output"]] == expected["usage"]
    assert usage["totalTokens"] == sum(expected["usage"])


def test_every_golden_transcript_has_an_expectation() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.sse")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_transcript_decodes_the_same_wherever_it_is_cut(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    check(name, body)
    check(name, *(body[at : at + 1] for at in range(len(body))))
    for at in range(1, len(body)):
        check(name, body[:at], body[at:])


def test_a_transcript_that_ends_before_its_finish_is_a_retryable_error() -> None:
    body = (GOLDEN / "tool_ids_omitted_empty_repeated.sse").read_bytes()
    finished = body.index(b"\n\n", body.index(b'"finish_reason": "tool_calls"')) + 2
    for at in range(0, finished, 3):
        with pytest.raises(ProviderError, match="before the answer was complete") as caught:
            list(decode(events_of(body[:at]), "openai"))
        assert caught.value.retryable
    for at in range(finished, len(body)):
        assert isinstance(list(decode(events_of(body[:at]), "openai"))[-1], Finish)


def test_the_finish_names_the_model_that_answered() -> None:
    finish = list(decode(events_of((GOLDEN / "text.sse").read_bytes()), "openai"))[-1]
    assert isinstance(finish, Finish)
    assert finish.model == "golden-1"


def test_other_choices_than_the_first_are_not_ours() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]}) == []
    with pytest.raises(ProviderError):
        decoder.finish()


@pytest.mark.parametrize("chunk", [{"choices": 5}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}])
def test_a_chunk_of_an_unknown_shape_is_a_provider_error(chunk: Any) -> None:
    with pytest.raises(ProviderError, match="unknown shape"):
        ChunkDecoder().feed(chunk)


def test_tool_calls_without_index_or_id_are_told_apart_by_their_names() -> None:
    decoder = ChunkDecoder()
    pieces = [{"name": "f", "arguments": '{"x"'}, {"arguments": ":1}"}, {"name": "g", "arguments": {"y": 2}}]
    parts = [
        part
        for piece in pieces
        for part in decoder.feed({"choices": [{"delta": {"tool_calls": [{"function": piece}]}}]})
    ]
    decoder.feed({"choices": [{"delta": {}, "finish_reason": "function_call"}]})
    content = build([*parts, *decoder.finish()])["content"]
    assert [(block["name"], block["arguments"]) for block in content] == [("f", {"x": 1}), ("g", {"y": 2})]


def test_a_fresh_id_with_every_piece_begins_no_new_call() -> None:
    decoder = ChunkDecoder()
    names = [("1", "f", '{"x"'), ("2", None, ":1"), ("3", "", "}")]
    parts = [
        part
        for call_id, name, arguments in names
        for part in decoder.feed(
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [
                                {"index": 0, "id": call_id, "function": {"name": name, "arguments": arguments}}
                            ]
                        },
                        "finish_reason": "stop",
                    }
                ]
            }
        )
    ]
    message = build([*parts, *decoder.finish()])
    assert message["content"] == [{"type": "toolCall", "id": "1", "name": "f", "arguments": {"x": 1}}]
    assert message["stopReason"] == "toolUse"


# -- failures --------------------------------------------------------------------------------------


def status(code: int, body: Any, **headers: str) -> ProviderError:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    said = body if isinstance(body, str) else json.dumps(body)
    return status_error("openai", code, given, said, key_setting="THE_KEY", url_setting="THE_URL")


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (401, {"error": {"message": "bad key", "code": "invalid_api_key"}}, ["401", "bad key", "check THE_KEY"]),
        (401, {"detail": "Unauthorized"}, ["Unauthorized", "THE_KEY"]),
        (404, {"error": "no such model"}, ["no such model", "model's name and THE_URL"]),
        (400, {"error": {"message": "too much", "code": "context_length_exceeded"}}, ["too much", "shorten it"]),
        (400, {"error": {"message": "exceeds the available context size"}}, ["shorten it"]),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, ["field required"]),
        (429, {"error": {"message": "failed", "code": 429, "metadata": {"raw": "slow down"}}}, ["failed: slow down"]),
        (502, "<!DOCTYPE html><title>Bad\nGateway</title>" + "x" * 9999, ["HTML page", "Bad"]),
        (500, "", ["openai answered HTTP 500"]),
        (500, "plain words", ["plain words"]),
        (500, {"unheard": "of"}, ["unheard"]),
        (307, "", ["redirects are not followed", "THE_URL"]),
    ],
)
def test_a_status_error_says_what_happened_and_what_to_do(code: int, body: Any, words: list[str]) -> None:
    message = status(code, body).message
    assert all(word in message for word in words), message
    assert len(message) < 700


def test_which_statuses_are_worth_another_try() -> None:
    retryable = {code for code in range(300, 600) if status(code, "").retryable}
    assert retryable == {408, 409, 425, 429, *range(500, 600)}
    assert status(400, "", x_should_retry="true").retryable
    assert not status(529, "", x_should_retry="false").retryable
    assert not status(429, {"error": {"message": "no money", "code": "insufficient_quota"}}).retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    seconds = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert seconds is not None
    assert 3500 < seconds <= 3600


@pytest.mark.parametrize(
    ("problem", "retryable"),
    [
        ({"message": "busy", "type": "overloaded_error"}, True),
        ({"message": "busy", "type": "server_error", "code": None}, True),
        ({"message": "busy", "code": "503"}, True),
        ({"message": "no", "type": "invalid_request_error"}, False),
        ({"message": "no", "code": 400}, False),
        ("out of memory", True),
        ({"code": 1, "message": ""}, True),
        (None, True),
    ],
)
def test_an_error_inside_a_stream_is_retryable_unless_the_request_is_at_fault(problem: Any, retryable: bool) -> None:
    assert stream_error("openai", problem).retryable is retryable


def test_a_vendors_words_may_come_in_any_shape() -> None:
    assert vendor_message({"error": {"message": "a\n  b"}}) == "a b"
    assert vendor_message(["a", {"msg": "b"}, None, 3]) == "a; b; ; 3"

"""The pure half of the OpenAI adapter: requests out, chunks in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from httpx_sse import ServerSentEvent

from agentkit.core.messages import (
    ImageBlock,
    Message,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    UserMessage,
    tool_calls_of,
)
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.compat import Compat, compat_for
from agentkit.providers.openai import ChunkDecoder, build_request, decode
from agentkit.providers.protocol import Finish, ModelRequest, ToolSpec
from agentkit.providers.replay import NO_RESULT
from agentkit.testing.provider_contract import build
from tests.histories import assistant, call, result
from tests.sse_cuts import events_of

GOLDEN = Path(__file__).parents[1] / "golden" / "openai"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


def sent(*messages: Message, **fields: Any) -> list[Any]:
    return cast(list[Any], build_request(ModelRequest("m", "", messages, **fields))["messages"])


OWN: dict[str, Any] = {"api": "openai-completions", "provider": "openai", "model": "m"}


# -- the request


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
    assert build_request(ModelRequest("m", "Be brief.", [UserMessage("hi", 0)], tools, options)) == {
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
    options = {"max_tokens": 3, "tool_choice": "required", "parallel_tool_calls": False}
    body = build_request(ModelRequest("m", "", [UserMessage("hi", 0)], options=options))
    assert sorted(body) == ["max_completion_tokens", "messages", "model", "stream", "stream_options"]


def test_images_become_data_urls_and_cache_marks_stay_behind() -> None:
    message = UserMessage([TextBlock("see", "long"), ImageBlock("aGk=", "image/png", "short")], 0, "short")
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
    thinking = ThinkingBlock("hm", "s")
    got = sent(
        assistant(thinking, TextBlock("ok"), call("a", x=1), stop="toolUse", **OWN), result("a", TextBlock("42"))
    )
    function = {"name": "look", "arguments": '{"x": 1}'}
    assert got == [
        {"role": "assistant", "content": "ok", "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "42"},
    ]


def test_results_follow_their_calls_in_the_calls_order_and_missing_ones_are_made_up() -> None:
    got = sent(
        assistant(call("a"), call("b"), call("c"), stop="toolUse"),
        result("c", TextBlock("3")),
        UserMessage("hurry", 0),
        result("a", TextBlock("1")),
    )
    assert [(m["role"], m["content"]) for m in got] == [
        ("assistant", None),
        ("tool", "1"),
        ("tool", NO_RESULT),
        ("tool", "3"),
        ("user", "hurry"),
    ]


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_a_failed_answer_is_left_out_with_the_results_of_its_calls(stop: StopReason) -> None:
    got = sent(
        UserMessage("hi", 0), assistant(TextBlock("so f"), call("a"), stop=stop), result("a"), UserMessage("?", 0)
    )
    assert [m["content"] for m in got] == ["hi", "?"]


def test_an_answer_with_nothing_to_send_is_left_out() -> None:
    assert sent(assistant(ThinkingBlock("hm"), **OWN), UserMessage("hi", 0)) == [{"role": "user", "content": "hi"}]


def test_images_of_results_follow_in_a_user_message() -> None:
    got = sent(
        assistant(call("a"), call("b"), stop="toolUse"), result("a", ImageBlock("aGk=", "image/png")), result("b")
    )
    assert [m["role"] for m in got] == ["assistant", "tool", "tool", "user"]
    assert got[2]["content"] == "(no output)"
    assert got[3]["content"][0]["type"] == "image_url"


def test_arguments_are_sent_as_json_also_where_the_model_wrote_none() -> None:
    got = sent(
        assistant(ToolCallBlock("a", "look", {}, raw_arguments='{"x": "so f'), stop="length"), UserMessage("go on", 0)
    )
    assert got[0]["tool_calls"][0]["function"]["arguments"] == "{}"


def compatible(compat: Compat, *messages: Message, **fields: Any) -> Any:
    return build_request(ModelRequest("m", "", messages or (UserMessage("hi", 0),), **fields), "openai", compat)


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://me.openai.azure.com/openai/deployments/d?api-version=2024-10-21", "max_completion_tokens"),
        ("https://api.mistral.ai/v1", "max_tokens"),
        ("http://127.0.0.1:8080/v1", "max_tokens"),
        ("https://notapi.openai.com.example/v1", "max_tokens"),
        ("http://[::1/v1", "max_tokens"),
    ],
)
def test_the_name_of_the_token_limit_is_the_servers(url: str, field: str) -> None:
    body = compatible(compat_for(url), options={"max_output_tokens": 9})
    assert [name for name in body if name.startswith("max_")] == [field]


def test_mistral_gets_ids_of_nine_characters_names_in_results_and_no_unknown_keys() -> None:
    mistral = compat_for("https://api.mistral.ai/v1")
    marked = UserMessage("hi", 0, "long")
    body = compatible(mistral, marked, assistant(call("call_1"), stop="toolUse"), result("call_1", TextBlock("42")))
    called = body["messages"][1]["tool_calls"][0]["id"]
    assert called.isalnum()
    assert len(called) == 9
    assert body["messages"][2] == {"role": "tool", "tool_call_id": called, "content": "42", "name": "look"}
    assert sorted(body) == ["messages", "model", "stream"]


def test_deepseek_gets_its_reasoning_back_also_where_there_was_none() -> None:
    deepseek = compat_for("https://api.deepseek.com")
    thinking = ThinkingBlock("hm")
    messages = [
        assistant(thinking, call("a"), stop="toolUse", **OWN),
        assistant(call("b"), stop="toolUse", **OWN),
        assistant(TextBlock("done"), **OWN),
    ]
    got = compatible(deepseek, *messages)["messages"]
    assert [m.get("reasoning_content") for m in got if m["role"] == "assistant"] == ["hm", "", None]


def test_the_reasoning_effort_goes_where_the_server_wants_it() -> None:
    options = {"reasoning_effort": "low", "reasoning": {"exclude": True}}
    openrouter = compatible(compat_for("https://openrouter.ai/api/v1"), options=options)
    assert openrouter["reasoning"] == {"effort": "low", "exclude": True}
    assert "reasoning_effort" not in openrouter
    assert "reasoning_effort" not in compatible(Compat(reasoning_effort=None), options={"reasoning_effort": "low"})


def test_strict_is_sent_where_the_server_takes_it_and_the_schema_allows_it() -> None:
    inner = {"type": "object", "properties": {}, "additionalProperties": False}
    strict = {
        "type": "object",
        "properties": {"type": {"enum": [{"type": "object"}]}, "list": {"type": "array", "items": inner}},
        "required": ["list", "type"],
        "additionalProperties": False,
    }
    lax = {**strict, "required": ["list"]}
    nested = {**strict, "properties": {**strict["properties"], "list": {"items": {"type": "object"}}}}  # type: ignore[dict-item]
    tools = [ToolSpec("a", "", strict), ToolSpec("b", "", lax), ToolSpec("c", "", nested)]
    sent_tools = compatible(Compat(strict_tools=True), tools=tools)["tools"]
    assert [tool["function"].get("strict") for tool in sent_tools] == [True, None, None]
    assert "strict" not in compatible(Compat(), tools=tools)["tools"][0]["function"]


def test_a_server_that_takes_images_in_tool_messages_gets_them_there() -> None:
    messages: list[Message] = [
        assistant(call("a"), stop="toolUse"),
        result("a", TextBlock("see"), ImageBlock("aGk=", "image/png")),
    ]
    got = compatible(Compat(tool_result_images=True), *messages)["messages"]
    assert [part["type"] for part in got[-1]["content"]] == ["text", "image_url"]


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.1-codex-max", "gpt-4.1-2025-04-14"])
def test_a_long_cache_mark_asks_for_a_day_where_the_model_has_that(model: str) -> None:
    message = UserMessage([TextBlock("hi", "long")], 0)
    body = build_request(ModelRequest(model, "", [message]))
    assert body["prompt_cache_retention"] == "24h"
    assert "cache" not in json.dumps(body["messages"])
    assert "prompt_cache_retention" not in build_request(ModelRequest("gpt-4o", "", [message]))


@pytest.mark.parametrize(
    "fields", [{"cache": "auto"}, {"instructions_cache": "short"}, {"tools": [ToolSpec("a", "", {}, cache="short")]}]
)
def test_a_cache_mark_anywhere_gives_the_conversation_a_key_that_stays(fields: dict[str, Any]) -> None:
    start = UserMessage("hi", 0)
    one = build_request(ModelRequest("m", "Be brief.", [start], **fields))
    two = build_request(ModelRequest("m", "Be brief.", [start, assistant(TextBlock("yes")), start], **fields))
    other = build_request(ModelRequest("m", "Be brief.", [UserMessage("ho", 0)], **fields))
    assert one["prompt_cache_key"] == two["prompt_cache_key"] != other["prompt_cache_key"]
    assert "prompt_cache_retention" not in one
    assert '"cache"' not in json.dumps(one)
    explicit = build_request(ModelRequest("m", "", [start], options={"prompt_cache_key": "mine"}, **fields))
    assert explicit["prompt_cache_key"] == "mine"


# -- the answer


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


PLAIN = {
    "object": "chat.completion.chunk",
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
}


@pytest.mark.parametrize("more_of_delta", [{}, {"reasoning": "hm"}, {"refusal": "no"}, {"role": "assistant"}])
@pytest.mark.parametrize(
    "more_of_choice", [{}, {"index": 1}, {"index": None}, {"finish_reason": "stop"}, {"usage": {"prompt_tokens": 3}}]
)
@pytest.mark.parametrize(
    "more",
    [{}, {"usage": {"completion_tokens": 2}}, {"citations": ["x"]}, {"model": "other"}, {"error": {"message": "no"}}],
)
def test_a_chunk_that_brings_more_than_a_text_is_read_whole_wherever_it_comes(
    monkeypatch: pytest.MonkeyPatch, more_of_delta: Any, more_of_choice: Any, more: Any
) -> None:
    [choice] = PLAIN["choices"]
    odd = {**PLAIN, "choices": [{**choice, **more_of_choice, "delta": {"content": "b", **more_of_delta}}], **more}
    events = [ServerSentEvent(data=json.dumps(chunk)) for chunk in (PLAIN, PLAIN, odd, PLAIN)]
    events += [ServerSentEvent(data='{"choices": [{"finish_reason": "stop"}]}'), ServerSentEvent(data="[DONE]")]

    def outcome() -> list[Any] | str:
        try:
            return list(decode(events, "openai"))
        except ProviderError as error:
            return error.message

    quickly = outcome()
    monkeypatch.setattr("agentkit.providers.openai_answer._plain_text", lambda *_: None)
    assert quickly == outcome()


def test_a_transcript_that_ends_before_its_finish_is_a_retryable_error() -> None:
    body = (GOLDEN / "tool_ids_omitted_empty_repeated.sse").read_bytes()
    finished = body.index(b"\n\n", body.index(b'"finish_reason": "tool_calls"'))
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


def test_tool_calls_without_index_or_id_are_separated_by_their_names() -> None:
    decoder = ChunkDecoder()
    pieces = [{"name": "f", "arguments": '{"x"'}, {"arguments": ":1}"}, {"name": "g", "arguments": {"y": 2}}]
    parts = [
        part
        for piece in pieces
        for part in decoder.feed({"choices": [{"delta": {"tool_calls": [{"function": piece}]}}]})
    ]
    decoder.feed({"choices": [{"delta": {}, "finish_reason": "function_call"}]})
    calls = tool_calls_of(build([*parts, *decoder.finish()]))
    assert [(call.name, call.arguments) for call in calls] == [("f", {"x": 1}), ("g", {"y": 2})]


def test_an_id_that_is_a_number_is_taken_as_text() -> None:
    decoder = ChunkDecoder()
    call = {"index": 0, "id": 7, "function": {"name": "f", "arguments": "{}"}}
    parts = decoder.feed({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    assert build([*parts, *decoder.finish()]).content == [ToolCallBlock("7", "f", {})]


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
    assert message.content == [ToolCallBlock("1", "f", {"x": 1})]
    assert message.stop_reason == "toolUse"

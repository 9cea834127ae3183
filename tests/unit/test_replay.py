"""Conversations that one model began and another goes on with."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.core.messages import (
    AssistantMessage,
    Message,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolResultMessage,
    UserMessage,
    text_of,
    tool_calls_of,
)
from agentkit.core.struct import dumps
from agentkit.errors import ConfigurationError
from agentkit.providers import ollama, openai
from agentkit.providers.compat import Compat, compat_for
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.replay import NO_RESULT, prepare
from tests.histories import assistant, call, histories, result

OWN: dict[str, Any] = {"api": "openai-completions", "provider": "openai", "model": "m"}
MISTRAL = "[a-zA-Z0-9]{9}"
ANTHROPIC = "[a-zA-Z0-9_-]{1,64}"
THINKING = ThinkingBlock("hm", "s")


def prepared(*messages: Message, id_pattern: str | None = None) -> list[Any]:
    return list(prepare(messages, **OWN, id_pattern=id_pattern))


def test_own_thinking_stays_signed() -> None:
    message = assistant(THINKING, TextBlock("ok"), **OWN)
    assert prepared(message) == [message]


@pytest.mark.parametrize("key", ["api", "provider", "model"])
def test_thinking_of_another_model_becomes_text_without_its_signature(key: str) -> None:
    (message,) = prepared(assistant(THINKING, TextBlock("ok"), **{**OWN, key: "other"}))
    assert message.content == [TextBlock("<thinking>\nhm\n</thinking>"), TextBlock("ok")]


def test_empty_thinking_of_another_model_and_blank_text_are_left_out() -> None:
    hidden = ThinkingBlock("", "encrypted")
    assert prepared(assistant(hidden, TextBlock("\n\n"), TextBlock("ok")))[0].content == [TextBlock("ok")]
    assert prepared(assistant(hidden, TextBlock(" "))) == []


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_failed_messages_are_left_out_with_the_results_of_their_calls(stop: StopReason) -> None:
    hello = UserMessage("hi", 0)
    assert prepared(hello, assistant(call("a"), stop=stop), result("a", TextBlock("1")), hello) == [hello, hello]


def test_a_result_belongs_to_the_latest_call_of_its_id() -> None:
    got = prepared(
        assistant(call("a"), stop="toolUse"),
        result("a", TextBlock("1")),
        assistant(call("a")),
        result("a", TextBlock("2")),
    )
    assert [type(message) for message in got] == [AssistantMessage, ToolResultMessage] * 2
    assert [text_of(message) for message in got[1::2]] == ["1", "2"]
    assert got[2].content[0].id == got[3].tool_call_id != "a"


def test_missing_results_are_made_up_as_errors_and_orphans_left_out() -> None:
    got = prepared(
        result("z", TextBlock("?")),
        assistant(call("a"), call("b"), stop="toolUse"),
        UserMessage("hurry", 0),
        result("b", TextBlock("2")),
        result("b", TextBlock("again")),
    )
    assert [type(message) for message in got] == [AssistantMessage, ToolResultMessage, ToolResultMessage, UserMessage]
    assert [(text_of(message), message.is_error) for message in got[1:3]] == [(NO_RESULT, True), ("2", False)]


def test_ids_that_the_vendor_refuses_are_replaced_alike_in_call_and_result() -> None:
    got = prepared(assistant(call("call_1"), call("abcdef123")), result("call_1"), id_pattern=MISTRAL)
    first, second = (block.id for block in got[0].content)
    assert re.fullmatch(MISTRAL, first)
    assert second == "abcdef123"
    assert [message.tool_call_id for message in got[1:]] == [first, second]
    assert got == prepared(assistant(call("call_1"), call("abcdef123")), result("call_1"), id_pattern=MISTRAL)


def test_an_id_made_up_never_meets_one_that_comes_later() -> None:
    (made,) = (block.id for block in prepared(assistant(call("call_1")), id_pattern=MISTRAL)[0].content)
    got = prepared(assistant(call("call_1")), assistant(call(made)), id_pattern=MISTRAL)
    assert got[0].content[0].id == made != got[2].content[0].id


def test_a_pattern_that_fits_no_id_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="no tool-call id"):
        prepared(assistant(call("a")), id_pattern="[ü]{3}")


# -- any conversation


@settings(max_examples=300, deadline=None)
@given(histories(), st.sampled_from([None, MISTRAL, ANTHROPIC]))
def test_any_conversation_becomes_one_that_every_vendor_takes(messages: list[Message], pattern: str | None) -> None:
    before = copy.deepcopy(messages)
    got = prepare(messages, **OWN, id_pattern=pattern)
    assert messages == before
    users = [message for message in messages if isinstance(message, UserMessage)]
    assert [message for message in got if isinstance(message, UserMessage)] == users
    ids: Counter[str] = Counter()
    waiting: list[str] = []
    for message in got:
        if isinstance(message, ToolResultMessage):
            assert message.tool_call_id == waiting.pop(0)
            continue
        assert not waiting
        if isinstance(message, AssistantMessage):
            assert message.content
            assert message.stop_reason not in ("error", "aborted")
            waiting = [block.id for block in tool_calls_of(message)]
            ids.update(waiting)
            own = [getattr(message, key) for key in OWN] == list(OWN.values())
            assert own or not any(isinstance(block, ThinkingBlock) for block in message.content)
            assert own or '"signature"' not in dumps(message)
    assert not waiting
    assert set(ids.values()) <= {1}
    assert all(re.fullmatch(pattern or ".+", call_id, re.DOTALL) for call_id in ids)


@settings(max_examples=200, deadline=None)
@given(histories(), histories(), st.sampled_from([None, MISTRAL, ANTHROPIC]))
def test_later_messages_change_no_id_before_them(
    start: list[Message], more: list[Message], pattern: str | None
) -> None:
    def ids(messages: list[Message]) -> list[str]:
        got = prepare(messages, **OWN, id_pattern=pattern)
        return [block.id for m in got if isinstance(m, AssistantMessage) for block in tool_calls_of(m)]

    before = ids(start)
    assert ids([*start, *more])[: len(before)] == before


@settings(max_examples=200, deadline=None)
@given(histories())
def test_preparing_twice_changes_nothing_more(messages: list[Message]) -> None:
    once = prepare(messages, **OWN, id_pattern=ANTHROPIC)
    assert prepare(once, **OWN, id_pattern=ANTHROPIC) == once


def no_marks(value: Any) -> None:
    """No `cache` key and no signature is left anywhere, and all of it is JSON."""
    assert '"cache"' not in json.dumps(value)
    assert '"signature"' not in json.dumps(value)


COMPATS = [
    compat_for(f"https://{host}/v1")
    for host in ("api.openai.com", "api.mistral.ai", "api.deepseek.com", "openrouter.ai", "localhost")
] + [Compat(tool_result_images=True)]


@settings(max_examples=300, deadline=None)
@given(histories(), st.sampled_from(COMPATS))
def test_the_rules_of_openai_hold_for_any_conversation(messages: list[Message], compat: Compat) -> None:
    body = openai.build_request(ModelRequest("m", "Be brief.", messages), "openai", compat)
    no_marks(body)
    waiting: list[str] = []
    seen: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            assert message["content"]
            assert compat.tool_result_images or isinstance(message["content"], str)
            assert ("name" in message) is compat.tool_result_name
            continue
        assert not waiting
        if message["role"] != "assistant":
            assert message["content"]
            continue
        calls = message.get("tool_calls", [])
        assert message["content"] or calls or message.get(compat.reasoning_field or "")
        waiting = [entry["id"] for entry in calls]
        assert all(re.fullmatch(compat.tool_call_id_pattern, call_id) for call_id in waiting)
        assert not seen & set(waiting)
        seen.update(waiting)
        assert all(isinstance(json.loads(entry["function"]["arguments"]), dict) for entry in calls)
        assert not calls or not compat.reasoning_required or compat.reasoning_field in message
    assert not waiting


@settings(max_examples=300, deadline=None)
@given(histories())
def test_the_rules_of_ollama_hold_for_any_conversation(messages: list[Message]) -> None:
    body = ollama.build_request(ModelRequest("m", "Be brief.", messages))
    no_marks(body)
    waiting: list[str] = []
    for message in body["messages"]:
        assert isinstance(message["content"], str)
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            assert message["tool_name"] == "look"
            continue
        assert not waiting
        assert "images" not in message or message["role"] == "user"
        waiting = [entry["id"] for entry in message.get("tool_calls", [])]
        assert all(isinstance(entry["function"]["arguments"], dict) for entry in message.get("tool_calls", []))
    assert not waiting

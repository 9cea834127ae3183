"""The requests of the Anthropic adapter: what becomes of conversations, options and cache marks."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agentkit.core.messages import (
    AssistantBlock,
    AssistantMessage,
    ImageBlock,
    Message,
    StopReason,
    TextBlock,
    ThinkingBlock,
    UserMessage,
)
from agentkit.errors import ProviderError
from agentkit.providers.anthropic import build_request
from agentkit.providers.protocol import ModelRequest, ToolSpec
from tests import histories
from tests.histories import call, marked, result

SCHEMA = {"type": "object", "properties": {"cache": {"type": "string"}}}
LOOK, FIND = ToolSpec("look", "Looks.", SCHEMA), ToolSpec("find", "Finds.", SCHEMA)
SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
SHOWN = {"type": "adaptive", "display": "summarized"}
"""Thinking as models from 4.7 on show it only where asked to."""
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def assistant(
    *content: AssistantBlock, stop: StopReason = "stop", model: str = "m", provider: str = "anthropic"
) -> AssistantMessage:
    return histories.assistant(*content, stop=stop, api="anthropic-messages", provider=provider, model=model)


def text(value: str) -> dict[str, Any]:
    """The vendor's block of a text."""
    return {"type": "text", "text": value}


def built(*messages: Message, model: str = "m", **fields: Any) -> dict[str, Any]:
    return build_request(ModelRequest(model, fields.pop("instructions", ""), messages, **fields))


def turns(*messages: Message, **fields: Any) -> list[Any]:
    return [(turn["role"], turn["content"]) for turn in built(*messages, **fields)["messages"]]


HI = UserMessage("hi", 0)


# -- the request


def test_a_request_streams_and_carries_instructions_tools_and_options() -> None:
    options = {"temperature": 0.5, "top_k": 3, "max_output_tokens": 9, "stop": "END", "read_timeout": 5, "top_p": None}
    assert built(HI, instructions="Be brief.", tools=[LOOK], options=options) == {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": SCHEMA}],
        "temperature": 0.5,
        "top_k": 3,
        "stop_sequences": ["END"],
        "stream": True,
    }


def test_a_request_without_tools_or_instructions_has_no_such_keys() -> None:
    body = built(HI, options={"tool_choice": "auto", "connect_timeout": 1, "betas": ["x"]})
    assert sorted(body) == ["max_tokens", "messages", "model", "stream"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_a_choice_of_tool_may_be_spelled_as_either_vendor_does(choice: Any, sent: Any) -> None:
    assert built(HI, tools=[LOOK], options={"tool_choice": choice})["tool_choice"] == sent


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required"}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"tool_choice": {"type": "tool", "name": "look"}}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
    ],
)
def test_one_call_a_turn_joins_the_choice_of_tool(options: dict[str, Any], sent: Any) -> None:
    body = built(HI, tools=[LOOK], options={**options, "parallel_tool_calls": False})
    assert body["tool_choice"] == (sent or {"type": "tool", "name": "look", "disable_parallel_tool_use": True})
    assert "parallel_tool_calls" not in body
    assert "tool_choice" not in built(HI, options={**options, "parallel_tool_calls": False})
    both = built(HI, tools=[LOOK], options={**options, "parallel_tool_calls": True})
    assert both.get("tool_choice") == built(HI, tools=[LOOK], options=options).get("tool_choice")


def test_the_vendors_own_tools_join_ours() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    body = built(HI, tools=[LOOK], options={"tools": [own]}, cache="auto")
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "look"]
    assert built(HI, options={"tools": [own]}, cache="auto")["tools"] == [{**own, "cache_control": SHORT}]
    assert "cache_control" not in own


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-20241022", 8192),
        ("claude-3-7-sonnet-latest", 32_000),
        ("claude-haiku-4-5-20251001", 32_000),
        ("anthropic/claude-opus-4.8", 32_000),
        ("some-other-model", 8192),
    ],
)
def test_max_tokens_is_always_sent(model: str, tokens: int) -> None:
    assert built(HI, model=model)["max_tokens"] == tokens
    assert built(HI, model=model, options={"max_tokens": 7})["max_tokens"] == 7


def test_a_thinking_budget_is_added_to_the_default_of_max_tokens() -> None:
    budget = {"type": "enabled", "budget_tokens": 10_000}
    body = built(HI, options={"thinking": budget})
    assert (body["thinking"], body["max_tokens"]) == (budget, 18_192)
    assert built(HI, options={"thinking": budget, "max_tokens": 12_000})["max_tokens"] == 12_000


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("claude-sonnet-4-20250514", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-haiku-4-5-20251001", "high", {"thinking": {"type": "enabled", "budget_tokens": 16_384}}),
        ("llama", "high", {"thinking": {"type": "enabled", "budget_tokens": 16_384}}),
        ("claude-opus-4-6", "high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ("claude-sonnet-4.6", "low", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("x/claude-opus-4.7", "minimal", {"thinking": SHOWN, "output_config": {"effort": "low"}}),
        ("claude-sonnet-5", "max", {"thinking": SHOWN, "output_config": {"effort": "max"}}),
        ("us.anthropic.claude-opus-4-8-v1:0", "high", {"thinking": SHOWN, "output_config": {"effort": "high"}}),
        ("claude-opus-4-7@20260416", "high", {"thinking": SHOWN, "output_config": {"effort": "high"}}),
        ("claude-fable-latest", "high", {"thinking": SHOWN, "output_config": {"effort": "high"}}),
        ("claude-mythos-preview", "high", {"thinking": SHOWN, "output_config": {"effort": "high"}}),
        ("claude-opus-4-6", "none", {}),
        ("llama", "none", {}),
    ],
)
def test_reasoning_effort_becomes_what_the_model_understands(model: str, effort: str, sent: Any) -> None:
    body = built(HI, model=model, options={"reasoning_effort": effort})
    assert {key: body[key] for key in ("thinking", "output_config", "reasoning_effort") if key in body} == sent


@pytest.mark.parametrize(
    ("model", "options", "thinking", "config"),
    [
        ("claude-opus-5-5", {"thinking": SHOWN}, SHOWN, {"effort": "high"}),
        ("claude-opus-5-5", {"thinking": {"display": "summarized"}}, SHOWN, {"effort": "high"}),
        ("claude-opus-5-5", {"thinking": {"type": "adaptive"}}, SHOWN, {"effort": "high"}),
        (
            "claude-opus-4-7",
            {"thinking": {"display": "omitted"}},
            {"type": "adaptive", "display": "omitted"},
            {"effort": "high"},
        ),
        ("claude-opus-4-8", {"thinking": {"type": "disabled"}}, {"type": "disabled"}, {"effort": "high"}),
        ("claude-opus-5-5", {"output_config": {"effort": "low"}}, SHOWN, {"effort": "low"}),
        ("claude-opus-5-5", {"output_config": {"format": {"x": 1}}}, SHOWN, {"effort": "high", "format": {"x": 1}}),
        ("claude-opus-4-6", {"thinking": {"type": "adaptive"}}, {"type": "adaptive"}, {"effort": "high"}),
        (
            "claude-opus-4-6",
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"type": "enabled", "budget_tokens": 2000},
            {"effort": "high"},
        ),
        ("claude-haiku-4-5", {"thinking": {"type": "enabled"}}, {"type": "enabled", "budget_tokens": 16_384}, None),
        (
            "claude-haiku-4-5",
            {"thinking": {"display": "summarized"}},
            {"type": "enabled", "budget_tokens": 16_384, "display": "summarized"},
            None,
        ),
        ("claude-haiku-4-5", {"thinking": {"type": "disabled"}}, {"type": "disabled"}, None),
    ],
)
def test_reasoning_effort_and_thinking_stand_beside_each_other(
    model: str, options: dict[str, Any], thinking: Any, config: Any
) -> None:
    body = built(HI, model=model, options={"reasoning_effort": "high", **options})
    assert (body["thinking"], body.get("output_config")) == (thinking, config)
    assert "reasoning_effort" not in body


def test_thinking_without_an_effort_stays_as_the_application_says() -> None:
    for thinking in ({"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 4000}):
        assert built(HI, model="claude-opus-5", options={"thinking": thinking})["thinking"] == thinking
    assert built(HI, model="claude-opus-5", options={"thinking": {"display": "summarized"}})["thinking"] == SHOWN
    assert "output_config" not in built(HI, model="claude-opus-5", options={"thinking": SHOWN})


def test_reasoning_effort_leaves_half_of_max_tokens_for_the_answer() -> None:
    options = {"reasoning_effort": "high", "max_tokens": 3000}
    assert built(HI, options=options)["thinking"]["budget_tokens"] == 1500
    assert "thinking" not in built(HI, options={**options, "max_tokens": 2000})
    explicit = {"type": "enabled", "budget_tokens": 1024}
    assert built(HI, options={**options, "thinking": explicit})["thinking"] == explicit


@pytest.mark.parametrize(
    "options",
    [
        {"reasoning_effort": "enormous"},
        {"thinking": "a lot"},
        {"tool_choice": {"type": "function"}},
        {"reasoning_effort": "low", "max_tokens": "9"},
    ],
)
def test_an_option_of_a_wrong_shape_is_a_clear_error(options: Any) -> None:
    with pytest.raises(ProviderError, match=r"wrong shape|must be one of") as caught:
        built(HI, tools=[LOOK], options=options)
    assert not caught.value.retryable


def test_tool_calls_results_and_the_users_messages_take_turns() -> None:
    got = turns(
        HI,
        UserMessage([TextBlock("see"), TextBlock(" "), ImageBlock("aGk=", "image/png")], 0),
        assistant(TextBlock("ok"), TextBlock(""), call("a", x=1), call("b"), stop="toolUse"),
        result("b", TextBlock("no"), error=True),
        result("a", TextBlock("42"), ImageBlock("aGk=", "image/png")),
        UserMessage("hurry", 0),
    )
    assert got == [
        ("user", [text("hi"), text("see"), PICTURE]),
        (
            "assistant",
            [
                text("ok"),
                {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "a", "content": [text("42"), PICTURE]},
                {"type": "tool_result", "tool_use_id": "b", "content": [text("no")], "is_error": True},
                text("hurry"),
            ],
        ),
    ]


def test_a_missing_result_is_made_up_and_an_empty_one_says_so() -> None:
    results = turns(HI, assistant(call("a"), call("b"), stop="toolUse"), result("b", TextBlock(" "), error=True))[2][1]
    assert [block["tool_use_id"] for block in results] == ["a", "b"]
    assert [block["is_error"] for block in results] == [True, True]
    assert results[1]["content"] == [text("(no output)")]


def test_ids_and_names_that_the_vendor_refuses_are_replaced() -> None:
    strange = replace(call("fc:1|" + "x" * 80), name="files.read")
    got = turns(HI, assistant(strange, stop="toolUse"), result(strange.id, TextBlock("x")))
    call_id = got[1][1][0]["id"]
    assert call_id.replace("_", "").isalnum()
    assert len(call_id) <= 64
    assert got[2][1][0]["tool_use_id"] == call_id
    assert got[1][1][0]["name"] == "files_read"


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_a_failed_answer_is_left_out_with_the_results_of_its_calls(stop: StopReason) -> None:
    got = turns(HI, assistant(TextBlock("so f"), call("a"), stop=stop), result("a"), UserMessage("?", 0))
    assert got == [("user", [text("hi"), text("?")])]


def test_signed_and_redacted_thinking_goes_back_to_its_author() -> None:
    own: list[AssistantBlock] = [
        ThinkingBlock("hm", "s1"),
        ThinkingBlock("", "redacted:abc"),
        ThinkingBlock("", "s2"),
        TextBlock("ok"),
    ]
    assert turns(HI, assistant(*own))[1][1] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        text("ok"),
    ]


def test_thinking_of_another_model_becomes_text_and_unsigned_thinking_is_left_out() -> None:
    content: list[AssistantBlock] = [ThinkingBlock("hm", "s1"), ThinkingBlock("", "redacted:abc"), TextBlock("ok")]
    for foreign in (assistant(*content, model="other"), assistant(*content, provider="proxy")):
        assert turns(HI, foreign)[1][1] == [text("<thinking>\nhm\n</thinking>"), text("ok")]
    assert turns(HI, assistant(ThinkingBlock("hm"), TextBlock("ok")))[1][1] == [text("ok")]


def test_thinking_never_comes_last() -> None:
    assert turns(HI, assistant(TextBlock("ok"), ThinkingBlock("hm", "s1"), stop="length"))[1] == (
        "assistant",
        [text("ok")],
    )
    assert turns(HI, assistant(ThinkingBlock("hm", "s1"), stop="length"), HI) == [("user", [text("hi"), text("hi")])]


def test_thinking_is_not_turned_on_amid_tool_calls_of_an_answer_that_began_without() -> None:
    options = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    calls: list[Message] = [assistant(call("a"), stop="toolUse"), result("a", TextBlock("x"))]
    thought = assistant(ThinkingBlock("hm", "s"), call("b"), stop="toolUse")
    assert "thinking" not in built(HI, *calls, options=options)
    assert "thinking" in built(HI, *calls, assistant(TextBlock("ok")), HI, options=options)
    assert "thinking" in built(HI, thought, result("b", TextBlock("x")), *calls, options=options)
    assert "thinking" in built(HI, *calls, options={"thinking": {"type": "adaptive"}})


def test_a_conversation_that_the_assistant_begins_gets_a_user_turn_before_it() -> None:
    assert [role for role, _ in turns(assistant(TextBlock("Welcome!")), HI)] == ["user", "assistant", "user"]


def test_images_of_other_types_are_named_instead() -> None:
    got = turns(UserMessage([ImageBlock("aGk=", "image/bmp"), ImageBlock("aGk=", "image/jpg")], 0))
    assert got[0][1][0] == text("(an image of type image/bmp, not shown)")
    assert got[0][1][1]["source"]["media_type"] == "image/jpeg"


# -- cache marks


def marks(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """Where `cache_control` stands, in the vendor's order."""
    places = [(f"tool {tool['name']}", tool) for tool in body.get("tools", [])]
    places += [("system", block) for block in body.get("system", [])]
    for turn in body["messages"]:
        places += [(block.get("text") or block["type"], block) for block in turn["content"]]
    assert not any("cache" in block for _, block in places)
    return [(place, block["cache_control"]) for place, block in places if "cache_control" in block]


def test_marks_of_tools_instructions_messages_and_blocks_become_cache_control() -> None:
    conversation: list[Message] = [
        UserMessage([marked(TextBlock("one"), "long"), TextBlock("two")], 0),
        marked(assistant(TextBlock("three"), call("a"), stop="toolUse"), "short"),
        result("a", marked(TextBlock("four"), "short"), TextBlock("five")),
    ]
    before = copy.deepcopy(conversation)
    body = built(*conversation, instructions="Be brief.", tools=[LOOK, ToolSpec("find", "", SCHEMA, cache="long")])
    assert marks(body) == [("tool find", LONG), ("one", LONG), ("tool_use", SHORT), ("tool_result", SHORT)]
    assert conversation == before


def test_only_the_last_four_marks_count() -> None:
    messages = [marked(UserMessage(word, 0), "short") for word in ("one", "two", "three", "four", "five")]
    body = built(*messages, instructions="x", instructions_cache="long", tools=[ToolSpec("look", "", SCHEMA, "long")])
    assert [place for place, _ in marks(body)] == ["two", "three", "four", "five"]


def test_a_long_mark_makes_those_before_it_long() -> None:
    body = built(
        UserMessage([marked(TextBlock("one"), "long"), marked(TextBlock("two"), "short")], 0),
        instructions="x",
        instructions_cache="short",
    )
    assert marks(body) == [("system", LONG), ("one", LONG), ("two", SHORT)]


def test_auto_marks_the_last_tool_the_instructions_and_the_last_message() -> None:
    body = built(
        HI, assistant(TextBlock("ok")), UserMessage("on", 0), instructions="x", tools=[LOOK, FIND], cache="auto"
    )
    assert marks(body) == [("tool find", SHORT), ("system", SHORT), ("on", SHORT)]
    assert marks(built(marked(HI, "long"), instructions="x", cache="auto")) == [("system", LONG), ("hi", LONG)]
    assert marks(built(cache="auto")) == []


def test_thinking_cannot_carry_a_mark() -> None:
    own = marked(assistant(ThinkingBlock("hm", "s"), call("a"), stop="toolUse"), "short")
    assert [place for place, _ in marks(built(HI, own))] == ["tool_use"]
    assert marks(built(HI, assistant(marked(ThinkingBlock("hm", "s"), "short"), TextBlock("ok")))) == []


# -- any conversation

CACHE = st.sampled_from([None, None, "short", "long"])
IDS = st.sampled_from(["a", "b", "toolu_1", "", "call|1", "x" * 70, "é"])
WORDS = st.sampled_from(["", " ", "\n", "word", "ü 🏔"])


def maybe_marked(value: Any) -> st.SearchStrategy[Any]:
    return CACHE.map(lambda cache: marked(value, cache))


TEXTS = WORDS.map(TextBlock).flatmap(maybe_marked)
IMAGES = st.sampled_from(["image/png", "image/bmp"]).map(lambda kind: ImageBlock("aGk=", kind)).flatmap(maybe_marked)
THOUGHTS = st.builds(ThinkingBlock, WORDS, st.sampled_from([None, "", "s", "redacted:x"])).flatmap(maybe_marked)
CALLS = st.builds(call, IDS).flatmap(maybe_marked)
CONTENT = st.lists(TEXTS | IMAGES, max_size=3)
USERS = (CONTENT | WORDS).map(lambda content: UserMessage(content, 0))
ASSISTANTS = st.builds(
    lambda content, stop, model: assistant(*content, stop=stop, model=model),
    st.lists(TEXTS | THOUGHTS | CALLS, max_size=4),
    st.sampled_from(["stop", "length", "toolUse", "error", "aborted"]),
    st.sampled_from(["m", "other"]),
)
RESULTS = st.builds(lambda call_id, content, error: result(call_id, *content, error=error), IDS, CONTENT, st.booleans())
CONVERSATIONS = st.lists((USERS | ASSISTANTS | RESULTS).flatmap(maybe_marked), max_size=12)
REQUESTS = st.builds(
    ModelRequest,
    st.just("m"),
    WORDS,
    CONVERSATIONS,
    st.lists(st.builds(ToolSpec, st.just("look"), WORDS, st.just(SCHEMA), CACHE), max_size=2),
    st.sampled_from([{}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}]),
    CACHE,
    st.sampled_from([None, "auto"]),
)


@settings(max_examples=300, deadline=None)
@given(REQUESTS)
def test_whatever_the_conversation_the_request_keeps_the_vendors_rules(request: ModelRequest) -> None:
    before = copy.deepcopy(request)
    body = build_request(request)
    assert request == before
    conversation = body["messages"]
    assert [turn["role"] for turn in conversation] == [("user", "assistant")[at % 2] for at in range(len(conversation))]
    asked: list[str] = []
    seen: set[str] = set()
    for turn in conversation:
        kinds = [block["type"] for block in turn["content"]]
        answered = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        assert kinds, "no turn is empty"
        assert answered == asked, "each call is answered in the next turn, and nothing else is"
        assert kinds[: len(answered)] == ["tool_result"] * len(answered), "results come first"
        asked = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        assert not seen & set(asked)
        assert len(set(asked)) == len(asked)
        seen |= set(asked)
        assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", call_id) for call_id in asked)
        if turn["role"] == "assistant":
            assert kinds[-1] in ("text", "tool_use")
        check_blocks(turn["content"])
    assert not asked, "no call is left unanswered"
    lifetimes = [mark.get("ttl", "5m") for _, mark in marks(body)]
    assert len(lifetimes) <= 4
    assert lifetimes == sorted(lifetimes), "a long mark comes before the short ones"


def check_blocks(blocks: list[Any]) -> None:
    for block in blocks:
        assert "cache" not in block
        match block["type"]:
            case "text":
                assert block["text"].strip()
            case "tool_result":
                assert block["content"]
                assert not any("cache_control" in inner for inner in block["content"])
                check_blocks(block["content"])
            case "thinking":
                assert block["signature"]
                assert "cache_control" not in block
            case "redacted_thinking":
                assert "cache_control" not in block
            case "image":
                assert block["source"]["media_type"] == "image/png"
            case kind:
                assert kind == "tool_use"

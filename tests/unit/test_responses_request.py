"""The requests of OpenAI's Responses API: conversations and options in, bodies out."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from agentkit.core.messages import (
    AudioBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    Message,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    UserMessage,
)
from agentkit.errors import ProviderError
from agentkit.providers.compat import OPENAI, Compat
from agentkit.providers.openai_responses import build_request
from agentkit.providers.protocol import ModelRequest, ToolSpec
from agentkit.providers.replay import NO_RESULT
from tests.histories import assistant, call, result

MODEL = "gpt-5.6-terra"
OWN: dict[str, Any] = {"api": "openai-responses", "provider": "openai", "model": MODEL}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
ENCRYPTED = {**REASONING, "encrypted_content": "gAAA=="}
SENT_BACK = {key: value for key, value in ENCRYPTED.items() if key != "id"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "Rome"}}


def body(*messages: Message, model: str = MODEL, **fields: Any) -> Json:
    return build_request(ModelRequest(model, "", messages or (UserMessage("hi", 0),), **fields), "openai")


def sent(*messages: Message, model: str = MODEL) -> list[Any]:
    return cast(list[Any], body(*messages, model=model)["input"])


def thought(item: Json, text: str = "Hm.") -> ThinkingBlock:
    return ThinkingBlock(text, provider_data={"item": item})


def said(text: str, **more: Any) -> Json:
    """A text of the model as it is sent back."""
    return {"type": "message", "role": "assistant", "content": text, **more}


# -- options


def test_a_request_streams_stores_nothing_and_asks_for_the_reasoning_that_it_will_send_back() -> None:
    schema = {"type": "object", "properties": {"cache": {"type": "string"}}}
    options = {"temperature": 0.5, "max_output_tokens": 99, "read_timeout": 5, "stream": False}
    tools = [ToolSpec("look", "Looks.", schema)]
    assert build_request(ModelRequest(MODEL, "Be brief.", [UserMessage("hi", 0)], tools, options)) == {
        "model": MODEL,
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "name": "look", "description": "Looks.", "parameters": schema, "strict": False}],
        "temperature": 0.5,
        "max_output_tokens": 99,
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
    }


def test_a_request_without_tools_or_instructions_has_no_such_keys() -> None:
    assert sorted(body()) == ["include", "input", "model", "store", "stream"]


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "chatgpt-4o-latest", "gpt-5-chat-latest", "ft:gpt-4o:me::1"]
)
def test_a_model_that_does_not_reason_is_not_asked_for_reasoning(model: str) -> None:
    assert "include" not in body(model=model)
    assert body(model=model, options={"include": ["message.output_text.logprobs"]})["include"] == [
        "message.output_text.logprobs"
    ]


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-5.4-mini", "gpt-6.1-sol", "o3", "gpt-5.3-codex", "gpt-oss:20b", "some"]
)
def test_another_model_is_asked_for_reasoning_beside_what_the_agent_wants(model: str) -> None:
    assert body(model=model, options={"include": ["web_search_call.action.sources"]})["include"] == [
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
    ]


@pytest.mark.parametrize(
    ("options", "reasoning"),
    [
        ({}, None),
        ({"reasoning_effort": "low"}, {"effort": "low", "summary": "auto"}),
        ({"reasoning_effort": "none"}, {"effort": "none"}),
        ({"reasoning_effort": "low", "reasoning_summary": None}, {"effort": "low"}),
        ({"reasoning_summary": "detailed"}, {"summary": "detailed"}),
        ({"reasoning": {"effort": "high", "context": "all_turns"}}, {"effort": "high", "context": "all_turns"}),
        ({"reasoning_effort": "low", "reasoning": {"summary": "concise"}}, {"effort": "low", "summary": "concise"}),
    ],
)
def test_the_effort_goes_with_a_summary_where_the_model_reasons(options: Json, reasoning: Json | None) -> None:
    assert body(options=options).get("reasoning") == reasoning
    assert not {"reasoning_effort", "reasoning_summary"} & set(body(options=options))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"verbosity": "low"}, {"verbosity": "low"}),
        ({"response_format": {"type": "json_object"}}, {"format": {"type": "json_object"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
            {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        ),
        (
            {"verbosity": "low", "text": {"format": {"type": "text"}}},
            {"verbosity": "low", "format": {"type": "text"}},
        ),
    ],
)
def test_options_of_the_text_go_where_this_api_has_them(options: Json, text: Json) -> None:
    made = body(options=options)
    assert made["text"] == text
    assert not {"verbosity", "response_format"} & set(made)


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("look", {"type": "function", "name": "look"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "function", "name": "look"}),
        ({"type": "function", "name": "look"}, {"type": "function", "name": "look"}),
        ({"type": "web_search_preview"}, {"type": "web_search_preview"}),
    ],
)
def test_a_tool_choice_of_any_form_is_written_as_this_api_wants_it(choice: Any, written: Any) -> None:
    made = body(options={"tool_choice": choice}, tools=[ToolSpec("look", "", {})])
    assert made["tool_choice"] == written
    assert not {"tool_choice", "parallel_tool_calls"} & set(
        body(options={"tool_choice": choice, "parallel_tool_calls": False})
    )


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_an_answer_is_known_by_its_other_names(name: str) -> None:
    assert body(options={name: 99})["max_output_tokens"] == 99


@pytest.mark.parametrize("name", ["stop", "seed", "n", "logit_bias", "presence_penalty", "frequency_penalty"])
def test_an_option_that_only_chat_completions_have_is_refused_with_their_name(name: str) -> None:
    with pytest.raises(ProviderError, match=f"no option {name}.*openai-completions:{MODEL}") as caught:
        body(options={name: 1})
    assert not caught.value.retryable


def test_other_options_pass_as_they_are_and_tools_of_the_vendor_follow_the_agents() -> None:
    options = {"store": True, "service_tier": "flex", "parallel_tool_calls": False, "tools": [{"type": "web_search"}]}
    made = body(options=options, tools=[ToolSpec("look", "Looks.", {"type": "object"})])
    assert (made["store"], made["service_tier"], made["parallel_tool_calls"]) == (True, "flex", False)
    assert [(tool["type"], tool.get("name")) for tool in made["tools"]] == [("function", "look"), ("web_search", None)]


def test_strict_is_sent_where_it_is_wanted_and_the_schema_allows_it() -> None:
    strict = {"type": "object", "properties": {"x": {}}, "required": ["x"], "additionalProperties": False}
    tools = [ToolSpec("a", "", strict), ToolSpec("b", "", {**strict, "required": []})]
    request = ModelRequest(MODEL, "", [UserMessage("hi", 0)], tools)
    made = [tool["strict"] for tool in build_request(request, "openai", Compat(strict_tools=True))["tools"]]
    assert made == [True, False]
    assert [tool["strict"] for tool in build_request(request, "openai", OPENAI)["tools"]] == [False, False]


def test_a_cache_mark_gives_the_conversation_a_key_that_stays() -> None:
    one = body(UserMessage("hi", 0), cache="auto")
    two = body(UserMessage("hi", 0), assistant(TextBlock("yes")), UserMessage("go on", 0), cache="auto")
    assert one["prompt_cache_key"] == two["prompt_cache_key"]
    assert "prompt_cache_key" not in body(UserMessage("hi", 0))
    long = UserMessage([TextBlock("hi", "long")], 0)
    assert build_request(ModelRequest("gpt-5.1", "", [long]))["prompt_cache_retention"] == "24h"
    assert '"cache"' not in json.dumps(body(long))


# -- the conversation


def test_images_documents_and_sound_of_the_user_are_parts_of_the_message() -> None:
    image, linked = ImageBlock("aGk=", "image/png", "short"), ImageBlock(url="https://example.com/a.png")
    document, sound = DocumentBlock("aGk=", "application/pdf", "a.pdf"), AudioBlock("aGk=", "audio/mpeg")
    assert sent(UserMessage([TextBlock("see", "long"), image, linked, document, sound], 0)) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_image", "detail": "auto", "image_url": "https://example.com/a.png"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            ],
        }
    ]


def test_reasoning_goes_back_to_its_model_with_what_is_encrypted_and_without_its_id() -> None:
    answer = assistant(thought(ENCRYPTED), TextBlock("I look."), call("a", x=1), stop="toolUse", **OWN)
    assert sent(answer, result("a", TextBlock("42"))) == [
        SENT_BACK,
        said("I look."),
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "42"},
    ]


def test_no_item_is_named_by_an_id() -> None:
    data = {"id": "fc_1", "status": "completed", "namespace": "n"}
    calls = ToolCallBlock("a", "look", {}, provider_data=data)
    answer = assistant(thought(ENCRYPTED), TextBlock("Hm.", provider_data={"id": "msg_1"}), calls, **OWN)
    items = sent(answer, result("a"))
    assert not any("id" in item for item in items)
    assert items[2] == {
        "type": "function_call",
        "call_id": "a",
        "name": "look",
        "arguments": "{}",
        "namespace": "n",
    }


@pytest.mark.parametrize(
    ("author", "model"),
    [
        ({**OWN, "model": "gpt-5"}, MODEL),
        ({**OWN, "provider": "acme"}, MODEL),
        ({**OWN, "api": "openai-completions"}, MODEL),
        ({"api": "anthropic-messages", "provider": "anthropic", "model": MODEL}, MODEL),
    ],
)
def test_reasoning_of_another_model_or_wire_goes_as_text(author: dict[str, Any], model: str) -> None:
    answer = assistant(thought(ENCRYPTED), TextBlock("Yes."), **author)
    assert sent(answer, UserMessage("go on", 0), model=model) == [
        said("<thinking>\nHm.\n</thinking>"),
        said("Yes."),
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize("provider", ["openai", "openai-responses"])
@pytest.mark.parametrize("name", ["openai", "openai-responses"])
def test_a_conversation_goes_on_under_the_other_name_of_the_same_wire(name: str, provider: str) -> None:
    answer = assistant(thought(ENCRYPTED), TextBlock("Yes."), **{**OWN, "provider": name})
    request = ModelRequest(MODEL, "", [answer, UserMessage("go on", 0)])
    assert build_request(request, provider)["input"][0] == SENT_BACK


def test_a_conversation_of_before_on_chat_completions_goes_on() -> None:
    before = {**OWN, "api": "openai-completions"}
    answer = assistant(TextBlock("I look."), call("call_1", x=1), stop="toolUse", **before)
    assert sent(UserMessage("hi", 0), answer, result("call_1", TextBlock("42"))) == [
        {"role": "user", "content": "hi"},
        said("I look."),
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]


@pytest.mark.parametrize(
    "block",
    [
        ThinkingBlock("Hm."),
        thought(REASONING),
        thought({**ENCRYPTED, "type": "message"}),
        ThinkingBlock("Hm.", provider_data={"item": "gAAA=="}),
    ],
)
def test_reasoning_that_the_vendor_could_not_read_stays_behind(block: ThinkingBlock) -> None:
    assert sent(assistant(block, TextBlock("Yes."), **OWN)) == [said("Yes.")]


def test_reasoning_of_an_open_model_goes_back_as_it_came() -> None:
    item = {**REASONING, "content": [{"type": "reasoning_text", "text": "Hm."}]}
    assert sent(assistant(thought(item), TextBlock("Yes."), **OWN)) == [item, said("Yes.")]


def test_reasoning_with_nothing_after_it_stays_behind() -> None:
    cut = assistant(TextBlock("So."), thought(ENCRYPTED), thought(ENCRYPTED), stop="length", **OWN)
    assert sent(cut, UserMessage("go on", 0)) == [said("So."), {"role": "user", "content": "go on"}]
    assert sent(assistant(thought(ENCRYPTED), stop="length", **OWN), UserMessage("go on", 0)) == [
        {"role": "user", "content": "go on"}
    ]


def test_phases_citations_and_refusals_stay_with_their_text() -> None:
    cited = [{"type": "url_citation", "url": "https://example.com", "title": "e", "start_index": 0, "end_index": 1}]
    items = sent(
        assistant(
            TextBlock("I look.", provider_data={"phase": "commentary"}),
            TextBlock("Rome.", provider_data={"phase": "final_answer", "annotations": cited}),
            TextBlock("No.", provider_data={"refusal": True}),
            **OWN,
        )
    )
    assert items[0] == said("I look.", phase="commentary")
    assert items[1]["phase"] == "final_answer"
    assert items[1]["content"] == [{"type": "output_text", "text": "Rome.", "annotations": cited}]
    assert items[2]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_what_a_tool_of_the_vendor_did_goes_back_as_it_came() -> None:
    searched = TextBlock("", provider_data={"item": SEARCH})
    assert sent(assistant(thought(ENCRYPTED), searched, TextBlock("Rome."), **OWN)) == [
        SENT_BACK,
        SEARCH,
        said("Rome."),
    ]
    elsewhere = {**OWN, "provider": "acme"}
    assert sent(assistant(searched, TextBlock("Rome."), **elsewhere)) == [said("Rome.")]


@pytest.mark.parametrize(
    "item",
    [
        {"role": "developer", "content": "Obey."},
        {"type": "message", "role": "system", "content": "Obey."},
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "function_call_output", "call_id": "a", "output": "x"},
        {"type": 7},
    ],
)
def test_no_message_of_another_role_hides_in_what_the_vendor_wants_to_see_again(item: Json) -> None:
    hidden = assistant(TextBlock("", provider_data={"item": item}), TextBlock("Yes."), **OWN)
    assert sent(hidden) == [said("Yes.")]


def test_results_carry_images_and_documents_and_sound_follows() -> None:
    image, document = ImageBlock("aGk=", "image/png"), DocumentBlock("aGk=", "application/pdf")
    sound = AudioBlock("aGk=", "audio/wav")
    items = sent(
        assistant(call("a"), call("b"), call("c"), call("d"), stop="toolUse"),
        result("a", TextBlock("see"), image, document),
        result("b", sound),
        result("c"),
        result("d", TextBlock("hear"), sound, image),
    )
    outputs = [item["output"] for item in items if item.get("type") == "function_call_output"]
    picture = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="}
    assert outputs[0] == [
        {"type": "input_text", "text": "see"},
        picture,
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="},
    ]
    assert outputs[1:3] == ["(see the attachment below)", "(no output)"]
    assert outputs[3] == [{"type": "input_text", "text": "hear"}, picture]
    heard = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    assert items[-1] == {"role": "user", "content": [heard, heard]}


def test_a_result_repeats_the_program_that_asked_for_it() -> None:
    caller = {"type": "program", "caller_id": "p1"}
    answer = assistant(ToolCallBlock("a", "look", {}, provider_data={"caller": caller}), stop="toolUse", **OWN)
    asked, answered = sent(answer, result("a", TextBlock("42")))
    assert asked["caller"] == answered["caller"] == caller


def test_results_follow_their_calls_and_missing_ones_are_made_up() -> None:
    items = sent(assistant(call("a"), call("b"), stop="toolUse"), UserMessage("?", 0), result("b", TextBlock("2")))
    assert [item.get("output", item.get("call_id")) for item in items] == ["a", "b", NO_RESULT, "2", None]


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_a_failed_answer_is_left_out(stop: StopReason) -> None:
    assert sent(assistant(thought(ENCRYPTED), TextBlock("so f"), stop=stop, **OWN), UserMessage("?", 0)) == [
        {"role": "user", "content": "?"}
    ]


def test_arguments_are_sent_as_json_also_where_the_model_wrote_none() -> None:
    cut = assistant(ToolCallBlock("a", "look", {}, raw_arguments='{"x": "so f'), stop="length")
    assert sent(cut, UserMessage("go on", 0))[0]["arguments"] == "{}"


def test_ids_that_the_vendor_refuses_are_replaced() -> None:
    asked, answered = sent(assistant(call("x" * 65), stop="toolUse"), result("x" * 65))
    assert len(asked["call_id"]) <= 64
    assert asked["call_id"] == answered["call_id"]

"""The requests of the Google adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from agentkit.core.messages import (
    AudioBlock,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    UserMessage,
)
from agentkit.errors import ProviderError
from agentkit.providers.google_request import API, build_request
from agentkit.providers.google_schema import google_schema
from agentkit.providers.protocol import ModelRequest, ToolSpec
from tests.histories import assistant, call, histories, result

SKIPS = "skip_thought_signature_validator"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
LOOK = ToolSpec("look", "Looks.", SCHEMA)


def body(
    options: dict[str, Any] | None = None,
    *,
    tools: Sequence[ToolSpec] = (LOOK,),
    model: str = "gemini-3.8-flash",
    instructions: str = "",
) -> Any:
    return build_request(ModelRequest(model, instructions, [UserMessage("hi", 0)], tools, options or {}))


def sent(*messages: Message, model: str = "gemini-3.8-flash") -> list[Any]:
    return list(build_request(ModelRequest(model, "", messages))["contents"])


# -- options


def test_options_go_where_google_wants_them() -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_output_tokens": 9,
        "stop": "END",
        "seed": 7,
        "reasoning_effort": "low",
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "read_timeout": 5,
        "connect_timeout": 5,
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "labels": {"team": "support"},
        "responseModalities": ["TEXT"],
        "presence_penalty": None,
    }
    assert body(options, instructions="Be brief.") == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "tools": [
            {"functionDeclarations": [{"name": "look", "description": "Looks.", "parametersJsonSchema": SCHEMA}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "labels": {"team": "support"},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 40,
            "maxOutputTokens": 9,
            "stopSequences": ["END"],
            "seed": 7,
            "responseModalities": ["TEXT"],
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"},
        },
    }


def test_a_plain_request_has_no_keys_to_spare() -> None:
    assert body(tools=()) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_a_generation_config_of_ones_own_goes_in_front() -> None:
    options = {"temperature": 1, "generation_config": {"temperature": 0, "thinkingConfig": {"thinkingBudget": 5}}}
    assert body(options)["generationConfig"] == {"temperature": 0, "thinkingConfig": {"thinkingBudget": 5}}
    options = {"reasoning_effort": "high", "thinking_config": {"includeThoughts": False}}
    assert body(options)["generationConfig"] == {"thinkingConfig": {"includeThoughts": False, "thinkingLevel": "high"}}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-3.8-flash", "none", {"thinkingLevel": "low"}),
        ("gemini-3.5-flash", "none", {"thinkingLevel": "minimal"}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3.5-flash-lite", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3.7-flash", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-4-argon", "max", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-flash-latest", "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", "xhigh", {"thinkingBudget": 24_576, "includeThoughts": True}),
    ],
)
def test_an_effort_is_a_level_or_a_budget_that_the_model_has(model: str, effort: str, thinking: Any) -> None:
    assert body({"reasoning_effort": effort}, model=model)["generationConfig"] == {"thinkingConfig": thinking}


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("required", {"mode": "ANY"}),
        ("none", {"mode": "NONE"}),
        ({"type": "any"}, {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "look"}}, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
        ({"type": "function", "name": "look"}, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
        ({"type": "tool", "name": "look"}, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
            {"mode": "VALIDATED", "allowedFunctionNames": ["look"]},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]},
            },
            {"mode": "ANY", "allowedFunctionNames": ["look"]},
        ),
        ({"mode": "VALIDATED"}, {"mode": "VALIDATED"}),
    ],
)
def test_a_tool_choice_may_be_spelled_as_other_vendors_do(choice: Any, calling: Any) -> None:
    assert body({"tool_choice": choice})["toolConfig"] == {"functionCallingConfig": calling}
    assert "toolConfig" not in body({"tool_choice": choice}, tools=())


def test_tools_of_googles_join_ours() -> None:
    options = {
        "tools": [{"googleSearch": {}}],
        "tool_config": {"includeServerSideToolInvocations": True},
        "tool_choice": "auto",
    }
    written = body(options)
    assert [list(tool) for tool in written["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert written["toolConfig"] == {
        "functionCallingConfig": {"mode": "AUTO"},
        "includeServerSideToolInvocations": True,
    }
    assert body(options, tools=())["toolConfig"] == {"includeServerSideToolInvocations": True}


def test_a_cache_holds_the_instructions_and_the_tools() -> None:
    options = {"cached_content": "cachedContents/1", "tool_choice": "auto", "tools": [{"googleSearch": {}}]}
    assert body(options, instructions="Be brief.") == {
        "cachedContent": "cachedContents/1",
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"reasoning_effort": "very"},
        {"tool_choice": 7},
        {"tool_choice": {"type": "function"}},
        {"tools": 7},
        {"tools": [7]},
        {"tool_config": "ANY"},
        {"generation_config": 7},
        {"tool_config": "ANY", "tool_choice": "auto"},
    ],
)
def test_options_that_cannot_be_read_are_a_provider_error(options: dict[str, Any]) -> None:
    with pytest.raises(ProviderError, match=r"reasoning_effort|model options"):
        body(options)


# -- tools


def test_a_tool_without_parameters_has_no_schema() -> None:
    tool = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
    assert body(tools=[tool])["tools"] == [{"functionDeclarations": [{"name": "now", "description": "The time."}]}]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "integer", "exclusiveMaximum": 10, "minimum": 2}, {"type": "integer", "maximum": 9, "minimum": 2}),
        ({"type": "number", "exclusiveMinimum": 0.5}, {"type": "number", "minimum": 0.5}),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"const": True}, {"type": "boolean", "enum": [True]}),
        ({"const": None}, {"type": "null"}),
        ({"const": {"a": 1}}, {}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "description": "(format: uuid)"}),
        (
            {"type": "string", "description": "A code.", "pattern": "^a", "maxLength": 3},
            {"type": "string", "description": "A code. (pattern: ^a, maxLength: 3)"},
        ),
        ({"title": "A", "$schema": "x", "examples": [1], "type": "null"}, {"type": "null"}),
        (
            {"type": "object", "properties": {"title": {"const": 1}, "format": {"type": "string"}}},
            {"type": "object", "properties": {"title": {"type": "integer", "enum": [1]}, "format": {"type": "string"}}},
        ),
        (
            {"anyOf": [{"const": 1.5}, {"$ref": "#/$defs/A"}]},
            {"anyOf": [{"type": "number", "enum": [1.5]}, {"$ref": "#/$defs/A"}]},
        ),
        ({"$defs": {"A": {"title": "A"}}, "items": {"title": "B"}}, {"$defs": {"A": {}}, "items": {}}),
        (
            {"additionalProperties": False, "default": {"title": "kept"}},
            {"additionalProperties": False, "default": {"title": "kept"}},
        ),
    ],
)
def test_a_schema_is_written_in_the_words_that_google_knows(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(schema)
    assert google_schema(schema) == expected
    assert repr(schema) == before
    assert google_schema(expected) == expected


# -- the conversation


def test_images_documents_and_sound_are_inline_or_named_by_their_url() -> None:
    content = [
        TextBlock("see"),
        TextBlock(""),
        ImageBlock("aGk=", "image/jpg"),
        ImageBlock(url="https://example.org/a.png?size=1"),
        ImageBlock(url="https://example.org/a", mime_type="image/webp"),
        ImageBlock(url="https://example.org/a"),
        DocumentBlock("aGk=", "application/pdf", "a.pdf"),
        AudioBlock("aGk=", "audio/mpeg"),
    ]
    assert sent(UserMessage(content, 0)) == [
        {
            "role": "user",
            "parts": [
                {"text": "see"},
                {"inlineData": {"mimeType": "image/jpeg", "data": "aGk="}},
                {"fileData": {"fileUri": "https://example.org/a.png?size=1", "mimeType": "image/png"}},
                {"fileData": {"fileUri": "https://example.org/a", "mimeType": "image/webp"}},
                {"fileData": {"fileUri": "https://example.org/a"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
                {"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("mime_type", "known"),
    [
        ("text/markdown; charset=utf-8", "text/plain"),
        ("application/json", "text/plain"),
        ("application/pdf", "application/pdf"),
        ("audio/x-wav", "audio/wav"),
        ("audio/ogg", "audio/ogg"),
    ],
)
def test_a_type_has_the_name_that_google_knows(mime_type: str, known: str) -> None:
    parts = sent(UserMessage([DocumentBlock("aGk=", mime_type)], 0))[0]["parts"]
    assert parts == [{"inlineData": {"mimeType": known, "data": "aGk="}}]


def test_results_of_parallel_calls_are_one_content_in_the_calls_order() -> None:
    contents = sent(
        UserMessage("hi", 0),
        assistant(call("a"), call("b")),
        result("b", TextBlock("two"), error=True),
        result("a"),
        UserMessage("and?", 0),
        UserMessage("well?", 0),
    )
    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "look", "response": {"output": "(no output)"}}},
        {"functionResponse": {"name": "look", "response": {"error": "two"}}},
    ]
    assert contents[3]["parts"] == [{"text": "and?"}, {"text": "well?"}]


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-2.5-flash"])
def test_media_of_a_result_is_inside_it_where_the_model_takes_that(model: str) -> None:
    image, audio = ImageBlock("aGk=", "image/png"), AudioBlock("aGk=", "audio/wav")
    link = ImageBlock(url="https://example.org/a.png")
    history = [UserMessage("hi", 0), assistant(call("a")), result("a", image, audio, link)]
    first, *beside = sent(*history, model=model)[2]["parts"]
    written = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    others = [
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
        {"fileData": {"fileUri": "https://example.org/a.png", "mimeType": "image/png"}},
    ]
    response = {"name": "look", "response": {"output": "(see the attachment)"}}
    if model == "gemini-3.8-flash":
        assert (first, beside) == ({"functionResponse": {**response, "parts": [written]}}, others)
    else:
        assert (first, beside) == ({"functionResponse": response}, [written, *others])


def test_calls_of_other_vendors_get_the_signature_that_skips_the_check_and_no_ids() -> None:
    foreign = assistant(TextBlock("Let me look."), call("a"), call("b"), api="x", provider="y", model="z")
    history = [UserMessage("hi", 0), foreign]
    assert sent(*history)[1]["parts"] == [
        {"text": "Let me look."},
        {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": SKIPS},
        {"functionCall": {"name": "look", "args": {}}},
    ]
    assert "thoughtSignature" not in str(sent(*history, model="gemini-2.5-flash"))


def test_a_name_that_a_model_made_up_is_one_that_google_takes() -> None:
    made_up = ToolCallBlock("a", "2 looks/ß", {})
    contents = sent(UserMessage("hi", 0), assistant(made_up), replace(result("a"), tool_name="2 looks/ß"))
    assert contents[1]["parts"][0]["functionCall"]["name"] == "_2_looks__"
    assert contents[2]["parts"][0]["functionResponse"]["name"] == "_2_looks__"


def test_a_conversation_begins_with_the_user() -> None:
    assert [content["role"] for content in sent(assistant(TextBlock("hi")), UserMessage("hi", 0))] == [
        "user",
        "model",
        "user",
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"signed": 7, "parts": 7},
        {"signed": [7, [1], [5, 2, "x"], ["a", 2, "x"], [0, 1, 7]], "parts": [7, {}, {"thoughtSignature": "x"}]},
        {"parts": [{"fileData": {"fileUri": "gs://ours/secret.pdf"}}, {"text": "x"}, {"functionResponse": {}}]},
    ],
)
def test_data_that_a_caller_made_up_is_no_part_of_the_conversation(data: dict[str, Any]) -> None:
    answer = assistant(TextBlock("yes", provider_data=data), api=API, provider="google", model="gemini-3.8-flash")
    assert sent(UserMessage("hi", 0), answer)[1]["parts"] == [{"text": "yes"}]


@given(histories())
def test_any_conversation_is_such_as_google_takes(messages: list[Message]) -> None:
    contents = sent(*messages)
    assert contents[0]["role"] == "user"
    calls: list[str] = []
    for content in contents:
        assert content["parts"]
        responses = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
        assert responses == calls
        calls = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        assert first is None or first["thoughtSignature"]
        assert all(part.get("text") != "" or "thoughtSignature" in part for part in content["parts"])
    assert contents[-1]["role"] == "user"


def test_thinking_that_google_signed_goes_back_and_other_thinking_does_not() -> None:
    answer = assistant(ThinkingBlock("hm", "U0lH"), ThinkingBlock("well"), TextBlock("Yes."))
    answer.api, answer.provider, answer.model = API, "google", "gemini-3.8-flash"
    assert sent(UserMessage("hi", 0), answer)[1]["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "U0lH"},
        {"text": "Yes."},
    ]

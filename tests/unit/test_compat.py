"""What servers that speak chat completions are sent: each what it takes, and what it wants to see again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agentkit.core.messages import (
    AssistantMessage,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    UserMessage,
)
from agentkit.errors import ConfigurationError
from agentkit.providers import anthropic_request, ollama
from agentkit.providers.compat import OPENAI, Compat, changed, compat_for
from agentkit.providers.openai_request import build_request
from agentkit.providers.protocol import ModelRequest
from tests.histories import assistant, call, result

OWN: dict[str, Any] = {"api": "openai-completions", "provider": "openai", "model": "m"}
IMAGE = ImageBlock("aGk=", "image/png")
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
OPENROUTER = "https://openrouter.ai/api/v1"


def body_for(compat: Compat | str, *messages: Message, model: str = "m", **fields: Any) -> Any:
    compat = compat_for(compat) if isinstance(compat, str) else compat
    return build_request(ModelRequest(model, "", messages or (UserMessage("hi", 0),), **fields), "openai", compat)


def sent(compat: Compat | str, *messages: Message, **fields: Any) -> list[Any]:
    messages_sent: list[Any] = body_for(compat, *messages, **fields)["messages"]
    return messages_sent


def order(messages: list[Any]) -> list[tuple[str, Any]]:
    return [(m["role"], m["content"] if isinstance(m["content"], str | None) else "…") for m in messages]


def signed(id: str, signature: str) -> ToolCallBlock:
    extra = {"google": {"thought_signature": signature}}
    return ToolCallBlock(id, "look", {}, provider_data={"extra_content": extra})


def signatures(messages: list[Any]) -> list[Any]:
    calls = [c for m in messages for c in m.get("tool_calls", [])]
    return [c.get("extra_content", {}).get("google", {}).get("thought_signature") for c in calls]


# -- what the vendor wants to see again


@pytest.mark.parametrize("url", [GOOGLE, OPENROUTER, "http://127.0.0.1:4000/v1"])
def test_signatures_go_back_beside_their_calls(url: str) -> None:
    asked = assistant(signed("a", "U0lH"), call("b"), stop="toolUse", **OWN)
    assert signatures(sent(url, asked, result("a"), result("b"))) == ["U0lH", None]


@pytest.mark.parametrize("author", [{**OWN, "provider": "gateway"}, {**OWN, "api": "gemini"}])
def test_signatures_go_to_no_other_vendor(author: dict[str, Any]) -> None:
    asked = assistant(signed("a", "U0lH"), stop="toolUse", **author)
    assert "U0lH" not in json.dumps(sent(Compat(), asked, result("a")))


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://api.mistral.ai/v1", "https://api.groq.com"])
def test_servers_that_add_nothing_of_their_own_are_sent_nothing_of_others(url: str) -> None:
    data = {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "extra_content": {"google": {}}}
    asked = replaced(assistant(TextBlock("ok"), signed("a", "U0lH"), stop="toolUse", **OWN), provider_data=data)
    got = sent(url, asked, result("a"))[-2]
    assert set(got) == {"role", "content", "tool_calls"}
    assert set(got["tool_calls"][0]) == {"id", "type", "function"}


def test_calls_of_other_models_get_the_signature_that_gemini_skips() -> None:
    asked = assistant(call("a"), call("b"), stop="toolUse", provider="anthropic", api="anthropic-messages")
    skip = "skip_thought_signature_validator"
    assert signatures(sent(GOOGLE, asked, model="gemini-3.8-flash")) == [skip, None]
    assert signatures(sent(GOOGLE, asked, model="models/gemini-4-argon")) == [skip, None]
    assert signatures(sent(GOOGLE, asked, model="gemini-2.5-pro")) == [None, None]
    assert signatures(sent(OPENROUTER, asked, model="google/gemini-3-pro")) == [None, None]
    own = assistant(signed("a", "U0lH"), stop="toolUse", **OWN)
    assert signatures(sent(GOOGLE, own, model="gemini-3.8-flash")) == ["U0lH"]


def test_what_litellm_puts_beside_a_call_and_into_its_id_goes_back() -> None:
    fields = {"thought_signature": "U0lH"}
    block = ToolCallBlock(
        "call_1__thought__" + "x" * 500, "look", {}, provider_data={"provider_specific_fields": fields}
    )
    [_, asked, _] = sent("http://127.0.0.1:4000/v1", UserMessage("hi", 0), assistant(block, stop="toolUse", **OWN))
    assert asked["tool_calls"][0]["provider_specific_fields"] == fields
    assert asked["tool_calls"][0]["id"] == block.id


DETAILS = [{"type": "reasoning.text", "text": "hm", "signature": "c2ln", "index": 0}]


def replaced(message: AssistantMessage, **fields: Any) -> AssistantMessage:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize("url", [OPENROUTER, "https://api.minimax.io/v1", "http://127.0.0.1:8000/v1"])
def test_reasoning_details_go_back_whole_in_place_of_the_thinking(url: str) -> None:
    asked = assistant(ThinkingBlock("hm"), call("a"), stop="toolUse", **OWN)
    got = sent(url, UserMessage("hi", 0), replaced(asked, provider_data={"reasoning_details": DETAILS}), result("a"))[1]
    assert got["reasoning_details"] == DETAILS
    assert "reasoning" not in got


def test_reasoning_details_go_to_no_other_model_of_the_vendor() -> None:
    asked = replaced(assistant(TextBlock("ok"), **OWN), provider_data={"reasoning_details": DETAILS})
    assert "reasoning_details" not in sent(OPENROUTER, UserMessage("hi", 0), asked, model="other")[-1]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.moonshot.ai/v1",
        "https://api.moonshot.cn/v1",
        "https://api.kimi.com/coding/v1",
        "https://api.deepseek.com",
    ],
)
def test_thinking_is_sent_with_every_call_to_those_who_require_it(url: str) -> None:
    asked = [
        assistant(ThinkingBlock("hm"), call("a"), stop="toolUse", **OWN),
        assistant(call("b"), stop="toolUse", **OWN),
        assistant(call("c"), stop="toolUse", provider="other"),
        assistant(TextBlock("done"), **OWN),
    ]
    got = [m for m in sent(url, *asked) if m["role"] == "assistant"]
    assert [m.get("reasoning_content") for m in got] == ["hm", "", "", None]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.z.ai/api/paas/v4",
        "https://open.bigmodel.cn/api/paas/v4",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ],
)
def test_thinking_goes_back_to_those_who_read_it(url: str) -> None:
    asked = [
        assistant(ThinkingBlock("hm"), call("a"), stop="toolUse", **OWN),
        assistant(call("b"), stop="toolUse", **OWN),
    ]
    got = [m for m in sent(url, *asked) if m["role"] == "assistant"]
    assert [m.get("reasoning_content") for m in got] == ["hm", None]


# -- order


def asked_and_answered(*blocks: Any) -> list[Message]:
    return [UserMessage("look", 0), assistant(call("c1"), stop="toolUse", **OWN), result("c1", *blocks)]


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("https://api.mistral.ai/v1", "m"),
        ("https://integrate.api.nvidia.com/v1", "mistralai/mistral-small-4-119b-2603"),
        (OPENROUTER, "mistralai/devstral-small"),
        ("https://api.openai.com/v1", "open-mixtral-8x22b"),
    ],
)
def test_mistrals_models_get_no_user_message_after_a_tool_message(url: str, model: str) -> None:
    image = sent(url, *asked_and_answered(IMAGE), model=model)
    steered = sent(url, *asked_and_answered(TextBlock("ok")), UserMessage("and hurry", 0), model=model)
    failed = assistant(stop="error", **OWN)
    later = sent(url, *asked_and_answered(TextBlock("ok")), failed, UserMessage("go on", 0), model=model)
    for messages in (image, steered, later):
        assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "user"]
        assert messages[3]["content"]


@pytest.mark.parametrize("url", [OPENAI, "http://127.0.0.1:8000/v1"])
def test_others_get_the_messages_as_they_are(url: Any) -> None:
    got = sent(url, *asked_and_answered(TextBlock("ok")), UserMessage("a", 0), UserMessage("b", 0))
    assert [m["role"] for m in got] == ["user", "assistant", "tool", "user", "user"]


@pytest.mark.parametrize("url", ["https://api.perplexity.ai", "https://api.mistral.ai/v1"])
def test_roles_alternate_for_strict_templates(url: str) -> None:
    u, a = UserMessage, lambda *blocks, **more: assistant(*blocks, **{**OWN, **more})
    assert order(sent(url, u("a", 0), u("b", 0))) == [("user", "a\n\nb")]
    assert order(sent(url, u("a", 0), a(), u("b", 0))) == [("user", "a\n\nb")]
    assert order(sent(url, u("a", 0), a(ThinkingBlock("hm")), u("b", 0)))[-1][0] == "user"
    assert order(sent(url, u("a", 0), a(TextBlock("half"), stop="error"), u("b", 0))) == [("user", "a\n\nb")]
    assert [r for r, _ in order(sent(url, a(TextBlock("hi")), u("a", 0)))] == ["user", "assistant", "user"]
    assert order(sent(url, u("a", 0), a(TextBlock("x")), a(TextBlock("y")))) == [("user", "a"), ("assistant", "x\n\ny")]
    both = sent(url, u("a", 0), u([TextBlock("see"), IMAGE], 0))
    assert [part["type"] for part in both[0]["content"]] == ["text", "text", "image_url"]


def test_an_answer_and_the_calls_after_it_are_one_message_where_roles_alternate() -> None:
    messages = [UserMessage("a", 0), assistant(TextBlock("x"), **OWN), assistant(call("c"), stop="toolUse", **OWN)]
    got = sent(Compat(alternating_roles=True), *messages, result("c", TextBlock("ok")))
    assert order(got) == [("user", "a"), ("assistant", "x"), ("tool", "ok")]
    assert len(got[1]["tool_calls"]) == 1


def test_the_instructions_stay_in_front_and_alone() -> None:
    request = ModelRequest("m", "Be brief.", [assistant(TextBlock("hi"), **OWN), UserMessage("a", 0)])
    got = build_request(request, "openai", Compat(alternating_roles=True))["messages"]
    assert [m["role"] for m in got] == ["system", "user", "assistant", "user"]


def test_no_empty_content_is_sent() -> None:
    got = sent(Compat(), UserMessage([TextBlock(" "), IMAGE, TextBlock("")], 0))
    assert [part["type"] for part in got[0]["content"]] == ["image_url"]
    thinking = sent(OPENROUTER, UserMessage("a", 0), assistant(ThinkingBlock("hm"), **OWN), UserMessage("b", 0))
    assert order(thinking) == [("user", "a"), ("user", "b")]


def test_content_beside_calls_is_null_or_empty_as_the_server_takes_it() -> None:
    assert sent(OPENAI, *asked_and_answered())[1]["content"] is None
    assert sent("https://api.minimax.io/v1", *asked_and_answered())[1]["content"] == ""


# -- keys and names


@pytest.mark.parametrize(
    ("url", "hints"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://me.openai.azure.com/openai/v1", True),
        ("https://api.moonshot.ai/v1", True),
        (GOOGLE, False),
        ("https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi", False),
        ("https://integrate.api.nvidia.com/v1", False),
        ("https://api.cohere.ai/compatibility/v1", False),
        ("https://router.huggingface.co/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_cache_keys_go_to_servers_that_know_them(url: str, hints: bool) -> None:
    body = body_for(url, UserMessage("hi", 0, "long"), cache="auto", model="gpt-5.1")
    assert ("prompt_cache_key" in body) is hints
    assert ("prompt_cache_retention" in body) is hints


def test_google_is_sent_no_key_that_it_does_not_know() -> None:
    body = body_for(GOOGLE, cache="auto", options={"max_output_tokens": 9, "reasoning_effort": "low"})
    assert set(body) == {"model", "messages", "stream", "stream_options", "max_tokens", "reasoning_effort"}


@pytest.mark.parametrize(
    ("url", "model", "field"),
    [
        ("https://llm.corp.example/v1", "gpt-5.1", "max_completion_tokens"),
        ("http://127.0.0.1:4000/v1", "openai/o3", "max_completion_tokens"),
        (OPENROUTER, "openai/gpt-6-astra", "max_completion_tokens"),
        ("http://127.0.0.1:4000/v1", "gpt-oss:20b", "max_tokens"),
        ("http://127.0.0.1:4000/v1", "gpt-4o", "max_tokens"),
        ("http://127.0.0.1:4000/v1", "gpt-35-turbo", "max_tokens"),
        ("https://api.openai.com/v1", "gpt-4o", "max_completion_tokens"),
        ("https://models.github.ai/inference", "openai/gpt-4.1", "max_completion_tokens"),
        ("https://api.deepseek.com", "deepseek-chat", "max_tokens"),
    ],
)
def test_the_token_limit_is_called_what_the_server_or_the_model_wants(url: str, model: str, field: str) -> None:
    body = body_for(url, model=model, options={"max_output_tokens": 9})
    assert [name for name in body if name.startswith("max_")] == [field]


@pytest.mark.parametrize(
    "url",
    [
        "https://me.openai.azure.us/openai/v1",
        "https://me.openai.azure.cn/openai/v1",
        "https://me.azure-api.net/openai/deployments/x",
        "https://me.services.ai.azure.com/openai/v1",
        "https://ME.OpenAI.Azure.com./openai/v1",
    ],
)
def test_azures_clouds_get_the_key_in_their_own_header(url: str) -> None:
    assert compat_for(url).key_header == "api-key"
    assert compat_for(url).max_tokens_field == "max_completion_tokens"


# -- changes


def test_a_model_option_changes_what_is_known_of_a_server() -> None:
    compat = changed(compat_for("https://api.mistral.ai/v1"), {"stream_usage": True})
    assert compat == replace(compat_for("https://api.mistral.ai/v1"), stream_usage=True)
    assert changed(OPENAI, Compat()) == Compat()
    assert changed(OPENAI, None) is OPENAI


@pytest.mark.parametrize("changes", ["strict", {"strict": True}, 7, [("echo", False)]])
def test_a_change_of_what_there_is_not_is_an_error_that_names_what_there_is(changes: Any) -> None:
    with pytest.raises(ConfigurationError, match="assistant_after_tool"):
        changed(OPENAI, changes)


def test_the_option_reaches_no_vendor() -> None:
    request = ModelRequest("m", "", [UserMessage("hi", 0)], options={"compat": {"echo": False}})
    for body in (build_request(request), anthropic_request.build_request(request), ollama.build_request(request)):
        assert "compat" not in json.dumps(body)

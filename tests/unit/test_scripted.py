"""ScriptedModel, and the names under which models are found."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import (
    AssistantMessage,
    Json,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    UserMessage,
    text_of,
    tool_calls_of,
)
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers import register_provider, resolve
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.protocol import Finish, ModelRequest, Part, Provider, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.scripted import ScriptedModel, Scripts
from agentkit.testing.provider_contract import build
from tests.turns import call

CALL: Json = call("look", x="äö")


def play(model: Provider, *messages: Message, name: str = "script") -> list[Part]:
    return list(model.stream(ModelRequest(name, "", messages), Cancellation()))


def answered(model: Provider, *messages: Message) -> AssistantMessage:
    return build(play(model, *messages))


def test_the_turn_is_chosen_by_the_answers_since_the_last_user_message() -> None:
    model = ScriptedModel(["one", "two"])
    user, answer = UserMessage("hi", 0), answered(model, UserMessage("hi", 0))
    assert text_of(answered(model, user)) == "one"
    assert text_of(answered(model, user, answer)) == "two"
    assert text_of(answered(model, user, answer, answer, user)) == "one"


def test_past_the_last_turn_is_a_clear_error() -> None:
    model = ScriptedModel(["one"])
    with pytest.raises(ProviderError, match="1 turns, and the conversation asks for turn 2") as caught:
        play(model, UserMessage("hi", 0), answered(model, UserMessage("hi", 0)))
    assert not caught.value.retryable


def test_texts_thinking_and_arguments_stream_in_pieces() -> None:
    turn = [
        {"type": "thinking", "thinking": "hmm", "signature": "s"},
        {"type": "text", "text": "hello"},
        CALL,
        {**CALL, "id": "mine"},
    ]
    parts = play(ScriptedModel([turn], chunk_size=2), UserMessage("hi", 0))
    assert [part.text for part in parts if isinstance(part, TextDelta)] == ["he", "ll", "o"]
    assert [part for part in parts if isinstance(part, ThinkingDelta)][-1] == ThinkingDelta("", "s")
    assert all(len(part.arguments) <= 2 for part in parts if isinstance(part, ToolCallDelta))
    message = build(parts)
    assert message.content == [
        ThinkingBlock("hmm", "s"),
        TextBlock("hello"),
        ToolCallBlock("call_0_0", "look", {"x": "äö"}),
        ToolCallBlock("mine", "look", {"x": "äö"}),
    ]
    assert message.stop_reason == "toolUse"


def test_without_a_chunk_size_a_text_is_one_part() -> None:
    parts = play(ScriptedModel(["hello there"]), UserMessage("hi", 0))
    assert parts[:-1] == [TextDelta("hello there")]
    assert isinstance(parts[-1], Finish)
    assert parts[-1].stop_reason == "stop"


def test_ids_of_tool_calls_are_unique_in_a_run_and_the_same_each_time() -> None:
    model = ScriptedModel([[CALL, CALL]])
    user = UserMessage("hi", 0)
    first = answered(model, user)
    second = answered(model, user, first, user)
    ids = [call.id for message in (first, second) for call in tool_calls_of(message)]
    assert ids == ["call_0_0", "call_0_1", "call_1_0", "call_1_1"]
    assert answered(model, user, first, user) == second


def test_a_script_can_write_arguments_that_are_no_json() -> None:
    message = answered(ScriptedModel([[{**CALL, "rawArguments": "{oops"}]]), UserMessage("hi", 0))
    assert message.content == [ToolCallBlock("call_0_0", "look", {}, raw_arguments="{oops")]


def test_usage_counts_about_four_characters_a_token() -> None:
    usage = answered(ScriptedModel(["x" * 40]), UserMessage("y" * 81, 0)).usage
    assert (usage.input, usage.output, usage.total_tokens) == (21, 10, 31)
    assert usage.cost.total == 0


def test_cancelling_ends_a_slow_script_at_once() -> None:
    cancel = Cancellation()
    parts = ScriptedModel(["ab"], chunk_size=1, delay=30).stream(ModelRequest("m", "", [UserMessage("", 0)]), cancel)
    assert next(parts) == TextDelta("a")
    rest: list[Part] = []
    thread = threading.Thread(target=lambda: rest.extend(parts))
    thread.start()
    cancel.cancel("test")
    thread.join(5)
    assert not thread.is_alive()
    assert rest == []


def test_a_function_may_stand_in_for_the_turns() -> None:
    model = ScriptedModel(lambda messages: f"{len(messages)} messages")
    assert text_of(answered(model, UserMessage("hi", 0))) == "1 messages"


def test_a_function_is_passed_the_messages_of_the_protocol() -> None:
    def last_text(messages: list[Json]) -> str:
        assert messages[0] == {"role": "user", "content": "hi", "timestamp": 5}
        return str(messages[-1]["toolCallId"])

    result = ToolResultMessage("call_1", "look", [], is_error=False, timestamp=0)
    assert text_of(answered(ScriptedModel(last_text), UserMessage("hi", 5), result)) == "call_1"


@pytest.mark.parametrize(
    "turns",
    [
        "hello",
        [5],
        [["hello"]],
        [[{"type": "image", "data": "", "mimeType": ""}]],
        [[{"type": "toolCall", "name": "f"}]],
    ],
)
def test_a_script_that_is_none_is_refused_when_it_is_made(turns: Any) -> None:
    with pytest.raises(ConfigurationError):
        ScriptedModel(turns)


@pytest.mark.parametrize("wrong", [{"chunk_size": 0}, {"delay": -1}])
def test_a_wrong_pace_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ScriptedModel(["hi"], **wrong)


# -- names


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr("agentkit.providers._instances", {})


def test_a_scripted_model_provides_itself() -> None:
    model = ScriptedModel(["hi"], name="demo")
    assert resolve(model) == (model, "demo")
    assert str(model) == "scripted:demo"


def test_echo_repeats_the_last_user_text() -> None:
    provider, name = resolve("scripted:echo")
    parts = play(provider, UserMessage("first", 0), UserMessage([TextBlock("sec"), TextBlock("ond")], 0), name=name)
    assert text_of(build(parts)) == "second"


@pytest.mark.usefixtures("forgotten")
def test_a_registered_script_is_found_by_its_name() -> None:
    provider, _ = resolve("scripted:echo")
    cast(Scripts, provider).register(ScriptedModel(["hi"], name="demo"))
    assert text_of(build(play(provider, UserMessage("x", 0), name="demo"))) == "hi"
    with pytest.raises(ProviderError, match="only demo, echo"):
        play(provider, UserMessage("x", 0), name="other")


def test_a_models_name_may_contain_colons_and_its_provider_is_made_once() -> None:
    provider, name = resolve("openai:ft:gpt:x")
    assert name == "ft:gpt:x"
    assert isinstance(provider, OpenAIProvider)
    assert resolve("openai:other")[0] is provider


@pytest.mark.parametrize("name", ["gpt", "openai:", "nobody:gpt", "", ":x"])
def test_a_name_that_names_no_model_is_an_error_listing_the_providers(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"openai.*scripted") as caught:
        resolve(name)
    assert repr(name.partition(":")[0])[1:-1] in caught.value.message


@pytest.mark.usefixtures("forgotten")
def test_a_registered_provider_answers_for_its_name() -> None:
    mine = OpenAIProvider("mine", url="http://127.0.0.1:1", key_setting="MY_KEY")
    register_provider(mine)
    assert resolve("mine:m") == (mine, "m")
    with pytest.raises(ConfigurationError, match="mine"):
        resolve("nobody:m")

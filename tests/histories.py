"""Messages for tests, in few words, and a strategy that makes conversations out of them."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import strategies as st

from agentkit.core.messages import AssistantMessage, Message, ToolResultMessage, image, text, user_message, zero_usage

__all__ = ["assistant", "call", "histories", "result"]


def assistant(
    *content: Any, stop: str = "stop", api: str = "", provider: str = "", model: str = ""
) -> AssistantMessage:
    message = {
        "role": "assistant",
        "content": list(content),
        "api": api,
        "provider": provider,
        "model": model,
        "usage": zero_usage(),
        "stopReason": stop,
        "timestamp": 0,
    }
    return cast(AssistantMessage, message)


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


# -- any conversation ------------------------------------------------------------------------------

# Few ids, so that they collide; among them such as one vendor makes and another refuses.
_IDS = ["a", "call_1", "toolu_01", "abcdef123", "functions.look:0", "x" * 70, "ü|ß", "", "0 1"]
_AUTHORS = [
    ("openai-completions", "openai", "m"),
    ("anthropic-messages", "anthropic", "m"),
    ("ollama-chat", "ollama", "m"),
    ("openai-completions", "openai", "other"),
    ("", "", ""),
]
_words = st.sampled_from(["", " ", "\n\n", "hm", "so be it", "<b>", "Grüße 🏔"])
_mark = st.sampled_from([{}, {}, {}, {"cache": "short"}, {"cache": "long"}])
_texts = st.builds(lambda value, mark: {**text(value), **mark}, _words, _mark)
_images = st.builds(lambda mark: {**image("aGk=", "image/png"), **mark}, _mark)
_thinking = st.builds(
    lambda value, signature: {"type": "thinking", "thinking": value, **signature},
    _words,
    st.sampled_from([{}, {"signature": "c2lnbmVk"}]),
)
_calls = st.builds(
    lambda call_id, more, mark: {**call(call_id, x=1), **more, **mark},
    st.sampled_from(_IDS),
    st.sampled_from([{}, {}, {"arguments": {}, "rawArguments": '{"x": '}]),
    _mark,
)
_user_content = st.lists(st.one_of(st.just(text("see")), _images), min_size=1, max_size=3)
_users = st.builds(
    lambda content, mark: {**user_message(content, 0), **mark}, st.one_of(st.just("hello"), _user_content), _mark
)


@st.composite
def _assistants(draw: st.DrawFn) -> AssistantMessage:
    content = draw(st.lists(st.one_of(_texts, _thinking, _calls), max_size=5))
    stop = draw(st.sampled_from(["stop", "toolUse", "length", "error", "aborted"]))
    api, provider, model = draw(st.sampled_from(_AUTHORS))
    return assistant(*content, stop=stop, api=api, provider=provider, model=model)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """A conversation in any order: calls without results, results without calls, ids used twice."""
    results = st.builds(
        lambda call_id, content, mark: {**result(call_id, *content), **mark},
        st.sampled_from(_IDS),
        st.lists(st.one_of(_texts, _images), max_size=2),
        _mark,
    )
    messages = draw(st.lists(st.one_of(_users, _assistants(), _assistants(), results, results), max_size=12))
    return cast(list[Message], [*messages, user_message("go on", 0)])

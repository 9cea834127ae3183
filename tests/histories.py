"""Short ways to make messages for tests, and a strategy that makes conversations out of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from agentkit.core.messages import (
    AssistantBlock,
    AssistantMessage,
    ContentBlock,
    ImageBlock,
    Message,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    Usage,
    UserMessage,
)

__all__ = ["assistant", "call", "histories", "marked", "result"]


def assistant(
    *content: AssistantBlock, stop: StopReason = "stop", api: str = "", provider: str = "", model: str = ""
) -> AssistantMessage:
    return AssistantMessage(list(content), api, provider, model, Usage.of(), stop, timestamp=0)


def call(call_id: str, **arguments: Any) -> ToolCallBlock:
    return ToolCallBlock(call_id, "look", arguments)


def result(call_id: str, *content: ContentBlock, error: bool = False) -> ToolResultMessage:
    return ToolResultMessage(call_id, "look", list(content), error, timestamp=0)


def marked(value: Any, cache: str | None) -> Any:
    """A block or message with that cache mark."""
    return replace(value, cache=cache)


# -- any conversation

# Few ids, so that they collide; among them such as one vendor makes and another refuses.
_IDS = ["a", "call_1", "toolu_01", "abcdef123", "functions.look:0", "x" * 70, "ü|ß", "", "0 1"]
_AUTHORS = [
    ("openai-completions", "openai", "m"),
    ("anthropic-messages", "anthropic", "m"),
    ("ollama-chat", "ollama", "m"),
    ("google-generate-content", "google", "m"),
    ("openai-completions", "openai", "other"),
    ("openai-responses", "openai", "m"),
    ("", "", ""),
]
_words = st.sampled_from(["", " ", "\n\n", "hm", "so be it", "<b>", "Grüße 🏔"])
_mark = st.sampled_from([None, None, None, "short", "long"])
_texts = st.builds(TextBlock, _words, _mark)
_images = st.builds(ImageBlock, st.just("aGk="), st.just("image/png"), _mark)
_thinking = st.builds(ThinkingBlock, _words, st.sampled_from([None, "c2lnbmVk"]))
_calls = st.builds(
    lambda call_id, raw, mark: ToolCallBlock(call_id, "look", {} if raw else {"x": 1}, raw, mark),
    st.sampled_from(_IDS),
    st.sampled_from([None, None, '{"x": ']),
    _mark,
)
_user_content = st.lists(st.one_of(st.just(TextBlock("see")), _images), min_size=1, max_size=3)
_users = st.builds(UserMessage, st.one_of(st.just("hello"), _user_content), st.just(0), _mark)


@st.composite
def _assistants(draw: st.DrawFn) -> AssistantMessage:
    content = draw(st.lists(st.one_of(_texts, _thinking, _calls), max_size=5))
    stop: StopReason = draw(st.sampled_from(["stop", "toolUse", "length", "error", "aborted"]))
    api, provider, model = draw(st.sampled_from(_AUTHORS))
    return assistant(*content, stop=stop, api=api, provider=provider, model=model)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """A conversation in any order: calls without results, results without calls, ids used twice."""
    results = st.builds(
        lambda call_id, content, mark: marked(result(call_id, *content), mark),
        st.sampled_from(_IDS),
        st.lists(st.one_of(_texts, _images), max_size=2),
        _mark,
    )
    messages = draw(st.lists(st.one_of(_users, _assistants(), _assistants(), results, results), max_size=12))
    return [*messages, UserMessage("go on", 0)]

"""Parts in, assistant message and events out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.core.messages import zero_usage
from agentkit.errors import ProviderError
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

END = Finish("stop", zero_usage())


def built(*parts: Part) -> tuple[list[Any], list[Any]]:
    """The content and the events, those of `finish` last."""
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    events = [event for part in (*parts, END) for event in builder.feed(part)]
    events += builder.finish()
    return builder.message()["content"], events


def folded(events: list[Any]) -> list[Any]:
    """The content that a client folds from the events alone; each start must have one end."""
    blocks: dict[int, Any] = {}
    pieces: dict[int, str] = {}
    ended: set[int] = set()
    for event in events:
        kind, _, what = event["type"].partition("_")
        at = event["contentIndex"]
        if what == "start":
            assert at == len(blocks)
            blocks[at], pieces[at] = kind, ""
        elif what == "delta":
            assert at not in ended
            pieces[at] += event["delta"]
        else:
            assert blocks[at] == kind
            assert at not in ended
            ended.add(at)
            blocks[at] = event["toolCall"] if kind == "toolcall" else {"type": kind, kind: pieces[at]}
    assert ended == set(blocks)
    return [blocks[at] for at in sorted(blocks)]


def test_blocks_follow_the_kinds_of_the_parts() -> None:
    content, events = built(ThinkingDelta("h"), ThinkingDelta("m", "sig"), TextDelta("a"), TextDelta("b"))
    assert content == [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "ab"}]
    assert [event["type"] for event in events] == [
        "thinking_start",
        "thinking_delta",
        "thinking_delta",
        "thinking_end",
        "text_start",
        "text_delta",
        "text_delta",
        "text_end",
    ]


def test_empty_parts_open_no_block() -> None:
    assert built(TextDelta(""), ThinkingDelta(""), TextDelta("")) == ([], [])


def test_a_signature_alone_makes_a_block() -> None:
    assert built(ThinkingDelta("", "sig"))[0] == [{"type": "thinking", "thinking": "", "signature": "sig"}]


def test_thinking_after_a_signature_is_a_block_of_its_own() -> None:
    content, events = built(ThinkingDelta("a"), ThinkingDelta("", "s1"), ThinkingDelta("", "s2"), ThinkingDelta("b"))
    assert [(block["thinking"], block.get("signature")) for block in content] == [("a", "s1"), ("", "s2"), ("b", None)]
    assert [event["contentIndex"] for event in events if event["type"] == "thinking_end"] == [0, 1, 2]


def test_interleaved_tool_calls_keep_their_places() -> None:
    content, _ = built(
        ToolCallDelta(0, "a", "f", '{"x"'),
        ToolCallDelta(1, "b", "g", '{"y"'),
        ToolCallDelta(0, arguments=":1}"),
        TextDelta("between"),
        ToolCallDelta(1, "other", "name", ":2}"),
    )
    assert content == [
        {"type": "toolCall", "id": "a", "name": "f", "arguments": {"x": 1}},
        {"type": "toolCall", "id": "b", "name": "g", "arguments": {"y": 2}},
        {"type": "text", "text": "between"},
    ]


@pytest.mark.parametrize("raw", ["", " ", "null", "{}", " {} "])
def test_no_arguments_are_an_empty_object(raw: str) -> None:
    assert built(ToolCallDelta(0, "a", "f", raw))[0] == [{"type": "toolCall", "id": "a", "name": "f", "arguments": {}}]


@pytest.mark.parametrize(
    "raw", ['{"x": "so f', "[1]", '"x"', "5", '{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud800"}', "[" * 100_000]
)
def test_arguments_that_are_no_object_are_kept_as_they_came(raw: str) -> None:
    block = built(ToolCallDelta(0, "a", "f", raw))[0][0]
    assert block["rawArguments"] == raw
    assert block["arguments"] == {}


def test_calls_get_ids_of_their_own_where_the_vendor_gave_none_or_one_twice() -> None:
    content, _ = built(ToolCallDelta(0, "", "f"), ToolCallDelta(1, "a", "f"), ToolCallDelta(2, "a", "f"))
    ids = [block["id"] for block in content]
    assert ids[1] == "a"
    assert all(ids)
    assert len(set(ids)) == 3


def test_half_a_surrogate_pair_never_gets_into_a_text_an_id_or_a_name() -> None:
    assert built(TextDelta("a\ud83d"), TextDelta("é🏔"))[0] == [{"type": "text", "text": "a�é🏔"}]
    [call] = built(ToolCallDelta(0, id="c\ud83d", name="n\udc00"))[0]
    assert (call["id"], call["name"]) == ("c�", "n�")


def test_a_message_without_its_finish_is_retryable_unless_it_is_ended_on_purpose() -> None:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    builder.feed(TextDelta("so f"))
    builder.finish()
    with pytest.raises(ProviderError) as caught:
        builder.message()
    assert caught.value.retryable
    message = builder.message(stop_reason="aborted", error="stopped")
    assert (message["stopReason"], message["errorMessage"]) == ("aborted", "stopped")
    assert message["content"] == [{"type": "text", "text": "so f"}]


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.one_of(
            st.builds(TextDelta, st.text(max_size=3)),
            st.builds(ThinkingDelta, st.text(max_size=3)),
            st.builds(
                ToolCallDelta,
                st.integers(0, 2),
                st.sampled_from(["", "a", "b"]),
                st.sampled_from(["", "f"]),
                st.sampled_from(["", "{", "}", "x"]),
            ),
        ),
        max_size=12,
    )
)
def test_folding_the_events_gives_the_message(parts: list[Part]) -> None:
    content, events = built(*parts)
    assert folded(events) == content

"""Parts in, assistant message and events out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.core.events import AssistantMessageEvent
from agentkit.core.messages import AssistantBlock, TextBlock, ThinkingBlock, ToolCallBlock, Usage
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

END = Finish("stop", Usage.of())


def built(*parts: Part) -> tuple[list[AssistantBlock], list[AssistantMessageEvent]]:
    """The content and the events, those of `finish` last."""
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    events: list[AssistantMessageEvent] = []
    as_returned: list[Any] = []
    for part in (*parts, END):
        events += builder.feed(part)
        as_returned += to_json(events[len(as_returned) :])
    events += builder.finish()
    assert to_json(events)[: len(as_returned)] == as_returned, "an event has changed after it was returned"
    return builder.message().content, events


def folded(events: list[AssistantMessageEvent]) -> list[Any]:
    """The content that a client folds from the events alone; each start must have one end."""
    blocks: dict[int, Any] = {}
    pieces: dict[int, str] = {}
    ended: set[int] = set()
    for event in to_json(events):
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
    assert content == [ThinkingBlock("hm", "sig"), TextBlock("ab")]
    assert [event.type for event in events] == [
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
    assert built(ThinkingDelta("", "sig"))[0] == [ThinkingBlock("", "sig")]


def test_thinking_after_a_signature_is_a_block_of_its_own() -> None:
    content, events = built(ThinkingDelta("a"), ThinkingDelta("", "s1"), ThinkingDelta("", "s2"), ThinkingDelta("b"))
    assert content == [ThinkingBlock("a", "s1"), ThinkingBlock("", "s2"), ThinkingBlock("b")]
    assert [event.content_index for event in events if event.type == "thinking_end"] == [0, 1, 2]


def test_interleaved_tool_calls_keep_their_places() -> None:
    content, _ = built(
        ToolCallDelta(0, "a", "f", '{"x"'),
        ToolCallDelta(1, "b", "g", '{"y"'),
        ToolCallDelta(0, arguments=":1}"),
        TextDelta("between"),
        ToolCallDelta(1, "other", "name", ":2}"),
    )
    assert content == [
        ToolCallBlock("a", "f", {"x": 1}),
        ToolCallBlock("b", "g", {"y": 2}),
        TextBlock("between"),
    ]


@pytest.mark.parametrize("raw", ["", " ", "null", "{}", " {} "])
def test_no_arguments_are_an_empty_object(raw: str) -> None:
    assert built(ToolCallDelta(0, "a", "f", raw))[0] == [ToolCallBlock("a", "f", {})]


@pytest.mark.parametrize(
    "raw", ['{"x": "so f', "[1]", '"x"', "5", '{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud800"}', "[" * 100_000]
)
def test_arguments_that_are_no_object_are_kept_as_they_came(raw: str) -> None:
    assert built(ToolCallDelta(0, "a", "f", raw))[0] == [ToolCallBlock("a", "f", {}, raw_arguments=raw)]


def test_calls_get_ids_of_their_own_where_the_vendor_gave_none_or_one_twice() -> None:
    content, _ = built(ToolCallDelta(0, "", "f"), ToolCallDelta(1, "a", "f"), ToolCallDelta(2, "a", "f"))
    ids = [block.id for block in content if isinstance(block, ToolCallBlock)]
    assert ids[1] == "a"
    assert all(ids)
    assert len(set(ids)) == 3


def test_half_a_surrogate_pair_never_gets_into_a_text_an_id_or_a_name() -> None:
    assert built(TextDelta("a\ud83d"), TextDelta("é🏔"))[0] == [TextBlock("a�é🏔")]
    assert built(ToolCallDelta(0, id="c\ud83d", name="n\udc00"))[0] == [ToolCallBlock("c�", "n�", {})]


@pytest.mark.parametrize("kind", [TextDelta, ThinkingDelta])
def test_a_character_whose_halves_come_in_two_deltas_is_whole(kind: Any) -> None:
    pieces = ["a\ud83d", "\ude00b\ud83c", "", "\udfd4", "\ud83d"]
    content, events = built(*(kind(piece) for piece in pieces))
    [block] = content
    assert to_json(block)[block.__struct_config__.tag] == "a😀b🏔�"
    deltas = [event.delta for event in events if event.type.endswith("_delta")]
    assert deltas == ["a", "😀b", "🏔", "�"]
    assert folded(events) == to_json(content)


def test_halves_of_blocks_that_stream_beside_one_another_are_not_mixed() -> None:
    content, _ = built(TextDelta("a\ud83d"), ThinkingDelta("\ude00"), TextDelta("\ude00"))
    assert content == [TextBlock("a�"), ThinkingBlock("�"), TextBlock("�")]
    content, _ = built(
        ToolCallDelta(0, "c", "f", '{"x": "\ud83d'),
        ToolCallDelta(1, "d", "f", '{"x": "\ud83c'),
        ToolCallDelta(0, arguments='\ude00"}'),
        ToolCallDelta(1, arguments='\udfd4"}'),
    )
    assert content == [ToolCallBlock("c", "f", {"x": "😀"}), ToolCallBlock("d", "f", {"x": "🏔"})]


def test_half_a_surrogate_pair_never_gets_into_arguments() -> None:
    content, events = built(ToolCallDelta(0, "c", "f", '{"x": "a\ud83d'), ToolCallDelta(0, arguments='"}'))
    assert content == [ToolCallBlock("c", "f", {"x": "a�"})]
    assert [event.delta for event in events if event.type == "toolcall_delta"] == ['{"x": "a', '�"}']


def test_a_message_without_its_finish_is_retryable_unless_it_is_ended_on_purpose() -> None:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    builder.feed(TextDelta("so f"))
    builder.finish()
    with pytest.raises(ProviderError) as caught:
        builder.message()
    assert caught.value.retryable
    message = builder.message(stop_reason="aborted", error="stopped")
    assert (message.stop_reason, message.error_message) == ("aborted", "stopped")
    assert message.content == [TextBlock("so f")]


def test_half_a_surrogate_pair_never_gets_into_a_signature_or_an_error() -> None:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    builder.feed(ThinkingDelta("hm", "s\ud83d"))
    message = builder.message(stop_reason="error", error="no\udc00")
    assert (message.content, message.error_message) == ([ThinkingBlock("hm", "s\ufffd")], "no\ufffd")


def test_a_message_stays_as_it_is_when_the_builder_goes_on() -> None:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=5)
    start = builder.start()
    builder.feed(TextDelta("so f"))
    cut = builder.message(stop_reason="aborted")
    builder.feed(TextDelta("ar"))
    assert (start.content, cut.content) == ([], [TextBlock("so f")])


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
    assert folded(events) == to_json(content)

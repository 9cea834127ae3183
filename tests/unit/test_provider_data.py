"""What a vendor wants to see again travels opaquely, beside the block that it came with, and to that vendor alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agentkit.core.messages import (
    AssistantMessage,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    Usage,
    UserMessage,
)
from agentkit.core.struct import decode, encode
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.replay import prepare


def _built(*parts: Part) -> AssistantMessage:
    builder = MessageBuilder(api="wire", provider="vendor", model="m", timestamp=1)
    for part in parts:
        builder.feed(part)
    builder.finish()
    return builder.message()


_END = Finish("stop", Usage.of())


def test_data_of_each_kind_of_part_stands_in_its_block_and_in_the_message() -> None:
    message = _built(
        ThinkingDelta("hm", data={"id": "rs_1"}),
        ThinkingDelta("", data={"encrypted": "e"}),
        TextDelta("yes", data={"id": "msg_1"}),
        ToolCallDelta(0, "c1", "f", "{}", data={"thought_signature": "s"}),
        Finish("toolUse", Usage.of(), data={"container": "k"}),
    )
    assert message.content == [
        ThinkingBlock("hm", provider_data={"id": "rs_1", "encrypted": "e"}),
        TextBlock("yes", provider_data={"id": "msg_1"}),
        ToolCallBlock("c1", "f", {}, provider_data={"thought_signature": "s"}),
    ]
    assert message.provider_data == {"container": "k"}
    assert decode(encode(message), Message) == message


def test_a_block_end_begins_another_block_of_the_same_kind() -> None:
    message = _built(TextDelta("a"), BlockEnd(), TextDelta("b"), BlockEnd(), ThinkingDelta("c"), BlockEnd(), _END)
    assert message.content == [TextBlock("a"), TextBlock("b"), ThinkingBlock("c")]


def test_data_without_text_makes_a_block_with_a_start_and_an_end() -> None:
    builder = MessageBuilder(api="wire", provider="vendor", model="m", timestamp=1)
    started = builder.feed(ThinkingDelta("", data={"encrypted": "e"}))
    ended = builder.feed(BlockEnd())
    assert [event.type for event in (*started, *ended)] == ["thinking_start", "thinking_end"]
    builder.feed(_END)
    assert builder.message().content == [ThinkingBlock("", provider_data={"encrypted": "e"})]


def test_the_stream_carries_no_provider_data() -> None:
    builder = MessageBuilder(api="wire", provider="vendor", model="m", timestamp=1)
    events = builder.feed(ToolCallDelta(0, "c1", "f", "{}", data={"thought_signature": "s"}))
    events += builder.finish()
    assert [event.tool_call and event.tool_call.provider_data for event in events] == [None] * len(events)


def test_half_surrogates_in_the_data_are_replaced_and_data_that_is_no_json_is_refused() -> None:
    assert _built(TextDelta("a", data={"x": "\ud83d"}), _END).content == [TextBlock("a", provider_data={"x": "\ufffd"})]
    with pytest.raises(TypeError):
        _built(TextDelta("a", data={"x": object()}), _END)


_ANSWER = AssistantMessage(
    content=[
        ThinkingBlock("hm", provider_data={"id": "rs_1"}),
        ThinkingBlock("", provider_data={"encrypted": "e"}),
        TextBlock("", provider_data={"blocks": [1]}),
        TextBlock("yes", provider_data={"citations": [1]}),
    ],
    api="wire",
    provider="vendor",
    model="m",
    usage=Usage.of(),
    stop_reason="stop",
    timestamp=1,
    provider_data={"container": "k"},
)


def _replayed(**to: str) -> AssistantMessage | None:
    target = {"api": "wire", "provider": "vendor", "model": "m", **to}
    messages = prepare([UserMessage("hi", 1), _ANSWER, UserMessage("go on", 2)], **target)  # type: ignore[arg-type]
    return next((m for m in messages if isinstance(m, AssistantMessage)), None)


def test_the_model_that_answered_sees_all_of_it_again() -> None:
    assert _replayed() == _ANSWER


@pytest.mark.parametrize("to", [{"provider": "another"}, {"api": "other-wire"}])
def test_another_vendor_or_wire_sees_none_of_it(to: dict[str, str]) -> None:
    message = _replayed(**to)
    assert message is not None
    assert message.content == [TextBlock("<thinking>\nhm\n</thinking>"), TextBlock("yes")]
    assert message.provider_data is None


def test_another_model_of_the_vendor_sees_what_belongs_to_texts_but_not_the_thinking() -> None:
    message = _replayed(model="m2")
    assert message is not None
    assert message.content == [TextBlock("<thinking>\nhm\n</thinking>"), *_ANSWER.content[2:]]
    assert message.provider_data == {"container": "k"}


def test_the_conversation_itself_keeps_its_data() -> None:
    before = replace(_ANSWER)
    _replayed(provider="another")
    assert before == _ANSWER

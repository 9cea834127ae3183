"""What the vendor's own tools leave in an answer, citations, and thinking that nobody signs: kept, and sent back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from agentkit.core.messages import (
    AssistantMessage,
    AudioBlock,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    Usage,
    UserMessage,
)
from agentkit.core.struct import decode, encode
from agentkit.errors import ProviderError
from agentkit.providers.anthropic import EventDecoder, build_request
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.prices import priced, set_price
from agentkit.providers.protocol import Finish, ModelRequest
from tests.histories import assistant, call, result

HI = UserMessage("hi", 0)
TOOLS = [{"type": "web_search_20260209", "name": "web_search"}]
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "rome"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "https://example.org/w", "encrypted_content": "ENC-1"}],
}
ASK = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "ask", "server_name": "wiki", "input": {}}
TOLD = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": []}
CITED = {
    "type": "text",
    "text": "It is sunny.",
    "citations": [{"type": "web_search_result_location", "url": "https://example.org/w", "encrypted_index": "ENC-2"}],
}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
SAVE = {"type": "tool_use", "id": "toolu_1", "name": "save", "input": {"x": 1}}


def deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it starts, and what follows of it."""
    match block["type"]:
        case "text":
            texts = [{"type": "text_delta", "text": character} for character in block["text"]]
            citations = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations", [])]
            return {"type": "text", "text": "", "citations": None}, [*citations, *texts]
        case "thinking":
            signature = {"type": "signature_delta", "signature": block.get("signature")}
            start = {"type": "thinking", "thinking": "", **({"signature": ""} if "signature" in block else {})}
            thinking = {"type": "thinking_delta", "thinking": block["thinking"]}
            return start, [thinking, signature] if block.get("signature") else [thinking]
        case kind if kind.endswith("tool_use") and block["input"]:
            text = str(block["input"]).replace("'", '"')
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in text]
    return block, []


def events(
    blocks: Iterable[dict[str, Any]], reason: str = "end_turn", *, stops: bool = True, **delta: Any
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = [{"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5}}}]
    for at, block in enumerate(blocks):
        start, rest = deltas(block)
        sent.append({"type": "content_block_start", "index": at, "content_block": start})
        sent += [{"type": "content_block_delta", "index": at, "delta": part} for part in rest]
        sent += [{"type": "content_block_stop", "index": at}] if stops else []
    return [*sent, {"type": "message_delta", "delta": {"stop_reason": reason, **delta}, "usage": {"output_tokens": 2}}]


def answer(
    *blocks: dict[str, Any], model: str = "m", decoder: EventDecoder | None = None, **fields: Any
) -> AssistantMessage:
    """The message that is stored of such an answer."""
    decoder = decoder or EventDecoder()
    builder = MessageBuilder(api="anthropic-messages", provider="anthropic", model=model, timestamp=0)
    for event in events(blocks, **fields):
        for part in decoder.feed(event):
            builder.feed(part)
    for part in decoder.finish():
        builder.feed(part)
    builder.finish()
    stored: AssistantMessage = decode(encode(builder.message()), Message)
    return stored


def sent_back(*messages: Message, model: str = "m", **fields: Any) -> list[Any]:
    """The assistant's blocks of the next request."""
    turns = build_request(ModelRequest(model, "", [HI, *messages, HI], **fields))["messages"]
    return [block for turn in turns if turn["role"] == "assistant" for block in turn["content"]]


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize(
    "blocks",
    [
        [{"type": "text", "text": "Let me search."}, SEARCH, FOUND, CITED],
        [SEARCH, FOUND, CITED],
        [CITED, {"type": "text", "text": "And "}, CITED],
        [THOUGHT, SEARCH, FOUND, THOUGHT, ASK, TOLD, CITED],
        [ASK, TOLD, {"type": "text", "text": "Done."}, SEARCH, FOUND],
        [SEARCH, FOUND],
        [{"type": "redacted_thinking", "data": "abc"}, SEARCH, FOUND, CITED],
        [{"type": "compaction", "content": "All so far."}, CITED],
        [{"type": "container_upload", "file_id": "f"}, CITED],
    ],
)
def test_an_answer_goes_back_block_for_block(blocks: list[dict[str, Any]], stops: bool) -> None:
    assert sent_back(answer(*blocks, stops=stops)) == blocks


def test_blocks_before_a_call_of_our_tools_keep_their_place() -> None:
    blocks = [
        {"type": "text", "text": "Wait."},
        SEARCH,
        FOUND,
        CITED,
        SEARCH | {"id": "s2"},
        FOUND | {"tool_use_id": "s2"},
    ]
    message = answer(*blocks, SAVE, reason="tool_use")
    assert message.stop_reason == "toolUse"
    assert sent_back(message, result("toolu_1", TextBlock("saved"))) == [*blocks, SAVE]


def test_a_call_from_the_vendors_code_says_so_again() -> None:
    called = {**SAVE, "caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}}
    assert sent_back(answer(called, reason="tool_use"), result("toolu_1", TextBlock("saved"))) == [called]


def test_the_vendors_blocks_go_to_nobody_else_and_to_its_other_models_without_the_thinking() -> None:
    message = answer(THOUGHT, SEARCH, FOUND, THOUGHT, CITED)
    foreign = replace(message, provider="bedrock")
    thinking = {"type": "text", "text": "<thinking>\nhm\n</thinking>"}
    assert sent_back(foreign) == [thinking, thinking, {"type": "text", "text": "It is sunny."}]
    assert sent_back(message, model="other") == [thinking, SEARCH, FOUND, thinking, CITED]


def test_a_call_without_its_result_and_a_result_without_its_call_are_left_out() -> None:
    text = {"type": "text", "text": "So f"}
    assert sent_back(answer(text, SEARCH, reason="max_tokens")) == [text]
    assert sent_back(answer(FOUND, text)) == [text]
    assert sent_back(answer(THOUGHT, SEARCH, reason="max_tokens")) == []


def test_a_call_beside_one_of_our_tools_waits_for_our_result() -> None:
    both = answer(SEARCH, SAVE, reason="tool_use")
    saved = result("toolu_1", TextBlock("saved"))
    request = build_request(ModelRequest("m", "", [HI, both, saved]))
    assert request["messages"][1]["content"] == [SEARCH, SAVE]
    assert sent_back(both, saved, answer(FOUND, CITED)) == [SEARCH, SAVE, FOUND, CITED]
    assert sent_back(both, saved, answer({"type": "text", "text": "No."})) == [SAVE, {"type": "text", "text": "No."}]


def test_the_container_of_the_vendors_code_is_used_again_until_it_ends() -> None:
    def sent(message: AssistantMessage, **options: Any) -> Any:
        return build_request(ModelRequest("m", "", [HI, message, HI], options=options)).get("container")

    worked = answer(CITED, container={"id": "c1", "expires_at": "2999-01-01T00:00:00Z"})
    assert sent(worked, tools=TOOLS) == "c1"
    assert sent(worked, tools=TOOLS, container={"skills": [1]}) == {"id": "c1", "skills": [1]}
    assert sent(worked, tools=TOOLS, container="mine") == "mine"
    assert sent(worked) is None
    assert sent(answer(CITED, container={"id": "c1", "expires_at": "2020-01-01T00:00:00Z"}), tools=TOOLS) is None
    assert sent(replace(worked, provider="bedrock"), tools=TOOLS) is None


@pytest.mark.parametrize("signature", [{}, {"signature": ""}])
@pytest.mark.parametrize("stops", [True, False])
def test_thinking_of_servers_that_sign_nothing_goes_back_as_it_came(signature: dict[str, str], stops: bool) -> None:
    thought = {"type": "thinking", "thinking": "I need it.", **signature}
    message = answer(thought, SAVE, model="deepseek-v4-pro", reason="tool_use", stops=stops)
    saved = result("toolu_1", TextBlock("saved"))
    assert sent_back(message, saved, model="deepseek-v4-pro") == [thought, SAVE]
    assert sent_back(message, saved, model="kimi-k3")[0]["type"] == "text"


def test_thinking_that_was_cut_is_not_sent_back() -> None:
    text = {"type": "text", "text": "ok"}
    assert sent_back(answer({"type": "thinking", "thinking": "so f", "signature": ""}, reason="max_tokens")) == []
    assert sent_back(
        assistant(ThinkingBlock("hm"), TextBlock("ok"), api="anthropic-messages", provider="anthropic", model="m")
    ) == [text]


@pytest.mark.parametrize(
    "data", [{"before": "x"}, {"before": [1, {}, {"type": 3}]}, {"citations": []}, {"signature": 1}]
)
def test_data_of_another_shape_is_left_out(data: dict[str, Any]) -> None:
    message = assistant(TextBlock("ok", provider_data=data), api="anthropic-messages", provider="anthropic", model="m")
    assert sent_back(message) == [{"type": "text", "text": "ok"}]


# -- answers that the vendor pauses


def test_an_answer_that_was_paused_goes_on_as_one() -> None:
    decoder = EventDecoder()
    text = {"type": "text", "text": "Let me search."}
    parts = [
        part for event in events([text, SEARCH], "pause_turn", container={"id": "c1"}) for part in decoder.feed(event)
    ]
    paused = decoder.finish()[-1]
    assert isinstance(paused, Finish)
    assert (paused.stop_reason, decoder.paused) == ("length", True)
    assert decoder.content == [text, SEARCH]
    assert decoder.container == {"id": "c1"}
    decoder.resume()
    for event in events([FOUND, CITED, SAVE], "tool_use"):
        parts += decoder.feed(event)
    parts += decoder.finish()
    builder = MessageBuilder(api="anthropic-messages", provider="anthropic", model="m", timestamp=0)
    for part in parts:
        builder.feed(part)
    builder.finish()
    message = builder.message()
    assert (message.usage.input, message.usage.output) == (10, 4)
    assert message.stop_reason == "toolUse"
    assert sent_back(message, result("toolu_1", TextBlock("saved"))) == [text, SEARCH, FOUND, CITED, SAVE]


# -- what is counted


def counted(*usages: dict[str, Any]) -> Finish:
    decoder = EventDecoder()
    decoder.feed({"type": "message_start", "message": {"usage": usages[0]}})
    for usage in usages[1:]:
        decoder.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
    finish = decoder.finish()[-1]
    assert isinstance(finish, Finish)
    return finish


START = {"input_tokens": 1500, "cache_read_input_tokens": 200, "output_tokens": 1}


@pytest.mark.parametrize(
    "usages",
    [
        [START, {"input_tokens": 0, "output_tokens": 9}],
        [START, {"cache_read_input_tokens": 0, "output_tokens": 9}],
        [{"input_tokens": 0, "output_tokens": 0}, {**START, "output_tokens": 9}],
        [START, {"input_tokens": None, "output_tokens": 9}],
        [START, {"output_tokens": 9}, {"output_tokens": 3}],
        [{"input_tokens": True, "output_tokens": 9}, {"input_tokens": "1500", "cache_read_input_tokens": 200.0}],
    ],
)
def test_a_count_never_falls(usages: list[dict[str, Any]]) -> None:
    usage = counted(*usages).usage
    assert (usage.input, usage.cache_read, usage.output) == (1500, 200, 9)


def test_what_is_cached_for_an_hour_costs_more() -> None:
    creation = {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}
    finish = counted(
        {"input_tokens": 1, "cache_creation_input_tokens": 1000, "cache_creation": creation}, {"output_tokens": 1}
    )
    assert (finish.usage.cache_write, finish.long_cache_write) == (1000, 400)
    assert counted({"cache_creation": creation}, {}).usage.cache_write == 1000
    builder = MessageBuilder(api="a", provider="anthropic", model="claude-opus-5-5", timestamp=0)
    builder.feed(finish)
    assert builder.message().usage.cost.cache_write == pytest.approx((600 * 5 + 400 * 8) / 1e6)
    only_long = priced(Usage.of(0, 0, 0, 1000), "anthropic", "claude-haiku-4-5", long_cache_write=1000)
    assert only_long.cost.cache_write == pytest.approx(0.002)
    set_price("acme:hourly", input=1, output=1, cache_write=2, long_cache_write=4)
    assert priced(Usage.of(0, 0, 0, 1000), "acme", "hourly", long_cache_write=500).cost.total == pytest.approx(0.003)


# -- inputs


def test_documents_and_images_go_along_in_messages_and_results() -> None:
    content = [
        ImageBlock(url="https://example.org/a.png"),
        DocumentBlock("aGk=", "application/pdf", "a.pdf"),
        DocumentBlock("aGk=", "text/csv"),
    ]
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    pdf = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
        "title": "a.pdf",
    }
    csv = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}}
    turns = build_request(
        ModelRequest("m", "", [UserMessage(content, 0), assistant(call("a"), stop="toolUse"), result("a", *content)])
    )["messages"]
    assert turns[0]["content"] == [image, pdf, csv]
    assert turns[2]["content"][0]["content"] == [image, pdf, csv]


@pytest.mark.parametrize(
    ("block", "words"),
    [(AudioBlock("aGk=", "audio/wav"), "audio"), (DocumentBlock("aGk=", "application/msword"), "msword")],
)
def test_what_no_model_of_the_vendor_takes_is_a_clear_error(block: Any, words: str) -> None:
    for messages in ([UserMessage([block], 0)], [HI, assistant(call("a"), stop="toolUse"), result("a", block)]):
        with pytest.raises(ProviderError, match=words) as caught:
            build_request(ModelRequest("m", "", messages))
        assert not caught.value.retryable


def test_a_container_alone_is_no_answer() -> None:
    builder = MessageBuilder(api="anthropic-messages", provider="anthropic", model="m", timestamp=0)
    decoder = EventDecoder()
    for event in events([], container={"id": "c", "expires_at": "2027-01-01T00:00:00Z"}):
        for part in decoder.feed(event):
            builder.feed(part)
    for part in decoder.finish():
        builder.feed(part)
    assert builder.empty

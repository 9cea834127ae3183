"""What servers that speak chat completions answer in ways of their own: the answer comes out, or the vendor's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from httpx_sse import ServerSentEvent

from agentkit.core.messages import AssistantMessage, TextBlock, ThinkingBlock, ToolCallBlock, text_of, tool_calls_of
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.openai import decode
from agentkit.testing.provider_contract import build

DONE = "[DONE]"


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}


def events(*chunks: Any) -> Iterator[ServerSentEvent]:
    return iter(ServerSentEvent(data=c if isinstance(c, str) else json.dumps(c)) for c in chunks)


def answer(*chunks: Any) -> AssistantMessage:
    return build(decode(events(*chunks), "openai"))


def failure(*chunks: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        answer(*chunks)
    return caught.value


def call(index: Any, id: Any, name: Any, arguments: Any, **more: Any) -> dict[str, Any]:
    piece = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}
    return {key: value for key, value in piece.items() if value is not None}


def calls_of(*pieces: dict[str, Any], together: bool = False) -> list[tuple[str, Any]]:
    chunks = [chunk({"tool_calls": list(pieces)})] if together else [chunk({"tool_calls": [p]}) for p in pieces]
    blocks = tool_calls_of(answer(*chunks, chunk({}, "tool_calls"), DONE))
    assert len({block.id for block in blocks}) == len(blocks)
    return [(b.name, b.arguments if b.raw_arguments is None else b.raw_arguments) for b in blocks]


# -- tool calls: which pieces belong together

ROME, OSLO, UTC = '{"city":"Rome"}', '{"city":"Oslo"}', '{"zone":"UTC"}'
TWO = [("weather", {"city": "Rome"}), ("clock", {"zone": "UTC"})]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (call(0, "a", "weather", ROME), call(0, "b", "clock", UTC)),
        (call(0, "", "weather", ROME), call(0, "", "clock", UTC)),
        (call(0, None, "weather", ROME), call(0, None, "clock", UTC)),
        (call(0, "x", "weather", ROME), call(0, "x", "clock", UTC)),
        (call(None, None, "weather", ROME), call(None, None, "clock", UTC)),
        (call(None, "", "weather", ROME), call(None, "", "clock", UTC)),
        (call(None, "x", "weather", ROME), call(None, "x", "clock", UTC)),
        (call(1, "a", "weather", ROME), call(2, "b", "clock", UTC)),
        (call("0", "a", "weather", ROME), call("1", "b", "clock", UTC)),
        (call(0, 7, "weather", {"city": "Rome"}), call(0, 8, "clock", {"zone": "UTC"})),
    ],
)
def test_two_calls_are_two_however_they_are_marked(first: Any, second: Any, together: bool) -> None:
    assert calls_of(first, second, together=together) == TWO


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("id", [None, "", "x"])
def test_two_calls_of_one_tool_with_one_index_and_no_ids_of_their_own_are_two(id: Any, together: bool) -> None:
    got = calls_of(call(0, id, "weather", ROME), call(0, id, "weather", OSLO), together=together)
    assert got == [("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})]


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "weather", {"city": "Rome"})],
        [call(0, "a", "weather", "{}"), call(0, None, None, '{"city"'), call(0, None, None, ':"Rome"}')],
        [call(0, "a", "weather", {}), call(0, None, None, ROME)],
        [call(0, "a", "weather", "null"), call(0, None, None, ROME)],
        [call(0, "a", "weather", json.dumps(ROME))],
        [call(0, "a", "weather", None), call(0, None, None, ROME)],
        [call(0, "a", "weather", ""), call(0, "", "", ROME)],
        [call(0, "a", "weather", '{"city"'), call(0, "a", "weather", ':"Rome"}')],
        [call(0, "a", "weather", '{"city"'), call(0, None, "weather", ':"Rome"}')],
        [call(0, "a", "wea", ""), call(0, None, "ther", ROME)],
        [call(0, "a", "weather", '{"city"'), call(0, None, None, ':"Rome"}'), call(0, "a", "weather", ROME)],
        [call(0, "a", "weather", '{"ci'), call(0, None, None, '{"city":"Ro'), call(0, None, None, ROME)],
        [call(0, "a", "weather", ROME), call(0, "a", "weather", ROME)],
        [call(0, "a", "weather", ROME + "\n")],
        [call(0, "a", " weather ", ROME)],
        [call(0, "a", "functions.weather", ROME)],
        [call(0.0, "a", "weather", '{"city"'), call(0, None, None, ':"Rome"}')],
        [{"index": 0, "id": "a", "function": None}, call(0, None, "weather", ROME)],
    ],
)
def test_a_call_is_read_from_pieces_of_any_shape(pieces: list[dict[str, Any]]) -> None:
    assert calls_of(*pieces) == [("weather", {"city": "Rome"})]


@pytest.mark.parametrize("arguments", ["", "null", "[]", "{}", [], {}, None])
def test_a_call_without_arguments_has_none(arguments: Any) -> None:
    assert calls_of(call(0, "a", "weather", arguments)) == [("weather", {})]


@pytest.mark.parametrize("arguments", [ROME + OSLO, "{'city': 'Rome'}", '["Rome"]', '"Rome"'])
def test_arguments_that_leave_doubt_stay_as_they_came(arguments: str) -> None:
    assert calls_of(call(0, "a", "weather", arguments)) == [("weather", arguments)]


def test_an_object_within_one_with_the_same_beginning_is_no_repetition() -> None:
    assert calls_of(call(0, "a", "f", '{"x":'), call(0, None, None, '{"x":1}}')) == [("f", {"x": {"x": 1}})]


def test_calls_as_they_were_spelled_before_tool_calls_are_read() -> None:
    pieces = [{"name": "weather", "arguments": ""}, {"arguments": '{"city"'}, {"arguments": ':"Rome"}'}]
    message = answer(*(chunk({"function_call": piece}) for piece in pieces), chunk({}, "function_call"))
    assert [(c.name, c.arguments) for c in tool_calls_of(message)] == [("weather", {"city": "Rome"})]
    assert message.stop_reason == "toolUse"


def test_a_call_cut_before_its_arguments_is_no_call_without_arguments() -> None:
    message = answer(chunk({"tool_calls": [call(0, "a", "weather", "")]}), chunk({}, "length"))
    assert message.content == [ToolCallBlock("a", "weather", {}, raw_arguments="")]


# -- what the vendor wants to see again


def test_what_stands_beside_a_tool_call_is_kept_with_it() -> None:
    extra = {"google": {"thought_signature": "U0lH"}}
    message = answer(
        chunk({"tool_calls": [call(0, "a", "weather", ROME, extra_content=extra), call(1, "b", "clock", UTC)]}),
        chunk({}, "tool_calls"),
    )
    assert [c.provider_data for c in tool_calls_of(message)] == [{"extra_content": extra}, None]


def test_a_signature_that_comes_after_the_arguments_is_kept_too() -> None:
    extra = {"google": {"thought_signature": "U0lH"}}
    message = answer(
        chunk({"tool_calls": [call(0, "a", "weather", ROME)]}),
        chunk({"tool_calls": [call(0, None, None, "", extra_content=extra)]}),
        chunk({"content": "", "extra_content": {"google": {"thought_signature": "TEVUWg"}}}, "tool_calls"),
    )
    assert tool_calls_of(message)[0].provider_data == {"extra_content": extra}
    assert message.provider_data == {"extra_content": {"google": {"thought_signature": "TEVUWg"}}}


def test_geminis_summaries_of_thoughts_are_thinking() -> None:
    message = answer(
        chunk({"content": "Hm.", "extra_content": {"google": {"thought": True}}}),
        chunk({"content": "Yes."}, "stop"),
    )
    assert [type(block) for block in message.content] == [ThinkingBlock, TextBlock]


def test_the_pieces_of_reasoning_details_become_whole_blocks() -> None:
    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    secret = {"type": "reasoning.encrypted", "data": "QUJD", "id": "rs_1", "index": 1}
    summary = {"type": "reasoning.summary", "index": 2}
    message = answer(
        chunk({"reasoning": "Let", "reasoning_details": [{**text, "text": "Let", "signature": None}]}),
        chunk({"reasoning": " me.", "reasoning_details": [{**text, "text": " me."}]}),
        chunk({"reasoning_details": [{**text, "signature": "c2ln"}, secret]}),
        chunk({"reasoning_details": [{**summary, "summary": "So"}, {**summary, "summary": " so."}]}),
        chunk({"content": "Yes."}, "stop"),
    )
    assert message.provider_data == {
        "reasoning_details": [
            {**text, "text": "Let me.", "signature": "c2ln"},
            secret,
            {**summary, "summary": "So so."},
        ]
    }
    assert message.content[0] == ThinkingBlock("Let me.So so.")


def test_what_is_shown_to_people_is_kept_with_the_answer() -> None:
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "t"}}
    other = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    message = answer(
        chunk({"content": "It rains [1]."}, citations=["https://example.org/1"], search_results=[{"title": "t"}]),
        chunk({"annotations": [citation]}, citations=["https://example.org/1"]),
        chunk({"annotations": [other], "images": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, "stop"),
    )
    assert message.provider_data == {
        "citations": ["https://example.org/1"],
        "search_results": [{"title": "t"}],
        "annotations": [citation, other],
        "images": [{"type": "image_url", "image_url": {"url": "data:x"}}],
    }


@pytest.mark.parametrize(
    ("delta", "more", "counts"),
    [
        ({"images": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, {}, True),
        ({"content": ""}, {"citations": ["https://example.org/1"], "search_results": [{"title": "t"}]}, False),
        ({"annotations": [{"type": "url_citation"}]}, {}, False),
        ({"extra_content": {"google": {"thought_signature": "U0lH"}}}, {}, False),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, {}, False),
    ],
)
def test_what_is_beside_an_answer_is_no_answer_but_images_are(delta: Any, more: Any, counts: bool) -> None:
    message = answer(chunk(delta, **more), chunk({}, "stop"))
    assert message.content == []
    assert bool(message.provider_data) is counts


def test_the_words_of_an_answer_in_sound_are_its_text() -> None:
    message = answer(
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": "AAAA", "transcript": "lo"}}),
        chunk({"audio": {"expires_at": 9}}, "stop"),
    )
    assert text_of(message) == "Hello"
    assert message.provider_data == {"audio": {"id": "audio_1", "expires_at": 9}}


# -- usage


def usage(counts: Any, **more: Any) -> list[int]:
    use = answer(chunk({"content": "x"}, "stop"), {"choices": [], "usage": counts, **more}).usage
    return [use.input, use.cache_read, use.cache_write, use.output]


REASONING = {"reasoning_tokens": 500}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 520, "total_tokens": 530}, [10, 0, 0, 520]),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 520,
                "total_tokens": 530,
                "completion_tokens_details": REASONING,
            },
            [10, 0, 0, 520],
        ),
        (  # xAI
            {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 530, "completion_tokens_details": REASONING},
            [10, 0, 0, 520],
        ),
        ({"prompt_tokens": 10, "completion_tokens": 20, "completion_tokens_details": REASONING}, [10, 0, 0, 520]),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 40}, [9, 0, 0, 31]),  # Gemini
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}},
            [20, 80, 0, 5],
        ),
        (  # a gateway before Anthropic, which counts the cache beside the prompt
            {
                "prompt_tokens": 20,
                "completion_tokens": 5,
                "total_tokens": 105,
                "prompt_tokens_details": {"cached_tokens": 80},
            },
            [20, 80, 0, 5],
        ),
        ({"prompt_tokens": 100, "completion_tokens": 5, "cached_tokens": 80}, [20, 80, 0, 5]),  # Moonshot
        ({"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 80}, [20, 80, 0, 5]),  # DeepSeek
        ({"prompt_tokens": "7", "completion_tokens": "2.0"}, [7, 0, 0, 2]),
        ({"prompt_tokens": 7.9, "completion_tokens": None}, [7, 0, 0, 0]),
        ({"input_tokens": 7, "output_tokens": 2}, [7, 0, 0, 2]),
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": [{"modality": "TEXT"}]},
            [5, 0, 0, 2],
        ),
        ({"prompt_tokens": {"text": 5}, "completion_tokens": [2]}, [0, 0, 0, 0]),
        ({"prompt_tokens": -5, "completion_tokens": "many", "total_tokens": True}, [0, 0, 0, 0]),
        ([{"prompt_tokens": 5}], [0, 0, 0, 0]),
        ("none", [0, 0, 0, 0]),
        (7, [0, 0, 0, 0]),
    ],
)
def test_counts_of_any_shape_are_read_or_passed_over(counts: Any, expected: list[int]) -> None:
    assert usage(counts) == expected


def test_counts_that_are_nothing_do_not_take_the_place_of_others() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": None}
    message = answer(chunk({"content": "x"}, "stop", usage=counted), chunk({}, "stop", usage=nothing))
    assert [message.usage.input, message.usage.cache_read, message.usage.output] == [6, 3, 4]


def test_counts_in_the_choice_are_read() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    assert answer(chunk({"content": "x"}), {"choices": [choice]}).usage.output == 4


@pytest.mark.parametrize("x_groq", ["x", [1], 7, {"usage": "x"}, {"usage": {"completion_tokens": 4}}])
def test_counts_beside_the_choices_never_crash(x_groq: Any) -> None:
    assert text_of(answer(chunk({"content": "x"}, "stop", x_groq=x_groq))) == "x"


# -- thinking


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_text": "hm"},
        {"thinking": "hm"},
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning": {"content": "hm"}},
        {"reasoning": {"text": "hm"}},
        {"reasoning": {"summary": [{"type": "summary_text", "text": "hm"}]}},
        {"reasoning": ["h", {"text": "m"}]},
        {"reasoning_content": [{"type": "text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": {"type": "reasoning", "text": "hm"}},
    ],
)
def test_thinking_is_read_once_in_every_spelling(delta: dict[str, Any]) -> None:
    assert answer(chunk(delta), chunk({"content": "Yes."}, "stop")).content == [ThinkingBlock("hm"), TextBlock("Yes.")]


@pytest.mark.parametrize("odd", [7, True, [None, 3], {"unheard": "of"}, {"text": 5}])
def test_thinking_of_no_known_shape_is_passed_over(odd: Any) -> None:
    assert answer(chunk({"reasoning": odd}), chunk({"content": "Yes."}, "stop")).content == [TextBlock("Yes.")]


# -- whole messages in place of deltas


def whole(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def test_a_whole_message_in_place_of_deltas_is_the_answer() -> None:
    counts = {"prompt_tokens": 3, "completion_tokens": 2}
    message = answer(whole({"role": "assistant", "content": "Hello.", "reasoning_content": "hm"}, usage=counts), DONE)
    assert message.content == [ThinkingBlock("hm"), TextBlock("Hello.")]
    assert [message.usage.input, message.usage.output] == [3, 2]


def test_the_calls_of_a_whole_message_are_made() -> None:
    message = {"content": None, "tool_calls": [call(None, "a", "weather", ROME), call(None, "b", "clock", UTC)]}
    got = answer(whole(message, "tool_calls"))
    assert [(c.name, c.arguments) for c in tool_calls_of(got)] == TWO
    assert got.stop_reason == "toolUse"


def test_messages_that_grow_are_read_once() -> None:
    texts = ["Hel", "Hello", "Hello"]
    assert (
        text_of(answer(*(whole({"content": text}, None) for text in texts), whole({"content": "Hello."}))) == "Hello."
    )


def test_messages_beside_deltas_add_only_what_the_deltas_lack() -> None:
    both = [("Hel", "Hel"), ("lo", "Hello"), ("", "Hello.")]
    chunks = [{"choices": [{"delta": {"content": d}, "message": {"content": m}}]} for d, m in both]
    assert text_of(answer(*chunks, chunk({}, "stop"))) == "Hello."


def test_messages_that_carry_pieces_are_joined() -> None:
    assert text_of(answer(whole({"content": "Hello "}, None), whole({"content": "there."}))) == "Hello there."


# -- the end


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "eos_token", "completed", "hm"])
def test_an_answer_with_a_usual_or_unheard_of_reason_is_whole(reason: str) -> None:
    message = answer(chunk({"content": "Yes."}, reason))
    assert (text_of(message), message.stop_reason) == ("Yes.", "stop")


@pytest.mark.parametrize(
    "reason", ["length", "MAX_TOKENS", "max_tokens", "model_length", "model_context_window_exceeded"]
)
def test_an_answer_that_met_a_limit_of_tokens_is_cut(reason: str) -> None:
    assert answer(chunk({"content": "Yes"}, reason)).stop_reason == "length"


@pytest.mark.parametrize(
    "reason", ["content_filter", "safety", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "sensitive", "refusal"]
)
@pytest.mark.parametrize("delta", [{}, {"content": "I"}])
def test_an_answer_that_was_filtered_is_an_error_that_says_so(reason: str, delta: Any) -> None:
    error = failure(chunk(delta, reason))
    assert not error.retryable
    assert "content filtered" in error.message
    assert reason in error.message or reason == "content_filter"


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "timeout",
        "error",
        "abort",
        "network_error",
        "OTHER",
        "UNEXPECTED_TOOL_CALL",
        "failed",
    ],
)
@pytest.mark.parametrize("delta", [{}, {"content": "I"}])
def test_an_answer_that_failed_is_an_error_worth_another_try(reason: str, delta: Any) -> None:
    error = failure(chunk(delta, reason))
    assert error.retryable
    assert reason in error.message


def test_nothing_with_an_unheard_of_reason_is_an_error_that_names_it() -> None:
    assert "'hm'" in failure(chunk({}, "hm")).message


def test_whole_calls_and_counted_answers_need_no_reason_where_the_server_ended() -> None:
    assert answer(chunk({"tool_calls": [call(0, "a", "weather", ROME)]}), DONE).stop_reason == "toolUse"
    counted = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3}}
    assert text_of(answer(chunk({"content": "All of it."}), counted, DONE)) == "All of it."


@pytest.mark.parametrize("end", [[], [DONE]])
def test_calls_that_are_not_whole_need_a_reason(end: list[str]) -> None:
    assert failure(chunk({"tool_calls": [call(0, "a", "weather", '{"ci')]}), *end).retryable


@pytest.mark.parametrize("done", ["[DONE]", "[done]", " [DONE] ", "DONE"])
def test_the_end_is_known_in_every_spelling(done: str) -> None:
    assert text_of(answer(chunk({"content": "Yes."}, "stop"), done)) == "Yes."


# -- errors in an answer that began well


@pytest.mark.parametrize(
    ("problem", "words", "retryable"),
    [
        ({"error": {"message": "Rate limit reached", "type": "rate_limit_error", "code": 429}}, "Rate limit", True),
        ({"error": {"message": "no such model", "code": 404}}, "no such model", False),
        ({"errors": [{"message": "upstream is down"}]}, "upstream is down", True),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, "rate limit", True),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "insufficient balance", False),
        ({"base_resp": {"status_code": 1027, "status_msg": "output sensitive"}}, "output sensitive", False),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, "invalid params", False),
        ({"code": "Throttling", "message": "Requests throttled"}, "Requests throttled", True),
        ({"detail": "Unauthorized", "status": 401}, "Unauthorized", False),
        ({"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "bad upstream"}}]}, "bad up", True),
        ([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}], "overloaded", True),
    ],
)
def test_an_error_in_the_stream_is_raised_with_the_vendors_words(problem: Any, words: str, retryable: bool) -> None:
    error = failure(chunk({"content": "so f"}), problem, DONE)
    assert words in error.message
    assert error.retryable is retryable


def test_a_base_resp_that_says_all_is_well_is_no_error() -> None:
    ok = {"base_resp": {"status_code": 0, "status_msg": ""}}
    assert text_of(answer(chunk({"content": "Yes."}, "stop", **ok), ok)) == "Yes."


def test_what_is_kept_for_the_vendor_is_json() -> None:
    message = answer(chunk({"content": "x", "annotations": [{"text": "a\ud83d"}]}, "stop"))
    assert json.loads(json.dumps(to_json(message)))["providerData"] == {"annotations": [{"text": "a\ufffd"}]}

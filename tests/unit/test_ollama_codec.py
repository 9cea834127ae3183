"""The pure half of the Ollama adapter: requests out, lines in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    UserMessage,
    tool_calls_of,
)
from agentkit.core.struct import to_json
from agentkit.errors import ProviderError
from agentkit.providers.ollama import LineDecoder, OllamaProvider, build_request, decode, host_url
from agentkit.providers.protocol import Finish, ModelRequest, ToolSpec
from agentkit.testing.provider_contract import build
from agentkit.testing.wire_server import Reply, WireServer
from tests.histories import assistant, call, result
from tests.ndjson_cuts import lines_of

GOLDEN = Path(__file__).parents[1] / "golden" / "ollama"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


def sent(*messages: Message, **fields: Any) -> list[Any]:
    return list(build_request(ModelRequest("m", "", messages, **fields))["messages"])


# -- where the server is


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("[::]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:1234", "https://example.com:1234"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("example.com:0x50", "http://example.com:11434"),
        ("example.com:99999", "http://example.com:11434"),
        ('"example.com:1234"', "http://example.com:1234"),
        ("'http://example.com/'", "http://example.com:80"),
    ],
)
def test_the_host_is_read_as_ollama_reads_it(setting: str, url: str) -> None:
    assert host_url(setting) == url


# -- the request


def test_options_go_where_ollama_wants_them() -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "num_ctx": 8192,
        "max_output_tokens": 9,
        "stop": "END",
        "keep_alive": "5m",
        "format": {"type": "object"},
        "reasoning_effort": "low",
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "read_timeout": 5,
    }
    schema = {"type": "object", "properties": {"cache": {"type": "string"}}}
    request = ModelRequest("m", "Be brief.", [UserMessage("hi", 0)], [ToolSpec("look", "Looks.", schema)], options)
    assert build_request(request) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": schema}}],
        "options": {"temperature": 0.5, "top_p": 0.9, "num_ctx": 8192, "num_predict": 9, "stop": ["END"]},
        "keep_alive": "5m",
        "format": {"type": "object"},
        "think": "low",
        "stream": True,
    }


def test_a_plain_request_has_no_keys_to_spare() -> None:
    request = ModelRequest("m", "", [UserMessage("hi", 0)])
    assert build_request(request) == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize(
    ("options", "think"), [({"think": True}, True), ({"reasoning_effort": "none"}, False), ({"think": "high"}, "high")]
)
def test_thinking_can_be_asked_for(options: dict[str, Any], think: Any) -> None:
    assert build_request(ModelRequest("m", "", [UserMessage("hi", 0)], options=options))["think"] == think


def test_tools_that_must_not_be_chosen_are_not_sent() -> None:
    tools = [ToolSpec("look", "Looks.", {"type": "object"})]
    body = build_request(ModelRequest("m", "", [UserMessage("hi", 0)], tools, {"tool_choice": "none"}))
    assert "tools" not in body


def test_images_go_beside_the_text_and_cache_marks_nowhere() -> None:
    message = UserMessage([TextBlock("see", "long"), ImageBlock("aGk=", "image/png", "short")], 0, "short")
    assert sent(message) == [{"role": "user", "content": "see", "images": ["aGk="]}]


def test_calls_results_and_own_thinking_are_sent_back() -> None:
    thinking = ThinkingBlock("hm")
    own = {"api": "ollama-chat", "provider": "ollama", "model": "m"}
    got = sent(
        assistant(thinking, TextBlock("ok"), call("a", x=1), stop="toolUse", **own), result("a", TextBlock("42"))
    )
    assert got == [
        {
            "role": "assistant",
            "content": "ok",
            "thinking": "hm",
            "tool_calls": [{"id": "a", "function": {"name": "look", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "tool_name": "look", "tool_call_id": "a", "content": "42"},
    ]


def test_images_of_results_follow_in_a_user_message() -> None:
    got = sent(
        assistant(call("a"), call("b"), stop="toolUse"),
        result("a", ImageBlock("aGk=", "image/png")),
        result("b"),
        UserMessage("and?", 0),
    )
    assert [m["role"] for m in got] == ["assistant", "tool", "tool", "user", "user"]
    assert [m["content"] for m in got[1:3]] == ["(see the image below)", "(no output)"]
    assert got[3]["images"] == ["aGk="]


# -- the answer


def check(name: str, *pieces: bytes) -> None:
    expected = EXPECTED[name]
    if "error" in expected:
        with pytest.raises(ProviderError, match=expected["error"]) as caught:
            list(decode(lines_of(*pieces)))
        assert caught.value.retryable is expected["retryable"]
        assert caught.value.vendor == "ollama"
        return
    message = build(decode(lines_of(*pieces)))
    usage = message.usage
    assert to_json(message.content) == expected["content"]
    assert message.stop_reason == expected["stopReason"]
    assert [usage.input, usage.cache_read, usage.output] == expected["usage"]
    assert usage.total_tokens == sum(expected["usage"])


def test_every_golden_transcript_has_an_expectation() -> None:
    assert sorted(path.name for path in GOLDEN.glob("*.ndjson")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_transcript_decodes_the_same_wherever_it_is_cut(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    check(name, body)
    check(name, *(body[at : at + 1] for at in range(len(body))))
    for at in range(1, len(body)):
        check(name, body[:at], body[at:])


def test_a_transcript_that_ends_early_is_a_retryable_error() -> None:
    body = (GOLDEN / "thinking_then_tool.ndjson").read_bytes()
    for at in range(len(body) - 2):
        with pytest.raises(ProviderError) as caught:
            list(decode(lines_of(body[:at])))
        assert caught.value.retryable


def test_the_finish_names_the_model_that_answered() -> None:
    finish = list(decode(lines_of((GOLDEN / "text.ndjson").read_bytes())))[-1]
    assert isinstance(finish, Finish)
    assert finish.model == "golden-1"


def test_calls_without_an_id_get_one_of_their_own() -> None:
    decoder = LineDecoder()
    function = {"function": {"name": "look", "arguments": {}}}
    parts = decoder.feed({"message": {"tool_calls": [function, function]}, "done": True, "done_reason": "stop"})
    first, second = tool_calls_of(build([*parts, *decoder.finish()]))
    assert first.id
    assert first.id != second.id


# -- levels of thinking, and prompts that are cut


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        ("none", False),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "high"),
        ("max", "high"),
    ],
)
def test_an_effort_becomes_a_level_that_ollama_takes(effort: str, think: Any) -> None:
    body = build_request(ModelRequest("m", "", [UserMessage("hi", 0)], options={"reasoning_effort": effort}))
    assert body["think"] == think


@pytest.mark.parametrize("think", [True, False, "low", "max"])
def test_what_is_said_in_ollamas_own_words_is_sent_as_it_is(think: Any) -> None:
    body = build_request(ModelRequest("m", "", [UserMessage("hi", 0)], options={"think": think}))
    assert body["think"] == think


def answered(text: str, counted: int, content: str = "ok", **options: Any) -> list[Any]:
    """The parts of an answer to `text`, for which Ollama has `counted` tokens."""
    last = {"message": {"content": content}, "done": True, "done_reason": "stop", "prompt_eval_count": counted}
    with (
        WireServer(lambda _: Reply([json.dumps(last).encode() + b"\n"], content_type="application/x-ndjson")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OLLAMA_HOST", server.url)
        request = ModelRequest("m", "", [UserMessage(text, 0)], options=options)
        return list(OllamaProvider().stream(request, Cancellation()))


@pytest.mark.parametrize(
    ("characters", "counted", "options"),
    [
        (400, 4096, {}),
        (40_000, 4096, {}),
        (40_000, 3000, {}),
        (40_000, 2048, {"num_ctx": 2048}),
        (400_000, 30_000, {"num_ctx": 32_768}),
    ],
)
def test_a_prompt_that_was_cut_is_in_the_log(
    characters: int, counted: int, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    answered("word " * (characters // 5), counted, **options)
    [record] = caplog.records
    assert "num_ctx" in record.getMessage()
    assert str(options.get("num_ctx", 4096)) in record.getMessage()


@pytest.mark.parametrize(
    ("characters", "counted", "options"),
    [
        (400, 90, {}),
        (15_000, 3500, {}),
        (40_000, 9000, {}),  # the server's own context is larger than the default
        (40_000, 9000, {"num_ctx": 32_768}),
        (40_000, 0, {}),  # not counted
    ],
)
def test_a_prompt_that_was_not_cut_is_not_in_the_log(
    characters: int, counted: int, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    answered("word " * (characters // 5), counted, **options)
    assert caplog.records == []


def test_nothing_in_answer_to_a_prompt_that_was_cut_is_an_error_that_says_so() -> None:
    with pytest.raises(ProviderError, match="num_ctx") as caught:
        answered("hi", 4096, content="")
    assert caught.value.retryable
    assert caught.value.usage is not None
    assert caught.value.usage.input == 4096
    assert answered("hi", 4096, content="ok")


@pytest.mark.parametrize("counts", ["7", [7], {"a": 7}, -3, 1e400, None, True])
def test_counts_of_any_shape_are_no_failure(counts: Any) -> None:
    decoder = LineDecoder()
    decoder.feed({"message": {"content": "x"}, "done": True, "prompt_eval_count": counts, "eval_count": counts})
    assert isinstance(decoder.finish()[0], Finish)

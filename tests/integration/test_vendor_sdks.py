"""What a vendor's own SDK reads in a stream, our adapter reads: the same recordings through both.

The SDKs get the recordings from a transport in memory. Where we differ on purpose, DIFFERENCES says why.
AGENTKIT_WIRE_CORPUS names a folder with more recordings.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest
from google import genai
from openai.lib.streaming.chat import ChatCompletionStreamState

from agentkit.core.messages import ThinkingBlock, text_of, tool_calls_of
from agentkit.errors import ProviderError
from agentkit.providers import anthropic, google, openai, openai_responses
from agentkit.providers.bedrock import AwsFrames
from agentkit.providers.protocol import Finish, Part
from agentkit.testing.provider_contract import build
from tests import bedrock_server
from tests.sse_cuts import events_of, items_of

GOLDEN = Path(__file__).parents[1] / "golden"
CORPUS = os.environ.get("AGENTKIT_WIRE_CORPUS", "")
ASK: Any = [{"role": "user", "content": "hello"}]


@dataclass
class Reading:
    """What an answer is, in our words. `stop` is None where it has no end, or ends in failure."""

    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    """Id, name and arguments: parsed, or their text where they are no JSON."""
    usage: tuple[int, int, int, int] = (0, 0, 0, 0)
    """New, cached, stored and written tokens."""
    stop: str | None = None
    model: str | None = None


# -- what the SDKs read


def transport_of(body: bytes, content_type: str = "text/event-stream") -> httpx2.Client:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai_client(body: bytes) -> openai_sdk.OpenAI:
    return openai_sdk.OpenAI(api_key="k", base_url="http://x/v1", http_client=transport_of(body), max_retries=0)


def completions_by_sdk(body: bytes) -> Reading:
    state: Any = ChatCompletionStreamState()
    model = None
    for chunk in openai_client(body).chat.completions.create(model="m", messages=ASK, stream=True):
        model = chunk.model or model  # Azure's first chunk has none
        with suppress(openai_sdk.LengthFinishReasonError, openai_sdk.ContentFilterFinishReasonError):
            state.handle_chunk(chunk)  # raises for an end that parsing of an answer's schema cannot use
    whole = state.current_completion_snapshot
    choice = whole.choices[0]
    message = choice.message
    calls = [(call.id, call.function.name, parsed(call.function.arguments)) for call in message.tool_calls or ()]
    stops = {"stop": "toolUse" if calls else "stop", "tool_calls": "toolUse", "length": "length"}
    reading = Reading((message.content or "") + (message.refusal or ""), calls=calls, model=model)
    reading.thinking = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
    reading.stop = stops.get(choice.finish_reason)
    if usage := whole.usage:
        details = usage.prompt_tokens_details
        cached = (details and details.cached_tokens) or 0
        reading.usage = (usage.prompt_tokens - cached, cached, 0, usage.completion_tokens)
    return reading


def responses_by_sdk(body: bytes) -> Reading:
    reading, calls = Reading(), {}
    for event in openai_client(body).responses.create(model="m", input="hello", stream=True):
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                reading.text += event.delta
            case "response.output_item.done" if event.item.type == "reasoning":
                texts = [*(event.item.summary or ()), *(event.item.content or ())]
                reading.thinking += ("\n\n" if reading.thinking else "") + "\n\n".join(text.text for text in texts)
            case "response.output_item.done" if event.item.type == "function_call":
                item = event.item
                calls[event.output_index] = (item.call_id, item.name, parsed(item.arguments))
            case "response.completed" | "response.incomplete" | "response.failed":
                response = event.response
                reading.model = response.model
                if usage := response.usage:
                    cached = usage.input_tokens_details.cached_tokens
                    stored = usage.input_tokens_details.cache_write_tokens or 0
                    reading.usage = (usage.input_tokens - cached - stored, cached, stored, usage.output_tokens)
                if response.status == "completed":
                    reading.stop = "toolUse" if calls else "stop"
                elif response.incomplete_details and response.incomplete_details.reason == "max_output_tokens":
                    reading.stop = "length"
    reading.calls = [calls[index] for index in sorted(calls)]
    return reading


def messages_by_sdk(body: bytes, client: Any = None) -> Reading:
    client = client or anthropic_sdk.Anthropic(
        api_key="k", base_url="http://x", http_client=transport_of(body), max_retries=0
    )
    with client.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        message = stream.get_final_message()
    reading = Reading(model=message.model)
    for block in message.content:
        match block.type:
            case "text":
                reading.text += block.text
            case "thinking":
                reading.thinking += block.thinking
            case "tool_use":
                reading.calls.append((block.id, block.name, block.input))
    stops = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "toolUse"}
    stops["model_context_window_exceeded"] = "length"
    reading.stop = stops.get(message.stop_reason or "")
    usage = message.usage
    stored = usage.cache_creation_input_tokens or 0
    reading.usage = (usage.input_tokens, usage.cache_read_input_tokens or 0, stored, usage.output_tokens)
    return reading


def bedrock_by_sdk(body: bytes) -> Reading:
    client = anthropic_sdk.AnthropicBedrock(
        api_key="k",
        aws_region="eu-west-1",
        http_client=transport_of(body, "application/vnd.amazon.eventstream"),
        max_retries=0,
    )
    return messages_by_sdk(body, client)


def google_by_sdk(body: bytes) -> Reading:
    client = genai.Client(api_key="k", http_options={"base_url": "http://x", "httpx_client": transport_of(body)})  # type: ignore[arg-type]
    reading = Reading()
    for chunk in client.models.generate_content_stream(model="m", contents="hello"):
        reading.model = chunk.model_version or reading.model
        if usage := chunk.usage_metadata:
            cached = usage.cached_content_token_count or 0
            prompt = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
            written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            reading.usage = (prompt - cached, cached, 0, written)
        for candidate in (chunk.candidates or ())[:1]:
            for part in (candidate.content and candidate.content.parts) or ():
                if part.function_call:
                    call = part.function_call
                    reading.calls.append((call.id or "", call.name or "", call.args or {}))
                elif part.thought:
                    reading.thinking += part.text or ""
                else:
                    reading.text += part.text or ""
            reason = candidate.finish_reason and candidate.finish_reason.value
            reading.stop = {"STOP": "stop", "MAX_TOKENS": "length", None: reading.stop}.get(reason)
    if reading.calls and reading.stop == "stop":
        reading.stop = "toolUse"
    return reading


def parsed(arguments: str | None) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


# -- what we read


def frames_of(body: bytes) -> bytes:
    """The events of a stream of Anthropic's as Bedrock frames them."""
    lines = [line.partition(b"data:")[2].strip() for line in body.splitlines() if line.startswith(b"data:")]
    return b"".join(map(bedrock_server.chunk, lines))


def bedrock_events(body: bytes) -> Any:
    return items_of(AwsFrames("bedrock", frame_bytes=10**6), body)


def ours(parts: Callable[[], Iterator[Part]]) -> Reading:
    got: list[Part] = []
    with suppress(ProviderError):
        got.extend(parts())
    if not got or not isinstance(got[-1], Finish):
        return Reading()
    message, finish = build(got), got[-1]
    usage = message.usage
    return Reading(
        text_of(message),
        "".join(block.thinking for block in message.content if isinstance(block, ThinkingBlock)),
        [(call.id, call.name, call.raw_arguments or call.arguments) for call in tool_calls_of(message)],
        (usage.input, usage.cache_read, usage.cache_write, usage.output),
        message.stop_reason,
        finish.model,
    )


@dataclass(frozen=True)
class Wire:
    folder: str
    sdk: Callable[[bytes], Reading]
    decode: Callable[[bytes], Iterator[Part]]
    corpus: str = ""
    """The kind of its recordings in the corpus."""
    encode: Callable[[bytes], bytes] = bytes


WIRES = {
    "completions": Wire("openai", completions_by_sdk, lambda b: openai.decode(events_of(b), "v"), "openai"),
    "responses": Wire("openai-responses", responses_by_sdk, lambda b: openai_responses.decode(events_of(b), "v")),
    "anthropic": Wire("anthropic", messages_by_sdk, lambda b: anthropic.decode(events_of(b), "v"), "anthropic"),
    "bedrock": Wire(
        "anthropic", bedrock_by_sdk, lambda b: anthropic.decode(bedrock_events(b), "v"), "anthropic", frames_of
    ),
    "google": Wire("google", google_by_sdk, lambda b: google.decode(events_of(b), "v")),
}


def recordings() -> list[tuple[str, Path]]:
    expected = json.loads(Path(CORPUS, "expected.json").read_text()) if CORPUS else {}
    found: list[tuple[str, Path]] = []
    for name, wire in WIRES.items():
        found += [(name, path) for path in sorted((GOLDEN / wire.folder).glob("*.sse"))]
        found += [
            (name, Path(CORPUS, file))
            for file, entry in sorted(expected.items())
            if entry["kind"] == wire.corpus and file.endswith(".sse")
        ]
    return found


_MISTRAL = "Mistral's lists of thinking and text are read; OpenAI's types know texts alone"
_NULL = "`null` is how Groq spells no arguments; a tool is called with an object"
_CLAUDE = {
    "gateway_done": "gateways end with OpenAI's [DONE]: the SDK finds no JSON there",
    "missing_everything": "servers like Anthropic's leave out what the SDK needs",
    "pause_turn": "the vendor pauses; MessagesProvider goes on in another request, and the SDK leaves that to its user",
    "tool_cut_by_max_tokens": "arguments that were cut off are kept as their text; the SDK reads what there is of them",
    "tool_input_in_the_start": "an answer with calls ends with toolUse, whatever reason it gives",
    "unknown_everything": "what is not known is left out; the SDK breaks at it",
    "anthropic_gateway_done": "gateways end with OpenAI's [DONE]: the SDK finds no JSON there",
}

# By wire and recording: where we do not read what the SDK reads, and why.
DIFFERENCES = {
    "completions": {
        "content_list": _MISTRAL,
        "mistral_content_list": _MISTRAL,
        "tool_ids_omitted_empty_repeated": "an id or a name that comes again is the same; the SDK puts them together",
        "tool_in_finish_chunk_null_arguments": _NULL + "; and usage is read where Groq has it, in `x_groq`",
        "groq_parallel_tools": _NULL,
        "tools_all_index_zero": "some servers number all calls 0; the SDK makes one call of them",
        "tools_without_index": "some servers number no calls; the SDK breaks",
        "xai_tool": "xAI counts its reasoning in the total alone, and bills it",
    },
    "responses": {
        "call_of_a_client_of_the_vendor": "nobody would carry it out: an error in place of an empty answer",
        "no_indexes_and_no_ends_of_items": "servers like OpenAI's leave out what the SDK needs",
        "whole_response_alone": "a proxy may send the last event alone",
    },
    "anthropic": _CLAUDE,
    "bedrock": _CLAUDE,
    "google": {
        "cached_prompt_and_thoughts_in_the_total_alone": "thoughts that are in the total alone are billed, too",
        "calls_in_one_chunk_without_ids": "calls get ids: results name theirs",
        "continuation": "two answers in one stream: the first ends it",
        "gateway_done_and_line_feeds": "gateways send comments and OpenAI's [DONE]: the SDK finds no JSON there",
        "unknown_everything": "a reason that is not known is an end of a text",
    },
}


def read_by_both(name: str, path: Path) -> tuple[Reading, Reading]:
    wire = WIRES[name]
    body = wire.encode(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the SDKs' own, about values that their types do not know
        try:
            theirs = wire.sdk(body)
        except Exception:  # whatever an SDK raises, it reads no answer
            theirs = Reading()
    return theirs, ours(lambda: wire.decode(body))


def different(theirs: Reading, mine: Reading) -> list[str]:
    """The names of what differs; of answers that failed, that they did is all that counts."""
    if theirs.stop is None and mine.stop is None:
        return []
    return [entry.name for entry in fields(Reading) if getattr(theirs, entry.name) != getattr(mine, entry.name)]


@pytest.mark.parametrize(("name", "path"), [pytest.param(n, p, id=f"{n}/{p.stem}") for n, p in recordings()])
def test_what_the_vendors_sdk_reads_we_read(name: str, path: Path) -> None:
    theirs, mine = read_by_both(name, path)
    differs = bool(different(theirs, mine))
    assert differs is (path.stem in DIFFERENCES[name]), f"the SDK reads {theirs}, and we {mine}"

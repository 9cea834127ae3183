"""Whatever an answer holds, in whatever order and shape, is a message that can be sent back, or a ProviderError.

AGENTKIT_FUZZ_SEED sets another seed, AGENTKIT_FUZZ_ROUNDS how many changes of each recording are tried.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import AssistantMessage, Message, TextBlock, UserMessage, tool_calls_of
from agentkit.core.struct import decode as read
from agentkit.core.struct import encode, to_json
from agentkit.errors import ProviderError
from agentkit.providers import anthropic, google, ollama, openai, openai_responses
from agentkit.providers.anthropic_request import continued
from agentkit.providers.bedrock import AwsFrames
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.decoding import Decoder
from agentkit.providers.http import Answer, HttpRequest, answer_parts
from agentkit.providers.protocol import ModelRequest
from tests.histories import result
from tests.ndjson_cuts import lines_of
from tests.sse_cuts import events_of, items_of
from tests.unit.test_anthropic_server_tools import ASK, CITED, FOUND, SAVE, SEARCH, THOUGHT, TOLD, TOOLS, events
from tests.vendor_mutations import RECORDED, SEED, Recorded, mutated, pieces_of

ROUNDS = int(os.environ.get("AGENTKIT_FUZZ_ROUNDS", "25"))
HI = UserMessage("hi", 0)
CALL = HttpRequest(vendor="vendor", url="http://127.0.0.1/", body={}, headers={})


class Items:
    """An answer's items, as the HTTP client would bring them."""

    def __init__(self, read_items: Callable[[], Iterable[Any]]) -> None:
        self._read_items = read_items

    def batches(self) -> Iterator[list[Any]]:
        for item in self._read_items():  # raises where the items are read
            yield [item]

    def close(self) -> None:
        pass

    def content_came(self) -> None:
        pass


def frames_of(*pieces: bytes) -> list[Any]:
    return list(items_of(AwsFrames("vendor", frame_bytes=10**6), *pieces))


@dataclass(frozen=True)
class Wire:
    api: str
    provider: str
    read_items: Callable[..., Iterable[Any]]
    decoder: Callable[[str], Decoder[Any]]
    build_request: Callable[[ModelRequest], Any]
    options: dict[str, Any]


_CLAUDE = Wire(
    "anthropic-messages", "anthropic", events_of, anthropic.EventDecoder, anthropic.build_request, {"tools": TOOLS}
)
WIRES = {
    "openai-completions": Wire(
        "openai-completions", "openai", events_of, openai.ChunkDecoder, openai.build_request, {}
    ),
    "openai-responses": Wire(
        "openai-responses",
        "openai-responses",
        events_of,
        openai_responses.ResponseDecoder,
        openai_responses.build_request,
        {},
    ),
    "anthropic": _CLAUDE,
    "bedrock": Wire(_CLAUDE.api, "anthropic", frames_of, _CLAUDE.decoder, _CLAUDE.build_request, _CLAUDE.options),
    "google": Wire(google.GoogleProvider.api, "google", events_of, google.ChunkDecoder, google.build_request, {}),
    "ollama": Wire(ollama.OllamaProvider.api, "ollama", lines_of, ollama.LineDecoder, ollama.build_request, {}),
}


def sse(stream: list[Any]) -> list[bytes]:
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in stream]


SERVER_TOOLS = {
    "server_tools": sse(events([THOUGHT, SEARCH, FOUND, CITED, ASK, TOLD], container={"id": "c", "expires_at": "x"})),
    "both_kinds_of_tools": sse(events([SEARCH, {**SAVE, "caller": {"type": "direct"}}], "tool_use")),
    "a_pause": sse(events([{"type": "text", "text": "so f"}, SEARCH], "pause_turn")),
    "unsigned_thinking": sse(events([{"type": "thinking", "thinking": "hm"}, SAVE], "tool_use")),
}


def recorded(name: str) -> Recorded:
    of = RECORDED[name]
    more = SERVER_TOOLS if name in ("anthropic", "bedrock") else {}
    return Recorded(of.content_type, {**of.answers, **more}, of.frame)


CASES = [(name, answer) for name in WIRES for answer in recorded(name).answers]


def message_of(wire: Wire, decoder: Decoder[Any], pieces: list[bytes]) -> AssistantMessage:
    """The message as it is read again from the store."""
    builder = MessageBuilder(api=wire.api, provider=wire.provider, model="m", timestamp=0)
    items = cast(Answer[Any], Items(lambda: wire.read_items(*pieces)))
    for part in answer_parts(CALL, Cancellation(), items, decoder):
        for update in builder.feed(part):
            to_json(update)
    builder.finish()
    stored: AssistantMessage = read(encode(builder.message()), Message)
    return stored


def check_sent_back(wire: Wire, message: AssistantMessage) -> None:
    """The message goes into the next request, to the model that gave it and to another."""
    results = [result(call.id, TextBlock("ok")) for call in tool_calls_of(message)]
    for model in ("m", "other"):
        body = wire.build_request(ModelRequest(model, "", [HI, message, *results, HI], options=wire.options))
        json.dumps(body, allow_nan=False).encode()
        if wire.api == "anthropic-messages":
            assert [turn["role"] for turn in body["messages"]] in (["user"], ["user", "assistant", "user"])


@pytest.mark.parametrize(("name", "answer"), CASES)
def test_a_changed_answer_is_a_message_that_can_be_sent_back_or_a_provider_error(name: str, answer: str) -> None:
    rng, wire, outcomes = random.Random(f"{SEED} {name} {answer}"), WIRES[name], Counter[str]()
    for _ in range(ROUNDS):
        body = mutated(recorded(name), answer, rng)
        decoder = wire.decoder("vendor")
        try:
            message = message_of(wire, decoder, pieces_of(body, rng))
            usage = message.usage
            assert min(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.total_tokens) >= 0
            check_sent_back(wire, message)
            if isinstance(decoder, anthropic.EventDecoder):
                asked = {"messages": [{"role": "user", "content": "hi"}]}
                json.dumps(continued(asked, decoder.content, decoder.container), allow_nan=False).encode()
        except ProviderError as error:
            encode(error.usage)
            outcomes["error" if len(str(error)) < 1200 else "long error"] += 1
        except Exception as error:
            raise AssertionError(f"seed {SEED}: {error!r} of {body!r}") from error
        else:
            outcomes["message"] += 1
    assert outcomes["error"] + outcomes["message"] == ROUNDS


@pytest.mark.parametrize("name", list(WIRES))
def test_the_changes_leave_answers_and_break_answers(name: str) -> None:
    rng, wire = random.Random(SEED), WIRES[name]
    bodies = [mutated(recorded(name), "made", rng) for _ in range(60)]
    whole = 0
    for body in bodies:
        try:
            message_of(wire, wire.decoder("vendor"), [body])
            whole += 1
        except ProviderError:
            pass
    assert 5 < whole < 55

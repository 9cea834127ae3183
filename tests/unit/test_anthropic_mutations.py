"""Whatever an answer of the Messages API holds, in whatever order and shape, is a message or a ProviderError.

And whatever came of it can be sent back. The cases come from a seed, which a failing test shows.
"""

from __future__ import annotations

import copy
import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.messages import AssistantMessage, Message, TextBlock, UserMessage, tool_calls_of
from agentkit.core.struct import decode as read
from agentkit.core.struct import encode
from agentkit.errors import ProviderError
from agentkit.providers.anthropic import EventDecoder, build_request
from agentkit.providers.anthropic_request import continued
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import ModelRequest
from tests.histories import result
from tests.unit.test_anthropic_server_tools import ASK, CITED, FOUND, SAVE, SEARCH, THOUGHT, TOLD, TOOLS, events

SEED = int(os.environ.get("AGENTKIT_FUZZ_SEED", "20261128"))
GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"
ODD: list[Any] = [None, True, 0, -1, 2.5, "", "x", [], [1], {}, {"type": "text"}, "tool_use", "pause_turn", 10**30]
HI = UserMessage("hi", 0)


def transcripts() -> dict[str, list[Any]]:
    streams: dict[str, list[Any]] = {
        "server tools": events([THOUGHT, SEARCH, FOUND, CITED, ASK, TOLD], container={"id": "c", "expires_at": "x"}),
        "both kinds of tools": events([SEARCH, {**SAVE, "caller": {"type": "direct"}}], "tool_use"),
        "a pause": events([{"type": "text", "text": "so f"}, SEARCH], "pause_turn"),
        "unsigned thinking": events([{"type": "thinking", "thinking": "hm"}, SAVE], "tool_use"),
    }
    for path in sorted(GOLDEN.glob("*.sse")):
        lines = [line.partition("data:")[2] for line in path.read_text().splitlines() if line.startswith("data:")]
        with suppress(ValueError):  # what is no JSON, no mutation makes worse
            streams[path.stem] = [json.loads(line) for line in lines]
    return {name: stream for name, stream in streams.items() if stream}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def mutated(stream: list[Any], rng: random.Random) -> list[Any]:
    stream = copy.deepcopy(stream)
    for _ in range(rng.randint(1, 4)):
        container, key = rng.choice(places(stream))
        match rng.randrange(5):
            case 0:
                container[key] = copy.deepcopy(rng.choice(ODD))
            case 1 if len(stream) > 1:
                del container[key]
            case 2:
                stream.insert(rng.randint(0, len(stream)), copy.deepcopy(rng.choice(stream)))
            case 3:
                stream.append(stream.pop(rng.randrange(len(stream))))
            case 4 if isinstance(container, dict):
                other = rng.choice(places(stream))[0]
                container.update(copy.deepcopy(other) if isinstance(other, dict) else {})
    return stream


def message_of(stream: list[Any], decoder: EventDecoder) -> AssistantMessage:
    """The message as it is read again from the store."""
    builder = MessageBuilder(api="anthropic-messages", provider="anthropic", model="m", timestamp=0)
    for event in stream:
        if isinstance(event, dict):  # json_events makes others errors
            for part in decoder.feed(event):
                builder.feed(part)
    try:
        parts = decoder.finish()
    except (AttributeError, TypeError) as error:  # as answer_parts does
        raise ProviderError("an answer of an unknown shape") from error
    for part in parts:
        builder.feed(part)
    builder.finish()
    stored: AssistantMessage = read(encode(builder.message()), Message)
    return stored


@pytest.mark.parametrize("name", list(transcripts()))
def test_a_mutated_answer_is_a_message_that_can_be_sent_back_or_a_provider_error(name: str) -> None:
    rng = random.Random(f"{SEED} {name}")
    stream = transcripts()[name]
    messages = 0
    for _ in range(300):
        changed, decoder = mutated(stream, rng), EventDecoder()
        try:
            message = message_of(changed, decoder)
        except ProviderError:
            continue
        except Exception as error:
            raise AssertionError(f"{error!r} of {json.dumps(changed)}") from error
        messages += 1
        results = [result(call.id, TextBlock("ok")) for call in tool_calls_of(message)]
        options = {"tools": TOOLS}
        for model in ("m", "other"):
            body = build_request(ModelRequest(model, "", [HI, message, *results, HI], options=options))
            json.dumps(body, allow_nan=False)
            assert [turn["role"] for turn in body["messages"]] in (["user"], ["user", "assistant", "user"])
        json.dumps(continued(body, decoder.content, decoder.container), allow_nan=False)
    assert messages > 20 or "error" in name or name in ("cut", "refusal")

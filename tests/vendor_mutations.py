"""Recorded answers of each vendor's wire, and changes to them: what vendors, gateways and networks could make of them.

`mutated` changes values (other types, nulls, missing and further fields) and events (order, again, left out, cut,
of another recording), and may cut the body anywhere. All by the given random generator, so that a seed names a case.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import anthropic_server, bedrock_server, google_server, ollama_server, openai_server, responses_server

__all__ = ["NDJSON", "RECORDED", "SEED", "SSE", "TURN", "Recorded", "mutated", "pieces_of"]

SEED = int(os.environ.get("AGENTKIT_FUZZ_SEED", "20261128"))
GOLDEN = Path(__file__).parent / "golden"
TURN: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me see."},
    {"type": "text", "text": "Grüße 🏔"},
    {"type": "toolCall", "id": "one", "name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
    {"type": "toolCall", "id": "two", "name": "clock", "arguments": {}},
]
SSE, NDJSON, AWS = "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"

ODD: list[Any] = [None, True, False, 0, -1, 2**70, -(2**70), 10**400, 1e308, -1e308, 0.5, "", "x", "\ud83d", "a" * 500]
ODD += [[], [None], [1], [[]], ["x", 1, {}], {}, {"type": "text"}, {"error": {"message": "m"}}, {"a": {"b": [1]}}]
ODD += ["stop", "message_stop", "pause_turn", "tool_use", "[DONE]", "length", "0"]
NAMES = ["usage", "model", "error", "index", "type", "delta", "id", "done", "content", "message", "item", "response"]
JUNK = [b"\n\n", b": x\n\n", b"data\n\n", b"null\n", b"data: 7\n\n", b"data: [DONE]\n\n", b"event: error\ndata: {}\n\n"]


@dataclass(frozen=True)
class Recorded:
    """The recordings of one wire, each as events that stand alone."""

    content_type: str
    answers: dict[str, list[bytes]]
    frame: Callable[[bytes], bytes] = bytes
    """Writes an event as the wire has it."""


def _aws_frame(event: bytes) -> bytes:
    data = b"".join(line.partition(b"data:")[2].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return bedrock_server.chunk(data) if data else event


def _recorded(folder: str, kind: str, made: Iterable[bytes]) -> dict[str, list[bytes]]:
    answers = {"made": list(made)}
    for path in sorted((GOLDEN / folder).glob(f"*.{kind}")):
        body = path.read_bytes()
        whole = body.splitlines(keepends=True) if kind == "ndjson" else re.findall(rb"(?s).+?(?:\r?\n\r?\n|\Z)", body)
        answers[path.stem] = whole
    return {name: events for name, events in answers.items() if events}


_CLAUDE = _recorded("anthropic", "sse", anthropic_server.frames(TURN))
RECORDED = {
    "openai-completions": Recorded(SSE, _recorded("openai", "sse", openai_server.frames(TURN))),
    "openai-responses": Recorded(SSE, _recorded("openai-responses", "sse", responses_server.frames(TURN))),
    "anthropic": Recorded(SSE, _CLAUDE),
    "bedrock": Recorded(AWS, _CLAUDE, _aws_frame),
    "vertex": Recorded(SSE, _CLAUDE),
    "google": Recorded(SSE, _recorded("google", "sse", google_server.frames(TURN))),
    "ollama": Recorded(NDJSON, _recorded("ollama", "ndjson", ollama_server.lines(TURN))),
}


def mutated(wire: Recorded, name: str, rng: random.Random) -> bytes:
    """A recorded answer with one to four changes."""
    events = list(wire.answers[name])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(events))
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 | 4:
                events[at] = _with_other_values(events[at], rng.choice(events), rng)
            case 5:
                events.insert(rng.randint(0, len(events)), events[at])
            case 6 if len(events) > 1:
                del events[at]
            case 7:
                events.insert(rng.randrange(len(events)), events.pop(at))
            case 8:
                other = rng.choice(list(wire.answers.values()))
                events.insert(at, rng.choice(other))
            case 9:
                events.insert(at, rng.choice([rng.randbytes(50), *JUNK]))
            case 10:
                middle = rng.randrange(len(events[at]) + 1)
                events[at : at + 1] = [events[at][:middle], events[at][middle:]]
            case _:
                events[at] = events[at][: rng.randrange(len(events[at]) + 1)]
    body = b"".join(map(wire.frame, events))
    return body[: rng.randrange(len(body) + 1)] if rng.random() < 0.1 else body


def pieces_of(body: bytes, rng: random.Random) -> list[bytes]:
    """The body as a network brings it: whole, or in pieces of any size, none of them empty."""
    if rng.random() < 0.5:
        return [body] if body else []
    cuts = sorted(rng.randint(0, len(body)) for _ in range(rng.randint(1, 5)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [piece for piece in pieces if piece]


def _with_other_values(event: bytes, other: bytes, rng: random.Random) -> bytes:
    """The event with values of its JSON changed, removed or added, some as another event has them."""
    head, value, tail = _parsed(event)
    donor = _parsed(other)[1]
    for _ in range(rng.randint(1, 3)):
        places = _places(value)
        if not places:
            return event
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(ODD))
            case 3:
                holder[key] = None
            case 4:
                del holder[key]
            case 5 if isinstance(holder, dict):
                holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice(ODD))
            case 6 if isinstance(holder, dict) and (fields := [at for at, _ in _places(donor) if isinstance(at, dict)]):
                holder.update(copy.deepcopy(rng.choice(fields)))
            case _ if taken := _places(donor):
                source, name = rng.choice(taken)
                holder[key] = copy.deepcopy(source[name])
    return head + json.dumps(value).encode() + tail


def _parsed(event: bytes) -> tuple[bytes, Any, bytes]:
    """What stands before an event's JSON, the JSON, and what stands after it; None where it has none."""
    start = event.find(b"{")
    try:
        return event[:start], json.loads(event[start:]), event[len(event.rstrip()) :]
    except ValueError:
        return event, None, b""


def _places(value: Any) -> list[tuple[Any, Any]]:
    """The places in a JSON value where another could stand: container and key."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in entries] + [place for _, inner in entries for place in _places(inner)]

"""Parsers that know nothing of agentkit find exactly its events in its streams, wherever the network cuts them."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from agentkit.store.memory import MemoryStore
from tests.golden.make_streams import AWKWARD, FILE, made, served


def recorded() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(FILE.read_text())
    return {**body, "stream": base64.b64decode(body["stream"])}


def steady(stream: bytes) -> bytes:
    return re.sub(rb'"timestamp":\d+', b'"timestamp":0', stream)


class _Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def parsed(*pieces: bytes) -> list[dict[str, str]]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Pieces(pieces))
    return [{"id": sse.id, "data": sse.data} for sse in EventSource(response).iter_sse() if sse.data]


def test_the_recorded_stream_is_what_the_web_layer_serves_now() -> None:
    """A difference is a change of what clients see; `python -m tests.golden.make_streams` makes the file again."""
    now = base64.b64decode(made(MemoryStore())["stream"])
    assert steady(now) == steady(recorded()["stream"])


def test_a_stream_cut_after_every_byte_holds_every_event_as_it_was_stored() -> None:
    body = recorded()
    stream = body["stream"]
    assert parsed(*(stream[i : i + 1] for i in range(len(stream)))) == body["events"]
    updates = [json.loads(e["data"]).get("assistantMessageEvent") for e in body["events"]]
    assert [update["delta"] for update in updates if update] == AWKWARD


def test_a_stream_cut_in_two_anywhere_holds_every_event() -> None:
    body = recorded()
    stream = body["stream"]
    for cut in range(len(stream)):
        assert parsed(stream[:cut], stream[cut:]) == body["events"]


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f600"], ids=["1 byte", "2 bytes", "4 bytes"])
def test_deltas_of_a_megabyte_arrive_whole(letter: str) -> None:
    deltas = [letter * (1_000_000 // len(letter.encode())), "and on", letter * 10]
    stream = served(MemoryStore(), "00000000-0000-7000-8000-000000000002", deltas)
    cuts = random.Random(1)
    pieces, at = [], 0
    while at < len(stream):
        size = cuts.choice((1, 7, 1460, 4096, 65_537))
        pieces.append(stream[at : at + size])
        at += size
    events = [json.loads(event["data"]) for event in parsed(*pieces)]
    assert [event["seq"] for event in events] == list(range(1, 9))
    assert [e["assistantMessageEvent"]["delta"] for e in events if e["type"] == "message_update"] == deltas

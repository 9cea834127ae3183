"""How an answer's bytes reach the thread that reads them: in few pieces, in order, and no later than they may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest

from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.errors import ProviderError
from agentkit.providers.decoding import joined
from agentkit.providers.http import answer_parts, stream_sse
from agentkit.providers.openai import ChunkDecoder
from agentkit.providers.protocol import NOTHING, BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.transfer import _MOST_UNREAD, Head, HttpRequest, Transfer
from tests.waiting import wait_until

SECONDS = 10.0
WORDS = ["Gr", "üße ", "aus ", "Zür", "ich, \U0001f3d4", " und ", "日本", "語"]


class Body(httpx.AsyncByteStream):
    """A body that is sent piece by piece, as the test says."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.read = 0
        self.closed = False

    def send(self, *pieces: bytes | None) -> None:
        """Send pieces at once, one after the other; None is the end."""
        event_loop().call_soon_threadsafe(lambda: [self._queue.put_nowait(piece) for piece in pieces])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            self.read += len(piece)
            yield piece

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch) -> Iterator[Body]:
    body = Body()
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer))
    monkeypatch.setattr("agentkit.providers.transfer.client_for", lambda *_: client)
    yield body
    body.send(None)
    submit(client.aclose()).result(SECONDS)


def request(pace: float = 0.0, silence: float = 4000.0) -> HttpRequest:
    bounds = Bounds(model_silence_seconds=silence)
    return HttpRequest("vendor", "http://vendor.test/", {}, bounds=bounds, pace=lambda: pace)


def begun(body: Body, **options: float) -> Transfer:
    transfer = Transfer(request(**options), "text/event-stream", [b"[DONE]"])
    submit(transfer.run())
    assert transfer.take(SECONDS) == Head(200, "text/event-stream", "")
    return transfer


def test_the_first_piece_waits_for_nothing_and_what_comes_within_the_pace_comes_together(body: Body) -> None:
    transfer = begun(body, pace=1000.0)
    body.send(b"1")
    assert transfer.take(SECONDS) == b"1"
    body.send(b"2", b"3")
    body.send(b"4")
    wait_until(lambda: body.read == 4, what="all pieces to be read")
    assert transfer.inbox.empty()
    body.send(None)
    assert transfer.take(SECONDS) == b"234"
    assert transfer.take(SECONDS) is None


def test_a_piece_with_the_mark_of_the_last_event_waits_for_nothing(body: Body) -> None:
    transfer = begun(body, pace=1000.0)
    body.send(b"1")
    assert transfer.take(SECONDS) == b"1"
    body.send(b"2", b"data: [DONE]")
    assert transfer.take(SECONDS) == b"2data: [DONE]"


def test_without_a_pace_each_piece_comes_by_itself(body: Body) -> None:
    transfer = begun(body)
    for piece in (b"1", b"2"):
        body.send(piece)
        assert transfer.take(SECONDS) == piece


def test_a_pace_that_is_longer_than_the_vendor_may_be_silent_is_no_silence(body: Body) -> None:
    transfer = begun(body, pace=1000.0, silence=0.4)
    body.send(b"1", b"2")
    assert transfer.take(SECONDS) == b"1"
    assert transfer.take(SECONDS) == b"2"


@pytest.mark.parametrize("pace", [0.0, 1000.0])
def test_a_reader_that_takes_nothing_stops_the_vendor_and_gets_all_when_it_goes_on(body: Body, pace: float) -> None:
    piece = bytes(range(256)) * 256
    transfer = begun(body, pace=pace)
    sent = [piece] * (4 * _MOST_UNREAD // len(piece))
    body.send(*sent, None)
    wait_until(lambda: body.read > _MOST_UNREAD, what="the bound to be reached")
    submit(asyncio.sleep(0)).result(SECONDS)
    assert body.read <= _MOST_UNREAD + len(piece)
    received = b""
    while isinstance(taken := transfer.take(SECONDS), bytes):
        received += taken
    assert (received, taken) == (b"".join(sent), None)


class Told:
    """A reader that notes what it learns."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def idle(self, seconds: float) -> None:
        self.notes.append("idle")

    def collected(self) -> None:
        self.notes.append("collected")

    def wake(self) -> None:
        self.notes.append("wake")


def test_a_reader_is_woken_for_what_waits_for_nothing_and_learns_of_what_was_collected(body: Body) -> None:
    told = Told()
    transfer = Transfer(replace(request(pace=0.5), reader=told), "text/event-stream", [b"[DONE]"])
    submit(transfer.run())
    assert transfer.take(SECONDS) == Head(200, "text/event-stream", "")
    body.send(b"1")
    assert transfer.take(SECONDS) == b"1"
    body.send(b"2")
    assert transfer.take(SECONDS) == b"2"
    body.send(b"data: [DONE]")
    assert transfer.take(SECONDS) == b"data: [DONE]"
    body.send(None)
    assert transfer.take(SECONDS) is None
    wait_until(lambda: told.notes == ["wake", "collected", "wake", "wake"], what="all notes")


def test_a_reader_is_not_held_while_nothing_comes(body: Body) -> None:
    told = Told()
    parts = parts_of(replace(request(pace=1000.0), reader=told))
    body.send(stream(WORDS)[:100])
    assert next(parts) is not NOTHING
    assert next(parts) is NOTHING
    assert told.notes[-1] == "idle"
    body.send(stream(WORDS)[100:])
    *texts, finish = (part for part in parts if part is not NOTHING)
    assert isinstance(finish, Finish)
    assert texts


def test_a_reader_is_not_held_by_a_vendor_that_is_silent_and_then_gets_the_failure(body: Body) -> None:
    parts = parts_of(replace(request(silence=0.2), reader=Told()))
    body.send(stream(WORDS)[:100])
    with pytest.raises(ProviderError, match="silent for"):
        list(parts)


def stream(words: list[str]) -> bytes:
    chunks = [f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{word}"}}}}]}}\n\n' for word in words]
    end = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    return "".join([*chunks, end]).encode()


def parts_of(call: HttpRequest, cancel: Cancellation | None = None) -> Iterator[Part]:
    cancel = cancel or Cancellation()
    answer = stream_sse(call, cancel, last_marks=[b"[DONE]"], is_last=lambda data: data == "[DONE]")
    return answer_parts(call, cancel, answer, ChunkDecoder("vendor"))


@pytest.mark.parametrize("pace", [0.0, 0.001])
@pytest.mark.parametrize("seed", range(5))
def test_the_text_is_the_same_wherever_the_bytes_are_cut(body: Body, pace: float, seed: int) -> None:
    whole, rng = stream(WORDS), random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(whole)), 20))
    body.send(*(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)))
    *texts, finish = parts_of(request(pace=pace))
    assert "".join(part.text for part in texts if isinstance(part, TextDelta)) == "".join(WORDS)
    assert isinstance(finish, Finish)


def test_texts_that_came_together_are_one_part(body: Body) -> None:
    body.send(stream(WORDS))
    assert list(parts_of(request(pace=1.0)))[:-1] == [TextDelta("".join(WORDS))]


def test_what_came_before_an_error_is_not_lost(body: Body) -> None:
    words, _, _ = stream(WORDS).partition(b'data: {"choices": [{"index": 0, "delta": {}')
    body.send(words + b'data: {"error": {"message": "overloaded"}}\n\n')
    parts = parts_of(request(pace=1.0))
    assert next(parts) == TextDelta("".join(WORDS))
    with pytest.raises(ProviderError, match="overloaded"):
        list(parts)


def test_an_abort_within_the_window_ends_the_parts_and_closes_the_connection(body: Body) -> None:
    cancel = Cancellation()
    body.send(stream(WORDS)[:100])
    parts = parts_of(request(pace=1000.0), cancel)
    assert next(parts)
    body.send(stream(WORDS)[100:200])
    wait_until(lambda: body.read == 200, what="the piece to be read")
    cancel.cancel("abort")
    assert list(parts) == []
    wait_until(lambda: body.closed, what="the connection to be closed")


def test_the_rest_of_a_body_is_read_after_the_last_event_so_that_its_connection_is_kept(body: Body) -> None:
    body.send(stream(WORDS))
    list(parts_of(request()))
    body.send(b"x" * (2 * _MOST_UNREAD), b": more\n\n", None)
    wait_until(lambda: body.closed, what="the end of the body")
    assert body.read == len(stream(WORDS)) + 2 * _MOST_UNREAD + 8


@pytest.mark.parametrize(
    "parts",
    [
        [TextDelta("a"), ThinkingDelta("b"), TextDelta("c")],
        [TextDelta("a"), TextDelta("b", {"signed": 1}), TextDelta("c")],
        [ThinkingDelta("a", "signature"), ThinkingDelta("b")],
        [TextDelta("a"), BlockEnd(), TextDelta("b")],
        [ToolCallDelta(0, "id", "name", "{"), ToolCallDelta(0, arguments="{}"), ToolCallDelta(0, arguments="{}")],
    ],
)
def test_only_plain_texts_beside_each_other_are_joined(parts: list[Part]) -> None:
    assert list(joined(parts)) == parts


def test_joined_texts_keep_their_place() -> None:
    parts: list[Part] = [TextDelta("a"), TextDelta("b"), BlockEnd(), ThinkingDelta("c"), ThinkingDelta("d")]
    assert list(joined(parts)) == [TextDelta("ab"), BlockEnd(), ThinkingDelta("cd")]


def raising(parts: list[Part], error: Exception) -> Iterator[Part]:
    yield from parts
    raise error


def test_joined_texts_come_before_a_failure() -> None:
    parts = joined(raising([TextDelta("a"), TextDelta("b")], ProviderError("broken")))
    assert next(parts) == TextDelta("ab")
    with pytest.raises(ProviderError, match="broken"):
        next(parts)

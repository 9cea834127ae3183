"""What an event stream does with a client that reads nothing, and who may hold how many, without a server."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from agentkit import AgentKit, Settings
from agentkit.errors import TooManyWatchersError
from agentkit.server import streams
from tests.apps import in_background
from tests.unit.web.conftest import AGENTS, Web
from tests.waiting import wait_until

SSE = "text/event-stream"


class Chunks:
    """A handle on a run whose stream is these chunks."""

    id = "r1"

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    def sse(self, **options: Any) -> Iterator[bytes]:
        yield from self._chunks


def stream_of(chunks: Iterable[bytes], sock: socket.socket | None = None) -> streams.EventStream:
    handle: Any = Chunks(chunks)
    return streams.EventStream(handle, streams.StreamSlot(), sock=sock, opening=None)


def test_a_client_that_reads_nothing_is_disconnected_and_one_that_has_read_everything_is_not() -> None:
    stalled, stalled_client = socket.socketpair()
    quiet, quiet_client = socket.socketpair()
    ended: list[OSError] = []
    before = streams.open_streams()
    stalled_stream = stream_of([b"x" * 10_000_000], stalled)

    def serve() -> None:
        try:
            with closing(stalled_stream):
                for piece in stalled_stream:
                    stalled.sendall(piece)
        except OSError as error:
            ended.append(error)

    def one_chunk() -> Iterator[bytes]:
        yield b"retry: 1000"
        streams._close_stalled(-1)
        yield b": keepalive"

    with stalled, stalled_client, quiet, quiet_client:
        server = in_background(serve)
        wait_until(lambda: stalled_stream._wakeup in streams._sending, what="something to be sent")
        streams._close_stalled(60)
        assert server.is_alive()
        quiet_stream = stream_of(one_chunk(), quiet)
        for piece in quiet_stream:
            quiet.sendall(piece)
        server.join(10)
        assert [type(error) for error in ended] == [BrokenPipeError]
        assert quiet_client.recv(100) == b"retry: 1000: keepalive"
        assert streams.open_streams() == before
        assert not streams._sending.keys() & {stalled_stream._wakeup, quiet_stream._wakeup}


def test_a_long_event_is_sent_in_pieces_so_that_a_slow_reader_is_seen_to_read() -> None:
    event = bytes(range(256)) * 4000
    pieces = list(stream_of([event, b"y"]))
    assert b"".join(pieces) == event + b"y"
    assert max(map(len, pieces)) < 200_000


def test_a_stream_that_was_never_iterated_frees_its_slot_when_it_is_closed(web: Web) -> None:
    handle = web.kit.handle(web.start("shop"))
    before = streams.open_streams()
    stream = streams.EventStream(handle, streams.StreamSlot(), opening=handle.open(0))
    assert streams.open_streams() == before + 1
    stream.close()
    stream.close()
    assert streams.open_streams() == before


# -- who may hold how many slots


@pytest.mark.parametrize(
    ("limit", "share", "expected"), [(8, None, 4), (3, None, 1), (1, None, 1), (8, 2, 2), (4, 9, 4)]
)
def test_a_principal_holds_its_share_and_no_more(limit: int, share: int | None, expected: int) -> None:
    held = [streams.StreamSlot(limit, principal="ada", share=share) for _ in range(expected)]
    with pytest.raises(TooManyWatchersError):
        streams.StreamSlot(limit, principal="ada", share=share)
    if expected < limit:
        held.append(streams.StreamSlot(limit, principal="bob", share=share))
        held.pop(0).release()
        held.append(streams.StreamSlot(limit, principal="ada", share=share))
    for slot in held:
        slot.release()
        slot.release()
    assert streams.open_streams() == 0


def test_slots_that_nobody_is_named_for_have_no_share() -> None:
    held = [streams.StreamSlot(4) for _ in range(4)]
    with pytest.raises(TooManyWatchersError, match="AGENTKIT_MAX_WATCHERS"):
        streams.StreamSlot(4, principal="ada")
    for slot in held:
        slot.release()
    assert streams.open_streams() == 0


def test_without_a_limit_only_a_share_that_is_set_counts() -> None:
    held = [streams.StreamSlot(principal="ada") for _ in range(20)]
    with pytest.raises(TooManyWatchersError, match="PER_PRINCIPAL"):
        streams.StreamSlot(principal="ada", share=20)
    for slot in held:
        slot.release()


def test_over_http_one_principals_streams_leave_a_place_for_others(web: Web) -> None:
    settings = Settings(max_watchers=4, secret_key="0123456789abcdef0123456789abcdef")
    web.kit = AgentKit(
        AGENTS,
        settings=settings,
        store=web.store,
        queue=web.queue,
        authenticate=lambda request: request.headers.get("X-Name"),
        may=lambda principal, action, run: True,
    )
    web.queue.kit = web.kit
    client = web.client_of(web.kit)
    run_id = client.post("/runs", json={"agent": "shop", "input": "x"}, headers={"X-Name": "ada"}).json["id"]
    web.kit.handle(run_id).wait(10)
    token = client.post(f"/runs/{run_id}/stream-token", headers={"X-Name": "ada"}).json["token"]
    events = f"/runs/{run_id}/events"
    ada = [client.get(events, headers={"X-Name": "ada"}), client.get(f"{events}?token={token}")]
    for refused in (
        client.get(events, headers={"X-Name": "ada"}),
        client.get(f"{events}?token={token}"),
        client.post("/runs", json={"agent": "hello", "input": "x"}, headers={"X-Name": "ada", "Accept": SSE}),
    ):
        assert (refused.status_code, refused.json["code"]) == (503, "too_many_watchers")
        assert "of yours" in refused.json["detail"]
    bob = client.get(events, headers={"X-Name": "bob"})
    assert [response.status_code for response in (*ada, bob)] == [200] * 3
    ada[0].close()
    again = client.get(events, headers={"X-Name": "ada"})
    assert again.status_code == 200
    for response in (ada[1], bob, again):
        response.close()
    assert streams.open_streams() == 0

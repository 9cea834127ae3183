"""What an event stream does with a client that reads nothing, without a server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

from agentkit.runtime.follow import Wakeup
from agentkit.server import streams
from tests.apps import in_background
from tests.waiting import wait_until


def test_who_reads_nothing_is_hung_up_on_and_who_has_read_everything_is_not() -> None:
    chunks = iter([b"x" * 10_000_000])
    stalled, its_client = socket.socketpair()
    quiet, other_client = socket.socketpair()
    wakeups = Wakeup(), Wakeup()
    ended: list[OSError] = []

    def serve() -> None:
        stream = streams._with_slot("r1", chunks, streams.StreamSlot(), wakeups[0], stalled)
        try:
            with closing(stream):  # type: ignore[type-var]
                for piece in stream:
                    stalled.sendall(piece)
        except OSError as error:
            ended.append(error)

    def one_and_no_more() -> Iterator[bytes]:
        yield b"retry: 1000"
        streams._hang_up(-1)
        yield b": keepalive"

    with stalled, its_client, quiet, other_client:
        before = streams.open_streams()
        server = in_background(serve)
        wait_until(lambda: wakeups[0] in streams._sending, what="something to be sent")
        streams._hang_up(60)
        assert server.is_alive()
        for piece in streams._with_slot("r2", one_and_no_more(), streams.StreamSlot(), wakeups[1], quiet):
            quiet.sendall(piece)
        server.join(10)
        assert [type(error) for error in ended] == [BrokenPipeError]
        assert other_client.recv(100) == b"retry: 1000: keepalive"
        assert streams.open_streams() == before
        assert not streams._sending.keys() & set(wakeups)


def test_a_long_event_is_sent_in_pieces_so_that_a_slow_reader_is_seen_to_read() -> None:
    event = bytes(range(256)) * 4000
    pieces = list(streams._with_slot("r1", iter([event, b"y"]), streams.StreamSlot(), Wakeup(), None))
    assert b"".join(pieces) == event + b"y"
    assert max(map(len, pieces)) < 200_000

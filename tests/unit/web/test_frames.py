"""One WebSocket, without a web server: our side on one end of a socket pair, wsproto's client on the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from agentkit.server import frames
from agentkit.server.frames import CloseReason, Peer, PeerGoneError
from tests.waiting import wait_until


class Ends:
    """Both ends of an open WebSocket."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        self.ours = ours
        self.client.settimeout(5)
        self.said: list[str | None] = []
        self.stopping = False
        self.theirs = Connection(ConnectionType.CLIENT)
        opened = Connection(ConnectionType.SERVER)
        self.peer = Peer(
            ours,
            opened,  # type: ignore[arg-type]  # a WSConnection after its handshake
            self._answer,
            max_bytes=1000,
            stopping=lambda: self.stopping,
        )

    def _answer(self, text: str | None) -> str:
        self.said.append(text)
        return f"echo {text}"

    def say(self, *events: Event) -> None:
        self.client.sendall(b"".join(self.theirs.send(event) for event in events))

    def events(self) -> list[Event]:
        """What our side has sent up to now."""
        self.theirs.receive_data(self.client.recv(1_000_000))
        return list(self.theirs.events())

    def close(self) -> None:
        self.client.close()
        self.ours.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = Ends()
    yield pair
    pair.close()


def test_the_connection_is_what_simple_websocket_hands_over() -> None:
    handed = WSConnection(ConnectionType.SERVER)
    assert all(hasattr(handed, name) for name in ("send", "receive_data", "events"))


def test_messages_are_answered_in_their_order(ends: Ends) -> None:
    ends.say(TextMessage("one"), TextMessage("tw", message_finished=False), TextMessage("o"), BytesMessage(b"x"))
    ends.peer.receive()
    assert ends.said == ["one", "two", None]
    assert [event.data for event in ends.events()] == ["echo one", "echo two", "echo None"]  # type: ignore[attr-defined]


def test_a_ping_is_answered_and_one_of_ours_finds_who_is_gone(ends: Ends) -> None:
    ends.say(Ping(b"7"))
    ends.peer.receive()
    assert ends.events() == [Pong(b"7")]
    ends.peer.ping()
    ends.say(Pong())
    ends.peer.receive()
    ends.peer.ping()
    with pytest.raises(PeerGoneError):
        ends.peer.ping()


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_message_that_is_too_big_ends_the_conversation(ends: Ends, pieces: int) -> None:
    ends.say(*[TextMessage("é" * (600 // pieces), message_finished=pieces == 1)] * pieces)
    ends.client.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerGoneError):
        ends.peer.receive()
    (goodbye,) = ends.events()
    assert isinstance(goodbye, CloseConnection)
    assert goodbye.code == CloseReason.MESSAGE_TOO_BIG
    assert ends.said == []


def test_a_message_of_endless_empty_pieces_takes_no_memory(ends: Ends) -> None:
    ends.say(TextMessage("a", message_finished=False), *[TextMessage("", message_finished=False)] * 5000)
    ends.peer.receive()
    assert len(ends.peer._parts) == 1
    ends.say(TextMessage("b"))
    ends.peer.receive()
    assert ends.said == ["ab"]


@pytest.mark.parametrize(("frame", "code"), [(b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\x81\x02hi", 1002)])
def test_who_does_not_speak_the_protocol_gets_a_close_code(ends: Ends, frame: bytes, code: int) -> None:
    ends.client.sendall(frame)
    ends.client.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerGoneError):
        ends.peer.receive()
    (goodbye,) = ends.events()
    assert isinstance(goodbye, CloseConnection)
    assert goodbye.code == code


def test_a_goodbye_is_returned(ends: Ends) -> None:
    ends.say(CloseConnection(1000, "enough"))
    with pytest.raises(PeerGoneError):
        ends.peer.receive()
    assert ends.events() == [CloseConnection(1000, "enough")]


def test_a_client_that_hung_up_is_gone(ends: Ends) -> None:
    ends.client.close()
    with pytest.raises(PeerGoneError):
        ends.peer.receive()


def test_messages_of_a_client_that_reads_nothing_are_taken_all_the_same(ends: Ends) -> None:
    sending = threading.Thread(target=ends.peer.send, args=["x" * 5_000_000])
    sending.start()
    ends.say(TextMessage("stop"))
    wait_until(lambda: ends.said == ["stop"], what="the message to be taken")
    assert sending.is_alive()
    got = b""
    while len(got) < 5_000_000:
        got += ends.client.recv(1_000_000)
    sending.join(5)
    assert not sending.is_alive()


def test_a_client_that_reads_nothing_does_not_make_us_keep_its_answers(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_MAX_REPLY_BYTES", 500)

    def serve() -> None:
        ends.peer.send("x" * 2_000_000)
        while len(ends.said) < 2000:
            ends.peer.receive()

    serving = threading.Thread(target=serve)
    flooding = threading.Thread(target=ends.say, args=[TextMessage("y" * 900)] * 2000)
    serving.start()
    flooding.start()
    wait_until(lambda: ends.said, what="the first messages to be taken")
    flooding.join(0.5)
    assert len(ends.said) < 200
    assert flooding.is_alive()
    ends.client.settimeout(0.1)
    while serving.is_alive():
        try:
            ends.client.recv(1_000_000)
        except TimeoutError:
            continue
    flooding.join(5)
    assert not flooding.is_alive()


def test_a_client_that_reads_nothing_for_too_long_is_gone(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "STALL_SECONDS", 0.05)
    with pytest.raises(PeerGoneError):
        ends.peer.send("x" * 5_000_000)


def test_a_server_that_stops_waits_for_no_slow_client(ends: Ends) -> None:
    ends.stopping = True
    with pytest.raises(PeerGoneError):
        ends.peer.send("x" * 5_000_000)

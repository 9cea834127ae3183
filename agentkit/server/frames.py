"""One WebSocket as its thread sees it: frames out, messages in, pings, and a proper end (RFC 6455).

The bytes are wsproto's; the socket is the web server's, as simple-websocket found it. simple-websocket's own pump is
not used: it takes a second thread per socket, keeps what comes in without bound, and loses bytes where a non-blocking
send takes only part of them. This knows nothing of runs.

All of it runs in one thread. While a send waits for a slow client, what that client says is still heard.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable

from wsproto import WSConnection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

__all__ = ["STALL_SECONDS", "CloseReason", "Gone", "Peer"]

_CHUNK = 65_536
_READS = 16
"""How much is read at a time before the run's events have their turn again."""
_MAX_OUT = 1_000_000
"""A client that this much of answers waits for is not listened to until it has read them."""
STALL_SECONDS = 30.0
"""How long a client may read nothing while something waits for it."""
_LINGER_SECONDS = 2.0
_WAIT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Gone(Exception):
    """The conversation is over, whoever ended it."""


class Peer:
    """The other side of an accepted WebSocket.

    `on_message` gets each text message, or None for a binary one, and returns the answer. `max_bytes`: the largest
    message. `stopping`: whether the server wants to end. Every method may raise `Gone`.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: WSConnection,
        on_message: Callable[[str | None], str],
        *,
        max_bytes: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._on_message = on_message
        self._max_bytes = max_bytes
        self._stopping = stopping
        self._out = bytearray()
        self._answers = 0
        self._parts: list[str] = []
        self._size = 0
        self._heard = True
        sock.setblocking(False)

    def send(self, text: str) -> None:
        """Send a text message; returns when the system has taken it."""
        self._say(TextMessage(data=text))
        self.flush()

    def ping(self) -> None:
        """Ask whether the client is there; it is gone where it has said nothing since the last time."""
        if not self._heard:
            raise Gone
        self._heard = False
        self._say(Ping())
        self.flush()

    def hear(self) -> None:
        """Take in what has come, without waiting for more, and answer it."""
        self._listen()
        self.flush()

    def flush(self) -> None:
        """Write what waits, listening meanwhile. A client that reads nothing for too long is gone."""
        deadline = time.monotonic() + STALL_SECONDS
        while self._out:
            try:
                sent = self._sock.send(self._out[:_CHUNK])
            except _WAIT:
                sent = 0
            except OSError as error:
                raise Gone from error
            if sent:
                del self._out[:sent]
                deadline = time.monotonic() + STALL_SECONDS
            elif time.monotonic() > deadline or self._stopping():
                raise Gone
            elif self._wait(select.POLLOUT | select.POLLIN if self._listens else select.POLLOUT):
                self._listen()
        self._answers = 0

    def close(self, code: CloseReason, reason: str = "") -> None:
        """Say goodbye, and wait a moment for the answer: closing at once could take our last words along."""
        self._say(CloseConnection(code, reason))
        self.flush()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Gone from error
        deadline = time.monotonic() + _LINGER_SECONDS
        while time.monotonic() < deadline:
            if self._wait(select.POLLIN):
                try:
                    if not self._sock.recv(_CHUNK):
                        return
                except _WAIT:
                    continue
                except OSError:
                    return

    # -- inside

    @property
    def _listens(self) -> bool:
        return self._answers < _MAX_OUT

    def _say(self, event: TextMessage | Ping | Pong | CloseConnection) -> None:
        try:
            self._out += self._protocol.send(event)
        except LocalProtocolError as error:  # it is closed already
            raise Gone from error

    def _reply(self, event: TextMessage | Pong) -> None:
        before = len(self._out)
        self._say(event)
        self._answers += len(self._out) - before

    def _wait(self, events: int) -> bool:
        """Wait up to a second for the socket; whether there is something to read."""
        poll = select.poll()
        poll.register(self._sock.fileno(), events)
        return any(ready & ~select.POLLOUT for _, ready in poll.poll(1000))

    def _listen(self) -> None:
        for _ in range(_READS):
            if not self._listens:
                return
            try:
                data = self._sock.recv(_CHUNK)
            except _WAIT:
                return
            except OSError as error:
                raise Gone from error
            if not data:
                raise Gone
            self._heard = True
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    self._take(event)
            except RemoteProtocolError as error:  # it does not speak the protocol, or says text that is not UTF-8
                hint = error.event_hint
                code = hint.code if isinstance(hint, CloseConnection) else CloseReason.PROTOCOL_ERROR
                self._end(CloseReason(code), str(error))

    def _take(self, event: object) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            text = event.data if isinstance(event, TextMessage) else ""
            self._size += len(text.encode()) if isinstance(event, TextMessage) else len(event.data)
            if self._size > self._max_bytes:
                self._end(CloseReason.MESSAGE_TOO_BIG, f"a message may have {self._max_bytes} bytes")
            if text:  # a message may have any number of empty pieces
                self._parts.append(text)
            if event.message_finished:
                whole = "".join(self._parts) if isinstance(event, TextMessage) else None
                self._parts, self._size = [], 0
                self._reply(TextMessage(data=self._on_message(whole)))
        elif isinstance(event, Ping):
            self._reply(event.response())
        elif isinstance(event, CloseConnection):
            self._say(event.response())
            self.flush()
            raise Gone

    def _end(self, code: CloseReason, reason: str) -> None:
        self.close(code, reason[:100])
        raise Gone

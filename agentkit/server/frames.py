"""One WebSocket as its thread sees it: frames out, messages in, pings, and a proper end (RFC 6455).

The bytes are wsproto's; the socket is the web server's, as simple-websocket found it. simple-websocket's own pump is
not used: it takes a second thread per socket, keeps what comes in without bound, and loses bytes where a non-blocking
send takes only part of them. This module knows nothing of runs.

All of it runs in one thread. While a send waits for a slow client, that client's messages are still read.
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

__all__ = ["STALL_SECONDS", "CloseReason", "Peer", "PeerGoneError"]

_CHUNK_BYTES = 65_536
_READS_PER_TURN = 16
"""Reads in a row before the run's events are sent again."""
_MAX_REPLY_BYTES = 1_000_000
"""A client with so many bytes of unread replies is not read from until it has read them."""
STALL_SECONDS = 30.0
"""Seconds for which a client may read nothing while something waits to be sent to it."""
_LINGER_SECONDS = 2.0
_WAIT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PeerGoneError(Exception):
    """The WebSocket is closed, by either side."""


class Peer:
    """The other side of an accepted WebSocket.

    `on_message` gets each text message, or None for a binary one, and returns the reply. `max_bytes`: the largest
    message. `stopping`: whether the server is stopping. Every method may raise `PeerGoneError`.
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
        self._reply_bytes = 0
        self._parts: list[str] = []
        self._size = 0
        self._has_answered = True
        sock.setblocking(False)

    def send(self, text: str) -> None:
        """Send a text message; return when the operating system has taken it."""
        self._queue(TextMessage(data=text))
        self.flush()

    def ping(self) -> None:
        """Send a ping. Raises PeerGoneError where the client has sent nothing since the ping before."""
        if not self._has_answered:
            raise PeerGoneError
        self._has_answered = False
        self._queue(Ping())
        self.flush()

    def receive(self) -> None:
        """Read what has arrived, without waiting for more, and reply to it."""
        self._read()
        self.flush()

    def flush(self) -> None:
        """Send what is buffered, and read meanwhile.

        Raises PeerGoneError where the client reads nothing for STALL_SECONDS, or the server is stopping.
        """
        deadline = time.monotonic() + STALL_SECONDS
        while self._out:
            try:
                sent = self._sock.send(self._out[:_CHUNK_BYTES])
            except _WAIT:
                sent = 0
            except OSError as error:
                raise PeerGoneError from error
            if sent:
                del self._out[:sent]
                deadline = time.monotonic() + STALL_SECONDS
            elif time.monotonic() > deadline or self._stopping():
                raise PeerGoneError
            elif self._wait(select.POLLOUT | select.POLLIN if self._may_read else select.POLLOUT):
                self._read()
        self._reply_bytes = 0

    def close(self, code: CloseReason, reason: str = "") -> None:
        """Send a close frame, and wait up to two seconds for the client's.

        Closing the socket at once could drop what was sent last.
        """
        self._queue(CloseConnection(code, reason))
        self.flush()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerGoneError from error
        deadline = time.monotonic() + _LINGER_SECONDS
        while time.monotonic() < deadline:
            if self._wait(select.POLLIN):
                try:
                    if not self._sock.recv(_CHUNK_BYTES):
                        return
                except _WAIT:
                    continue
                except OSError:
                    return

    # -- inside

    @property
    def _may_read(self) -> bool:
        return self._reply_bytes < _MAX_REPLY_BYTES

    def _queue(self, event: TextMessage | Ping | Pong | CloseConnection) -> None:
        try:
            self._out += self._protocol.send(event)
        except LocalProtocolError as error:  # it is closed already
            raise PeerGoneError from error

    def _reply(self, event: TextMessage | Pong) -> None:
        before = len(self._out)
        self._queue(event)
        self._reply_bytes += len(self._out) - before

    def _wait(self, events: int) -> bool:
        """Wait up to a second for the socket; return whether there is something to read."""
        poll = select.poll()
        poll.register(self._sock.fileno(), events)
        return any(ready & ~select.POLLOUT for _, ready in poll.poll(1000))

    def _read(self) -> None:
        for _ in range(_READS_PER_TURN):
            if not self._may_read:
                return
            try:
                data = self._sock.recv(_CHUNK_BYTES)
            except _WAIT:
                return
            except OSError as error:
                raise PeerGoneError from error
            if not data:
                raise PeerGoneError
            self._has_answered = True
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    self._handle(event)
            except RemoteProtocolError as error:  # a breach of the protocol, or text that is not UTF-8
                hint = error.event_hint
                code = hint.code if isinstance(hint, CloseConnection) else CloseReason.PROTOCOL_ERROR
                self._fail(CloseReason(code), str(error))

    def _handle(self, event: object) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            text = event.data if isinstance(event, TextMessage) else ""
            self._size += len(text.encode()) if isinstance(event, TextMessage) else len(event.data)
            if self._size > self._max_bytes:
                self._fail(CloseReason.MESSAGE_TOO_BIG, f"a message may have at most {self._max_bytes} bytes")
            if text:  # a message may have any number of empty pieces
                self._parts.append(text)
            if event.message_finished:
                whole = "".join(self._parts) if isinstance(event, TextMessage) else None
                self._parts, self._size = [], 0
                self._reply(TextMessage(data=self._on_message(whole)))
        elif isinstance(event, Ping):
            self._reply(event.response())
        elif isinstance(event, CloseConnection):
            self._queue(event.response())
            self.flush()
            raise PeerGoneError

    def _fail(self, code: CloseReason, reason: str) -> None:
        self.close(code, reason[:100])
        raise PeerGoneError

"""The client's end of a WebSocket to a WSGI application of this process, without a web server."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from werkzeug.test import EnvironBuilder
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

__all__ = ["HANDSHAKE", "SocketClient"]


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
"""The headers that ask for a WebSocket."""


class SocketClient:
    """A WebSocket at `path` of `app`, which a thread serves as a web server's would, with the server's socket in it.

    `key`: under which name the WSGI environment has the socket, as that of gunicorn or of werkzeug.
    """

    def __init__(
        self, app: Any, path: str, headers: dict[str, str] | None = None, key: str = "gunicorn.socket"
    ) -> None:
        self._socket, self._servers = socket.socketpair()
        self._socket.settimeout(10)
        environ = EnvironBuilder(path, headers={**HANDSHAKE, **(headers or {})}).get_environ()
        self._environ = {**environ, key: self._servers}
        self._app = app
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._protocol = Connection(ConnectionType.CLIENT)
        self._frames: list[Any] = []
        self.close_code: int | None = None

    def _serve(self) -> None:
        """Do what gunicorn's thread does."""
        try:
            body = self._app(self._environ, lambda status, headers: None)
            try:
                for _ in body:
                    raise AssertionError("a WebSocket has no body")
            finally:
                body.close()
        except StopIteration:
            pass
        finally:
            self._servers.close()

    def send(self, **frame: Any) -> None:
        self._socket.sendall(self._protocol.send(TextMessage(data=json.dumps(frame))))

    def read(self, until: str) -> list[dict[str, Any]]:
        """The frames up to and with the first of type `until`; up to the end for "close"."""
        found: list[dict[str, Any]] = []
        while True:
            while self._frames:
                found.append(self._frames.pop(0))
                if found[-1]["type"] == until:
                    return found
            if self.close_code is not None:
                assert until == "close", found
                return found
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        assert data, "the connection was closed without a close frame"
        self._protocol.receive_data(data)
        text = ""
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    self._frames.append(json.loads(text))
                    text = ""
            elif isinstance(event, CloseConnection):
                self.close_code = event.code

    def close(self) -> None:
        """Hang up, and wait until the server's thread has noticed."""
        self._socket.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server's thread goes on"

"""A line between a client and a server on the loopback that can be lost without either of them noticing."""

from __future__ import annotations

import contextlib
import socket
import threading

__all__ = ["Relay"]


class Relay:
    """Passes bytes on between those who connect to `port` and the server on `upstream`."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lost = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Relay:
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in [self._listener, *self._sockets]:
            each.close()

    def lose_connections(self) -> None:
        """From here on, nothing passes on the connections that there are; those to come work."""
        lost, self._lost = self._lost, threading.Event()
        lost.set()

    def _run(self, do: object, *args: object) -> None:
        thread = threading.Thread(target=do, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [near, far]
                self._run(self._pass_on, near, far, self._lost)
                self._run(self._pass_on, far, near, self._lost)

    def _pass_on(self, source: socket.socket, buffer: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not lost.is_set():
                    buffer.sendall(data)
            if not lost.is_set():
                buffer.shutdown(socket.SHUT_WR)

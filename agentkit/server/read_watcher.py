"""Watches sockets for something to read, on behalf of threads that wait for something else.

A WebSocket's thread sleeps until its run has new events. One more thread per process, for all sockets together, wakes
it when its client has sent something. It reads nothing itself.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable

__all__ = ["ReadWatcher"]


class ReadWatcher:
    """One thread that watches any number of sockets. Made on first use, once per process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name="agentkit-read-watcher", daemon=True).start()

    def watch(self, sock: socket.socket, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` once, as soon as there is something to read or the other side has closed."""
        with self._lock:
            self._selector.register(sock, selectors.EVENT_READ, on_readable)
        try:
            self._wake_sender.send(b"!")  # not every selector notices a new socket while it waits
        except BlockingIOError:
            pass  # enough wake-ups are waiting there already

    def forget(self, sock: socket.socket) -> None:
        """Stop watching a socket; call it before the socket is closed. Does nothing where it is not watched."""
        with self._lock:
            try:
                self._selector.unregister(sock)
            except (KeyError, ValueError):
                pass

    def _watch(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake_receiver:
                    self._wake_receiver.recv(4096)
                    continue
                with self._lock:
                    current = self._selector.get_map().get(key.fd)
                    if current is None or current.data is not key.data:
                        continue  # forgotten meanwhile; the descriptor may be another socket's by now
                    self._selector.unregister(key.fd)
                key.data()

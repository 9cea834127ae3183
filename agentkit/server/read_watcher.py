"""Says when a socket has something to read, to threads that wait for something else.

A WebSocket's thread sleeps until its run has news. One more thread per process, for all sockets together, wakes it
when its client speaks. It reads nothing itself.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable

__all__ = ["ReadWatcher"]


class ReadWatcher:
    """Made on first use, once per process, by whoever serves a WebSocket."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        self._selector.register(self._here, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name="agentkit-read_watcher", daemon=True).start()

    def watch(self, sock: socket.socket, ring: Callable[[], None]) -> None:
        """Call `ring` once, as soon as there is something to read or the other side has gone."""
        with self._lock:
            self._selector.register(sock, selectors.EVENT_READ, ring)
        try:
            self._there.send(b"!")  # not every selector hears of it while it waits
        except BlockingIOError:
            pass  # it is full of such news

    def forget(self, sock: socket.socket) -> None:
        """To be called before the socket is closed. Does nothing where it is not watched."""
        with self._lock:
            try:
                self._selector.unregister(sock)
            except (KeyError, ValueError):
                pass

    def _watch(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._here:
                    self._here.recv(4096)
                    continue
                with self._lock:
                    current = self._selector.get_map().get(key.fd)
                    if current is None or current.data is not key.data:
                        continue  # forgotten meanwhile, and perhaps another's by now
                    self._selector.unregister(key.fd)
                key.data()

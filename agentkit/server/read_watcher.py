"""Watches sockets for something to read, on behalf of threads that wait for something else.

A WebSocket's thread sleeps until its run has new events. One more thread per process, for all sockets together, wakes
it when its client has sent something. It reads nothing itself.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["ReadWatcher"]

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1


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
            if sock.fileno() in self._selector.get_map():  # that of a socket which was closed and not forgotten
                self._selector.unregister(sock)
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
            except (KeyError, ValueError, OSError):
                pass

    def _watch(self) -> None:
        while True:
            try:
                readable = self._selector.select()
            except Exception:
                log.exception("sockets could not be watched, which is tried again")
                self._wake_all()
                time.sleep(_PAUSE_SECONDS)
                continue
            for key, _ in readable:
                try:
                    self._wake(key)
                except Exception:
                    log.exception("what waits for a socket could not be woken")

    def _wake(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._wake_receiver:
            self._wake_receiver.recv(4096)
            return
        with self._lock:
            current = self._selector.get_map().get(key.fd)
            if current is None or current.data is not key.data:
                return  # forgotten meanwhile; the descriptor may be another socket's by now
            self._selector.unregister(key.fd)
        key.data()

    def _wake_all(self) -> None:
        """Have everybody look at their sockets: one of them may be what cannot be watched, and is not watched again."""
        with self._lock:
            keys = list(self._selector.get_map().values())
        for key in keys:
            if key.fileobj is self._wake_receiver:
                continue
            try:
                self._wake(key)
            except Exception:
                log.exception("what waits for a socket could not be woken")

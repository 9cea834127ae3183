"""Asks a worker's steps to stop, also those in the processes of its pool.

A signal handler asks, which must take no lock and start no thread, and on a prefork pool it runs in the
parent, whose children get no signal. So it is one byte of memory that they share, which the keeper of
leases reads with each heartbeat. A pool that spawns its processes instead shares nothing: its steps are finished.

Whatever else a worker forks, such as the processes that a tool starts, has a byte of its own: it neither stops with the
worker nor stops it.
"""

from __future__ import annotations

import mmap
import os
import time

__all__ = ["Shutdown", "StopFlag"]

_POLL_SECONDS = 0.05

_SOON, _AT_ONCE = 1, 2


class Shutdown:
    """Set once, never unset. Of one process, and of those of its pool, each of which calls `join`."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)
        self._pid = os.getpid()

    def join(self) -> None:
        """Share what the process has that this one was forked from. Before anything else is asked here."""
        self._pid = os.getpid()

    def request(self, *, at_once: bool = False) -> None:
        """The worker is to stop: model calls may end within the grace, or not even that."""
        byte = self._byte()
        byte[0] = max(byte[0], _AT_ONCE if at_once else _SOON)

    @property
    def requested(self) -> bool:
        return self._byte()[0] >= _SOON

    @property
    def at_once(self) -> bool:
        return self._byte()[0] == _AT_ONCE

    def _byte(self) -> mmap.mmap:
        if self._pid != os.getpid():
            self._shared, self._pid = mmap.mmap(-1, 1), os.getpid()
        return self._shared


class StopFlag:
    """Set once by a signal handler, and waited for by threads.

    It has no lock, unlike an Event: a second signal inside the handler of the first would wait for it for ever.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until it is set, or for `seconds`; whether it is set."""
        ends = None if seconds is None else time.monotonic() + seconds
        while not self._set:
            left = _POLL_SECONDS if ends is None else ends - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, _POLL_SECONDS))
        return self._set

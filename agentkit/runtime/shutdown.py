"""Asks a worker's steps to stop, also those in the processes that it has forked.

A signal handler asks, which must take no lock and start no thread, and on a prefork pool it runs in the
parent, whose children get no signal. So it is one byte of memory that they share, which the keeper of
leases reads with each heartbeat. A pool that spawns its processes instead shares nothing: its steps are finished.
"""

from __future__ import annotations

import mmap

__all__ = ["Shutdown"]

_SOON, _AT_ONCE = 1, 2


class Shutdown:
    """Set once, never unset. Processes that are forked after it was made share it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def request(self, *, at_once: bool = False) -> None:
        """The worker is to stop: model calls may end within the grace, or not even that."""
        self._shared[0] = max(self._shared[0], _AT_ONCE if at_once else _SOON)

    @property
    def requested(self) -> bool:
        return self._shared[0] >= _SOON

    @property
    def at_once(self) -> bool:
        return self._shared[0] == _AT_ONCE

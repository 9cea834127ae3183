"""Locks for what may exist before a process forks, such as a prefork pool or a preloaded web server.

A lock that another thread holds at the fork would stay held in the child, for ever. One of these is free there.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

__all__ = ["ForkSafeLock"]


class ForkSafeLock:
    """A lock, taken by `with`, that is free in a child which was forked while another thread held it.

    Nothing outlives its use: what is registered for the fork is known weakly. `reentrant`: whether the thread that
    holds it may take it again.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._reentrant = reentrant
        self._lock: threading.Lock | threading.RLock
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.RLock() if self._reentrant else threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:  # `suppress` costs more than the lock, and a step takes ten
            self._lock.release()
        except RuntimeError:
            pass  # in a child that this very thread has forked meanwhile, it is free already


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_after_fork)

"""One asyncio event loop per process, in a thread of its own.

`async def` tools and the HTTP of providers run on it. One loop for the whole process, not
`asyncio.run` per call: that fails under gevent, where all greenlets share a thread, and it would
tear down pooled connections after each call. The loop is made on first use, so after a fork.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["event_loop", "submit"]

T = TypeVar("T")

_lock = threading.Lock()
_owner: int | None = None
_loop: asyncio.AbstractEventLoop | None = None


def _after_fork() -> None:
    """A lock that another thread held at the fork would stay held in the child."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def event_loop() -> asyncio.AbstractEventLoop:
    """This process's event loop, running."""
    global _owner, _loop
    with _lock:
        if _loop is None or _owner != os.getpid():
            _loop = asyncio.new_event_loop()
            _owner = os.getpid()
            threading.Thread(target=_loop.run_forever, name="agentkit-aio", daemon=True).start()
        return _loop


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `coroutine` on the process's loop. Cancelling the future cancels the coroutine."""
    return asyncio.run_coroutine_threadsafe(coroutine, event_loop())

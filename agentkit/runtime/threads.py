"""A bounded pool of threads in which an event loop has blocking calls done: the store's, and those of WSGI routes.

One per process. Nobody in it waits for another call in it, so it cannot lock up; and nothing that lasts is done in it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from agentkit.core.forks import ForkSafeLock

__all__ = ["MAX_THREADS", "in_thread"]

T = TypeVar("T")

MAX_THREADS = 40
"""As many as Starlette runs its sync routes in."""

_lock = ForkSafeLock()
_pool: tuple[int, ThreadPoolExecutor] | None = None
"""The pid of the process that made the pool, and the pool: threads do not survive a fork."""


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """Call a function in a thread, with the context variables of this task; return what it returns.

    A task that is cancelled meanwhile does not wait for it.
    """
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_executor(), partial(context.run, call, *args))


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool[0] != os.getpid():
            _pool = os.getpid(), ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="agentkit-web")
        return _pool[1]

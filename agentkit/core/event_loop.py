"""Asyncio event loops, each in a thread of its own and one per process.

One loop for the whole process, not `asyncio.run` per call: that fails under gevent, where all greenlets share a thread,
and it would tear down pooled connections after each call. A loop is made on first use, so after a fork. The loop of
this module is that of the providers' HTTP; tools have another (`runtime.tool_loop`), since one of them may block it.
Under gevent the two are one: greenlets share a thread, in which asyncio runs one loop at a time, and a tool that blocks
blocks all of them anyway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from agentkit.core.forks import ForkSafeLock

new_fast_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as new_fast_loop
except ImportError:  # the extra [fast]; there is none for Windows
    new_fast_loop = asyncio.new_event_loop

__all__ = ["EventLoop", "answers", "event_loop", "models_loop", "submit"]

T = TypeVar("T")

log = logging.getLogger(__name__)


class EventLoop:
    """A loop that runs in a thread named `name`, whatever is raised in it.

    `under_gevent`: the loop that takes its place where threads are greenlets; None for itself. `fast`: it is uvloop's
    where that is installed and threads are threads: it waits in C, where gevent could run nothing else.
    """

    def __init__(self, name: str, under_gevent: EventLoop | None = None, *, fast: bool = False) -> None:
        self._name = name
        self._fast = fast
        self._under_gevent = under_gevent
        self._lock = ForkSafeLock()
        self._owner: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return this process's loop, running."""
        if self._under_gevent is not None and _threads_are_greenlets():
            return self._under_gevent.get()
        with self._lock:
            if self._loop is None or self._owner != os.getpid():
                self._loop = self._new_loop()
                self._owner = os.getpid()
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` on the loop, in the caller's context. Cancelling the future cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.get())

    def answers(self, seconds: float = 2.0) -> bool:
        """Whether the loop, where this process has begun it, does anything within some seconds."""
        if self._under_gevent is not None and _threads_are_greenlets():
            return self._under_gevent.answers(seconds)
        loop = self._loop
        if loop is None or self._owner != os.getpid():
            return True
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # it is closed
            return False
        return answered.wait(seconds)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        if self._fast and not _threads_are_greenlets():
            return new_fast_loop()
        return asyncio.new_event_loop()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not loop.is_closed():
            try:
                loop.run_forever()
            except BaseException:  # asyncio passes SystemExit and KeyboardInterrupt on, and would end for all
                log.exception("something on the event loop %s tried to end its process; the loop goes on", self._name)


def _threads_are_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


models_loop = EventLoop("agentkit-aio", fast=True)
event_loop = models_loop.get
submit = models_loop.submit
answers = models_loop.answers

"""The threads of `def` tools: used again, and as many as there are tools at work.

A step's own thread waits for its tool, so the worker's concurrency bounds them. What outlives its step (its `timeout`,
an abort) keeps its thread until it returns, and a new one takes that one's place: it takes no thread from others.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from agentkit.core.forks import ForkSafeLock

__all__ = ["run_in_tool_thread"]

IDLE_SECONDS = 30.0
"""How long a thread waits for another tool before it ends."""

_Job = tuple[str, Callable[[], None]]

_lock = ForkSafeLock()
_idle: list[_ToolThread] = []
_owner = 0


def run_in_tool_thread(name: str, function: Callable[[], None]) -> None:
    """Call `function` in a thread, named `name` meanwhile, with the context variables of the caller."""
    global _owner
    context = contextvars.copy_context()
    job = (name, lambda: context.run(function))
    with _lock:
        if _owner != os.getpid():  # threads do not survive a fork
            _owner = os.getpid()
            _idle.clear()
        thread = _idle.pop() if _idle else None  # the one that was used last, so that others can end
    if thread is None:
        _ToolThread(job).start()
    else:
        thread.jobs.put(job)


class _ToolThread(threading.Thread):
    def __init__(self, job: _Job) -> None:
        super().__init__(name=job[0], daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.jobs.put(job)

    def run(self) -> None:
        while (job := self._next()) is not None:
            self.name, function = job
            function()
            del job, function  # they hold the run's state
            self.name = "tool-idle"
            with _lock:
                _idle.append(self)

    def _next(self) -> _Job | None:
        try:
            return self.jobs.get(timeout=IDLE_SECONDS)
        except Empty:
            with _lock:
                if self in _idle:
                    _idle.remove(self)
                    return None
            return self.jobs.get()  # it was chosen in this moment

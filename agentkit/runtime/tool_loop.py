"""The event loop of `async def` tools, and the watch over it: a tool that blocks it is named in the log.

Model streams have a loop of their own, so a tool that blocks holds up nothing but other `async def` tools.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from agentkit.core.event_loop import EventLoop, models_loop
from agentkit.core.forks import ForkSafeLock

__all__ = ["BLOCKED_SECONDS", "answers", "submit_tool"]

log = logging.getLogger(__name__)

BLOCKED_SECONDS = 1.0
"""How long the loop may do nothing else before a warning names the tool that blocks it."""
_PAUSE_SECONDS = 0.25

_loop = EventLoop("agentkit-tools", under_gevent=models_loop)
answers = _loop.answers
_lock = ForkSafeLock()
_running: dict[asyncio.Task[Any], str] = {}
"""The names of the tools that are executed on the loop, by the task of each."""
_watcher_pid = 0
_something_runs = threading.Event()
_loop_thread = 0


def submit_tool(name: str, execute: Callable[[], Awaitable[Any]]) -> Future[Callable[[], Any]]:
    """Execute an async tool on the loop, in the caller's context variables.

    The future's result returns what the tool returned, or raises what it raised: also what would end the loop.
    """
    _start_watcher()
    return _loop.submit(_outcome(name, execute))


async def _outcome(name: str, execute: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
    global _loop_thread
    task = asyncio.current_task()
    assert task is not None
    _loop_thread = threading.get_ident()
    _running[task] = name
    _something_runs.set()
    try:
        value = await execute()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # asyncio would end its loop for SystemExit and KeyboardInterrupt
        return _raiser(error)
    finally:
        del _running[task]
        if not _running:
            _something_runs.clear()
    return lambda: value


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def _start_watcher() -> None:
    global _watcher_pid, _something_runs
    with _lock:
        if _watcher_pid == os.getpid():
            return
        _watcher_pid = os.getpid()
        _running.clear()  # those of the process that this one was forked from
        _something_runs = threading.Event()
        threading.Thread(target=_watch, args=(_something_runs,), name="agentkit-tools-watch", daemon=True).start()


def _watch(something_runs: threading.Event) -> None:
    pause = threading.Event()
    while True:
        something_runs.wait()
        answered = threading.Event()
        _loop.get().call_soon_threadsafe(answered.set)
        if not answered.wait(BLOCKED_SECONDS):
            name, place = _blocking()
            log.warning(
                "the async tool %s has blocked the event loop of tools for over %g s, and other async tools wait: "
                "await in it what takes time, or declare it with def. It is at%s",
                name,
                BLOCKED_SECONDS,
                place,
            )
            answered.wait()
        pause.wait(_PAUSE_SECONDS)


def _blocking() -> tuple[str, str]:
    """Find the tool that is executing on the loop at the moment, and where."""
    task = asyncio.current_task(_loop.get())
    name = _running.get(task) if task is not None else None
    if name is None:  # a task or a callback that a tool has made
        name = " or ".join(sorted(set(_running.copy().values()))) or "(unknown)"
    frame = sys._current_frames().get(_loop_thread)
    if frame is None:
        return name, " a place that is not known"
    return name, "\n" + "".join(traceback.format_stack(frame)[-3:]).rstrip()

"""What a process that is forked in the midst of things can still do: prefork workers are made so."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit import Agent, AgentKit, ScriptedModel, providers, tasks, tool
from agentkit.core import event_loop, ids
from agentkit.core.forks import ForkSafeLock
from agentkit.core.metrics import HTTP_REQUESTS
from agentkit.runtime import tool_loop, tool_threads
from agentkit.runtime.metrics import Metrics
from agentkit.server import streams
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue
from tests.turns import call

KIT = AgentKit([Agent("a", ScriptedModel(["x"]))], store=MemoryStore(), queue=FakeQueue())
KIT.start("a", "first")
METRICS = Metrics(MemoryStore())


async def _nothing() -> str:
    return "done"


def _in_tool_thread() -> bool:
    done = threading.Event()
    tool_threads.run_in_tool_thread("t", done.set)
    return done.wait(5)


# What has a lock that a fork may find held, and something to do that takes this lock.
HOLDERS: dict[str, tuple[Any, Callable[[], object]]] = {
    "ids": (ids._lock, ids.new_id),
    "the event loop of models": (event_loop.models_loop._lock, lambda: event_loop.submit(_nothing()).result(5)),
    "the event loop of tools": (tool_loop._loop._lock, lambda: tool_loop.submit_tool("t", _nothing).result(5)),
    "the watch over tools": (tool_loop._lock, lambda: tool_loop.submit_tool("t", _nothing).result(5)),
    "threads of tools": (tool_threads._lock, _in_tool_thread),
    "providers": (providers._lock, lambda: providers.resolve("scripted:echo")),
    "a kit": (KIT._lock, lambda: KIT.start("a", "go")),
    "an engine": (KIT._engine._lock, lambda: KIT._engine.runner),
    "streams": (streams._lock, lambda: streams.StreamSlot(5).release()),
    "metrics": (METRICS._lock, lambda: METRICS.add(HTTP_REQUESTS, "GET", "200")),
    "a report of metrics": (METRICS._report_lock, METRICS.report),
}


def in_child(act: Callable[[], object]) -> bool:
    """Whether a forked process does `act` within some seconds, and without an error."""
    child = os.fork()
    if child == 0:
        done: list[object] = []
        worker = threading.Thread(target=lambda: done.append(act()), daemon=True)
        worker.start()
        worker.join(5)
        os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("name", HOLDERS)
def test_a_lock_that_another_thread_held_is_free_in_the_child(name: str) -> None:
    lock, act = HOLDERS[name]
    assert isinstance(lock, ForkSafeLock)
    with lock:
        assert in_child(act)


# What is made for a step, or by a process for itself: no fork comes between.
OF_ONE_PROCESS = {
    "core/cancellation.py",
    "core/forks.py",
    "runtime/event_buffer.py",
    "runtime/flusher.py",
    "runtime/hooked_tool.py",
    "runtime/hooks.py",
    "runtime/leases.py",
    "runtime/notifications.py",
    "runtime/reading.py",
    "runtime/side_by_side.py",
    "runtime/taps.py",
    "runtime/timer.py",
    "runtime/turn_taking.py",
    "server/read_watcher.py",
    "store/client.py",  # a pool makes another queue in a child
    "store/memory_index.py",
    "store/pubsub.py",
}


def test_whatever_may_exist_before_a_fork_has_locks_that_are_free_after_it() -> None:
    root = Path(agentkit.__file__).parent
    plain = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"threading\.(R?Lock|Condition)\(", path.read_text())
    }
    assert plain == OF_ONE_PROCESS


def test_a_lock_can_be_let_go_of_in_the_child_that_its_holder_forked() -> None:
    for lock in (ForkSafeLock(), ForkSafeLock(reentrant=True)):
        with lock:
            lock.renew()
        with lock:
            pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_kit_runs_in_memory_also_in_a_child_and_keeps_the_runs_that_there_were() -> None:
    @tool
    async def polite() -> str:
        """Wait a moment."""
        return "done"

    @tool
    def plain() -> str:
        """Do something."""
        return "done"

    kit = AgentKit([Agent("a", ScriptedModel([[call("polite"), call("plain", "2")], "ok"]), tools=[polite, plain])])
    before = kit.run("a", "x")

    def act() -> None:
        assert kit.get(before.id).status == "completed"
        assert kit.run("a", "again").status == "completed"

    assert in_child(act)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_signals_that_are_held_over_a_fork_pass_again_in_both_processes_also_where_two_workers_started() -> None:
    for _ in range(2):
        tasks._guard_forks()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = os.fork()
    if child == 0:
        os._exit(0 if signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before

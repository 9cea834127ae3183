"""How kits live: used by many threads at once, closed, and gone when nobody has them."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.runtime import timer
from agentkit.runtime.timer import Timer
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue
from tests.turns import call
from tests.waiting import wait_until


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@tool(decision={"type": "boolean"})
def ask(a: int) -> int:
    """Ask."""
    return a


def adding_kit() -> AgentKit:
    return AgentKit([Agent("a", ScriptedModel([[call("add", a=1)], "ok"]), tools=[add])])


@pytest.mark.parametrize("use", ["none", "start", "run"])
def test_a_kit_that_nobody_has_any_more_is_gone(use: str) -> None:
    references = []
    for _ in range(3):
        kit = AgentKit([Agent("a", ScriptedModel(["x"]))], store=MemoryStore(), queue=FakeQueue())
        if use == "start":
            kit.execute(kit.start("a", "x").id, 1)
        elif use == "run":
            kit.run("a", "x")
        references += [weakref.ref(kit), weakref.ref(kit._store)]
        del kit

    def gone() -> bool:
        gc.collect()
        return all(reference() is None for reference in references)

    wait_until(gone, timeout=60, what="the last heartbeat of the kits")


def test_a_timer_without_calls_ends_its_thread_and_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "IDLE_SECONDS", 0.01)
    own, called = Timer(), []
    for n in range(2):
        own.call_later(0, lambda n=n: called.append(n))
        wait_until(lambda n=n: called[-1:] == [n], what="the call")
        wait_until(lambda: not own._running, what="the end of the thread")


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_timer_goes_on_whatever_a_call_raises(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("x")

    own, reached = Timer(), threading.Event()
    own.call_later(0, fail)
    own.call_later(0, reached.set)
    assert reached.wait(5)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switching")
def test_threads_run_in_one_kit_at_once() -> None:
    kit, count = adding_kit(), 8
    outcomes: list[str] = []
    barrier = threading.Barrier(count)

    def go() -> None:
        barrier.wait()
        try:
            run = kit.run("a", "x")
            outcomes.append(kit.get(run.id).status)
        except Exception as error:
            outcomes.append(repr(error))

    threads = [threading.Thread(target=go) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert outcomes == ["completed"] * count


def test_what_a_thread_runs_is_executed_by_that_thread_and_answered_from_any() -> None:
    kit = AgentKit([Agent("a", ScriptedModel([[call("ask", a=1)], "ok"]), tools=[ask])])
    paused = []
    thread = threading.Thread(target=lambda: paused.append(kit.run("a", "x")))
    thread.start()
    thread.join(10)
    assert paused[0].status == "paused"
    assert kit.resume(paused[0].id, True).run.status == "completed"


def test_a_closed_kit_lets_go_of_the_store_that_it_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Watched(MemoryStore):
        def close(self) -> None:
            closed.append(self)
            super().close()

    monkeypatch.setattr("agentkit.kit.redis_store", lambda settings: Watched())
    with AgentKit([Agent("a", ScriptedModel(["x"]))], queue=FakeQueue()) as kit:
        first = kit.store
        kit.start("a", "x")
    assert closed == [first]
    assert kit.store is not first, "it connects again"

    passed_in = Watched()
    with AgentKit([Agent("a", ScriptedModel(["x"]))], store=passed_in, queue=FakeQueue()) as kit:
        kit.start("a", "x")
    assert closed == [first], "who made a store closes it"

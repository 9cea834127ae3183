"""A worker that is asked to stop: what it hands to others, what it ends, and what it does not begin."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit import ProviderError, RetryPolicy, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.core.messages import text_of_json as text_of
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.runtime.shutdown import Shutdown, StopFlag
from agentkit.tools import ToolContext
from tests.apps import App, Silent, in_background
from tests.event_rules import shape
from tests.turns import call
from tests.waiting import wait_until


class Slow:
    """A model that answers when it is let."""

    name = api = "slow"
    model = "m"

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        yield TextDelta("well, ")
        self.reached.set()
        assert self.go_on.wait(10)
        yield TextDelta("yes")
        yield Finish("stop", Usage.of())


class Waiting:
    """A model that asks to be left alone for a moment that is still waited."""

    name = api = "waiting"
    model = "m"

    def __init__(self) -> None:
        self.calls = 0

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.calls += 1
        yield TextDelta("I th")
        raise ProviderError("busy", retryable=True, status=429, retry_after=1.9)


def test_a_stopping_worker_hands_its_model_call_to_another() -> None:
    model = Silent()
    app = App(model=model, stop_grace_seconds=0.0)
    run_id = app.start()
    thread = in_background(lambda: app.execute_next())
    assert model.reached.wait(10)
    app.kit.stop()
    thread.join(5)
    assert app.queue.enqueued == [(run_id, 1)]
    assert app.check(run_id).status == "running"
    run = app.another_worker().work().check(run_id)
    assert (run.status, text_of(run.messages[-1])) == ("completed", "fresh")
    assert shape(app.log(run_id)).count("message_discard") == 1


def test_an_answer_that_ends_within_the_grace_is_kept() -> None:
    model = Slow()
    app = App(model=model, stop_grace_seconds=60, lease_seconds=0.09)
    run_id = app.start()
    thread = in_background(lambda: app.execute_next())
    assert model.reached.wait(10)
    app.kit.stop()
    first = app.store.load(run_id).live[1]
    wait_until(lambda: app.store.load(run_id).live[1] > first + 90, what="heartbeats after the stop")
    model.go_on.set()
    thread.join(5)
    assert app.check(run_id).status == "completed"
    assert "message_discard" not in shape(app.log(run_id))


@pytest.mark.parametrize("effects", ["idempotent", "once"])
def test_a_stopping_worker_passes_on_what_it_has_not_begun(effects: Any) -> None:
    done: list[int] = []

    @tool(effects=effects)
    def act(ctx: ToolContext) -> str:
        """Act."""
        done.append(ctx.attempt)
        return "done"

    app = App([call("act")], "all done", tools=[act])
    run_id = app.start()
    app.execute_next()
    before = app.log(run_id)
    app.kit.stop()
    due = list(app.queue.enqueued)
    app.execute_next()
    assert app.queue.enqueued == due
    assert app.log(run_id) == before
    assert app.another_worker().work().check(run_id).status == "completed"
    assert done == [1]


def test_a_worker_that_stops_between_two_tries_gives_the_wait_to_the_others() -> None:
    model = Waiting()
    policy = RetryPolicy(attempts=3, base=0.001, cap=0.001, deadline=10)
    app = App(model=model, retry=policy, stop_grace_seconds=60)
    run_id = app.start()
    thread = in_background(lambda: app.execute_next())
    wait_until(lambda: "model_retry" in shape(app.log(run_id)), what="the wait")
    app.kit.stop()
    thread.join(1.5)
    assert not thread.is_alive(), "it waited to the end"
    [step] = app.store.load(run_id).record.steps
    assert step.at is not None
    assert (step.tries, model.calls) == (1, 1)
    assert app.store.load(run_id).live == {}
    app.check(run_id)


@pytest.mark.parametrize("stopping", [True, False])
def test_a_pool_that_ends_what_it_executes_leaves_the_step_to_others_at_once_if_it_stops(stopping: bool) -> None:
    class Ended:
        name = api = "ended"
        model = "m"

        def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
            yield TextDelta("well")
            if stopping:
                app.kit.stop()
            raise SystemExit

    app = App(model=Ended())
    run_id = app.start()
    with pytest.raises(SystemExit):
        app.execute_next()
    assert app.queue.enqueued == ([(run_id, 1)] if stopping else [])
    assert bool(app.store.load(run_id).live) is not stopping


def in_a_fork(act: Callable[[], bool]) -> bool:
    """What `act` says in a forked process."""
    child = os.fork()
    if child == 0:
        os._exit(0 if act() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_an_urgent_stop_stays_urgent() -> None:
    stop = Shutdown()
    assert (stop.requested, stop.at_once) == (False, False)
    stop.request(at_once=True)
    stop.request()
    assert (stop.requested, stop.at_once) == (True, True)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_process_of_the_workers_pool_sees_its_stop_and_another_that_it_forked_does_not() -> None:
    app = App("hello")
    app.kit.stop()
    assert not in_a_fork(app.kit.runner.keeper.stopping), "whatever a tool forks is no part of the worker"
    assert in_a_fork(lambda: (app.kit.join_worker(), app.kit.runner.keeper.stopping())[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_what_a_tool_forks_does_not_stop_the_worker_that_it_was_forked_from() -> None:
    app = App("hello")
    assert in_a_fork(lambda: (app.kit.stop(at_once=True), True)[1])
    assert not app.kit.runner.keeper.stopping()


def test_a_stop_flag_wakes_who_waits() -> None:
    flag, woken = StopFlag(), threading.Event()
    assert not flag.wait(0)
    threading.Thread(target=lambda: flag.wait() and woken.set(), daemon=True).start()
    flag.set()
    assert woken.wait(5)
    assert flag.wait()


def test_a_workers_signal_handlers_take_no_lock() -> None:
    tree = ast.parse(Path(agentkit.__file__).parent.joinpath("tasks.py").read_text())
    made = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    assert not made & {"Event", "Lock", "RLock", "Condition"}
    kit = App("x").kit
    assert isinstance(kit.recovery()._stop, StopFlag)
    assert isinstance(kit.prober()._stop, StopFlag)

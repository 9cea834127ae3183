"""Executing steps: streaming, leases, tools that hang, aborts, poison."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit import events as ev
from agentkit.cancel import Cancellation
from agentkit.errors import LeaseLostError, ProviderError, StoreUnavailableError
from agentkit.messages import text_of
from agentkit.providers.base import Finish, ModelRequest, Part, TextDelta
from agentkit.record import Lease, StepKind
from agentkit.runtime.leases import Held, LeaseKeeper
from agentkit.runtime.sink import EventSink
from agentkit.runtime.ticker import Ticker
from agentkit.settings import Settings
from agentkit.store.base import Push, Store
from agentkit.store.memory import MemoryStore
from agentkit.tools import ToolContext
from tests.event_rules import check_log, shape
from tests.store_contract import claimed, new_run
from tests.waiting import wait_until

YES = {"approved": True}


class FakeNudger:
    """Keeps what it was told; delivers on request, as often as one likes."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def nudge(self, run_id: str, step: int, kind: StepKind) -> None:
        self.told.append((run_id, step))

    def push(self, run_id: str, step: int, kind: StepKind) -> Push | None:
        return None

    def reachable(self) -> bool:
        return True


class App:
    """A kit whose nudges are delivered by hand."""

    def __init__(self, *turns: Any, tools: Any = (), model: Any = None, **settings: Any) -> None:
        self.store = MemoryStore()
        self.nudger = FakeNudger()
        self.agent = Agent("a", model or ScriptedModel(list(turns), chunk_size=3), tools=tools)
        settings = {"flush_seconds": 0.0, **settings}
        self.kit = AgentKit([self.agent], settings=Settings(**settings), store=self.store, nudger=self.nudger)

    def start(self) -> str:
        return self.kit.start("a", "go").id

    def work(self) -> App:
        """Deliver nudges until there are none."""
        while self.nudger.told:
            self.kit.execute(*self.nudger.told.pop(0))
        return self

    def log(self, run_id: str) -> list[Any]:
        return [json.loads(e.data) for e in self.store.events(run_id, 0, 10_000).events]

    def check(self, run_id: str) -> Any:
        run = self.kit.get(run_id)
        check_log(self.log(run_id), run.messages or [], run.status)
        return run


def in_background(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class Silent:
    """A model that says a word and then nothing, until it is cancelled."""

    name = api = "silent"
    model = "m"

    def __init__(self) -> None:
        self.reached = threading.Event()

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        yield TextDelta("well")
        self.reached.set()
        cancel.wait(30)


class Failing:
    name = api = "failing"
    model = "m"

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        yield TextDelta("I th")
        raise ProviderError("overloaded", status=529)


# -- whole runs ------------------------------------------------------------------------------------


def test_a_run_with_tools_and_a_decision_is_executed_step_by_step() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @tool(decision={"type": "object", "required": ["approved"]})
    async def refund(cents: int, decision: Any, ctx: ToolContext) -> str:
        """Refund."""
        return f"{cents} {decision['approved']} {ctx.attempt} {ctx.metadata}"

    turns = [
        [{"type": "toolCall", "name": "add", "arguments": {"a": 1, "b": 2}}],
        [{"type": "toolCall", "name": "refund", "arguments": {"cents": 5}}],
        "done",
    ]
    app = App(*turns, tools=[add, refund])
    run_id = app.start()
    app.work()
    assert app.check(run_id).status == "paused"
    app.kit.resume(run_id, YES)
    run = app.work().check(run_id)
    assert run.status == "completed"
    results = [text_of(m) for m in run.messages if m["role"] == "toolResult"]
    assert results == ["3", "5 True 1 {}"]


def test_nudges_that_come_twice_or_late_do_nothing() -> None:
    app = App("hello")
    run_id = app.start()
    nudge = app.nudger.told[0]
    app.work()
    before = app.log(run_id)
    app.kit.execute(*nudge)
    app.kit.execute(run_id, 99)
    app.kit.execute("no-such-run", 1)
    assert app.log(run_id) == before


def test_a_model_that_fails_ends_its_run_with_what_it_said() -> None:
    app = App(model=Failing())
    run = app.check(app_run(app))
    assert (run.status, run.error) == ("failed", {"code": "provider_error", "message": "overloaded"})
    assert text_of(run.messages[-1]) == "I th"
    assert run.messages[-1]["errorMessage"] == "overloaded"


def app_run(app: App) -> str:
    run_id = app.start()
    app.work()
    return run_id


# -- streaming -------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.appends: list[list[Any]] = []
        self.down = 0

    def append(self, lease: Lease, events: Any, flush: int) -> int:
        if self.down:
            self.down -= 1
            raise StoreUnavailableError
        self.appends.append(list(events))
        return super().append(lease, events, flush)


def delta(text: str, at: int = 0) -> Any:
    return ev.message_update({"type": "text_delta", "contentIndex": at, "delta": text})


def deltas(events: Any) -> list[str]:
    return [e["assistantMessageEvent"].get("delta", e["assistantMessageEvent"]["type"]) for e in events]


def sink_on(store: Store, window: float) -> tuple[EventSink, Held]:
    held = Held(*_claim(store))
    return EventSink(store, held, Ticker(), window, lambda _held, _version: None), held


def _claim(store: Store) -> Any:
    claim = claimed(store, new_run(store))
    return claim.lease, claim.state


def test_the_first_token_is_written_at_once_and_the_rest_together() -> None:
    store = CountingStore()
    sink, _ = sink_on(store, 3600)
    for letter in "abcd":
        sink.emit(delta(letter))
    assert [deltas(events) for events in store.appends] == [["a"]]
    assert deltas(sink.drain()) == ["bcd"]


def test_what_is_collected_is_written_at_the_end_of_the_window_while_the_model_is_silent() -> None:
    store = CountingStore()
    sink, _ = sink_on(store, 0.02)
    for letter in "abcd":
        sink.emit(delta(letter))
    wait_until(lambda: len(store.appends) == 2, what="the trailing flush")
    assert [deltas(events) for events in store.appends] == [["a"], ["bcd"]]
    assert sink.drain() == ()


def test_only_adjacent_deltas_of_one_block_are_merged() -> None:
    store = CountingStore()
    sink, _ = sink_on(store, 3600)
    sink.emit(delta("first"))
    start = ev.message_update({"type": "text_start", "contentIndex": 1})
    sink.emit(delta("a"), delta("b"), start, delta("c", 1), delta("d", 1), delta("e", 0))
    assert deltas(sink.drain()) == ["ab", "text_start", "cd", "e"]


def test_nothing_is_written_after_the_sink_was_drained() -> None:
    store = CountingStore()
    sink, _ = sink_on(store, 0)
    sink.drain()
    sink.emit(delta("late"))
    assert store.appends == []


def test_a_flush_that_met_a_lost_lease_cancels_the_step() -> None:
    store = CountingStore()
    sink, held = sink_on(store, 0.02)
    sink.emit(delta("a"))
    store.commit_away(held) if hasattr(store, "commit_away") else _steal(store, held)
    sink.emit(delta("b"))
    wait_until(lambda: held.cancel.reason == "lost", what="the loss to be noticed")
    with pytest.raises(LeaseLostError):
        sink.drain()


def _steal(store: Store, held: Held) -> None:
    """Another worker claims the step."""
    store.renew([held.lease], 0)
    assert store.claim(held.lease.run_id, held.lease.step, 60_000) is not None


def test_a_trailing_flush_that_the_store_could_not_take_is_tried_again() -> None:
    store = CountingStore()
    sink, held = sink_on(store, 0.02)
    sink.emit(delta("a"))
    store.down = 1
    sink.emit(delta("b"))
    wait_until(lambda: len(store.appends) == 2, what="the second try")
    assert sink.drain() == ()
    assert store.load(held.lease.run_id).last_seq == 6


def test_what_a_model_streams_is_in_the_log_before_it_is_finished() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    wait_until(lambda: app.log(run_id)[-1]["type"] == "message_update", what="the first token")
    app.kit.abort(run_id)
    thread.join(10)
    app.check(run_id)


# -- leases ----------------------------------------------------------------------------------------


def test_a_kept_lease_is_renewed_and_a_lost_one_is_told() -> None:
    store = MemoryStore()
    keeper = LeaseKeeper(store, Ticker(), 0.3)
    run_id = new_run(store)
    held = keeper.hold(claimed(store, run_id, lease_ms=300))
    assert keeper.busy() == 1
    first = store.load(run_id).live[1]
    wait_until(lambda: store.load(run_id).live.get(1, 0) > first + 300, what="a renewal")
    assert store.claim(run_id, 1, 1000) is None
    _steal(store, held)
    wait_until(lambda: held.cancel.reason == "lost", what="the loss to be told")
    keeper.drop(held)
    assert keeper.busy() == 0


def test_a_keeper_tells_of_an_abort() -> None:
    store = MemoryStore()
    app = App("hello")
    app.kit = AgentKit([app.agent], settings=Settings(), store=store, nudger=app.nudger)
    run_id = app.start()
    keeper = LeaseKeeper(store, Ticker(), 30)
    held = keeper.hold(claimed(store, run_id))
    app.kit.abort(run_id)
    wait_until(lambda: held.cancel.reason == "abort", timeout=1, what="the abort to be told")
    keeper.drop(held)


def test_abort_news_that_could_not_be_read_are_read_at_the_next_beat() -> None:
    class Store(MemoryStore):
        fails = 0

        def load(self, run_id: str) -> Any:
            if self.fails:
                self.fails -= 1
                raise StoreUnavailableError
            return super().load(run_id)

    store = Store()
    app = App("hello")
    app.kit = AgentKit([app.agent], settings=Settings(), store=store, nudger=app.nudger)
    run_id = app.start()
    keeper = LeaseKeeper(store, Ticker(), 30)
    held = keeper.hold(claimed(store, run_id))
    app.kit.abort(run_id)
    store.fails = 1
    wait_until(lambda: held.cancel.reason == "abort", what="the abort to be told")
    keeper.drop(held)


# -- tools -----------------------------------------------------------------------------------------


def one_call(name: str, **arguments: Any) -> list[Any]:
    return [{"type": "toolCall", "name": name, "arguments": arguments}]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_takes_too_long_is_an_error_for_the_model(is_async: bool) -> None:
    release = threading.Event()

    @tool(name="hang", timeout=0.05)
    def hang() -> str:
        """Hang."""
        release.wait(10)
        return "late"

    @tool(name="hang", timeout=0.05)
    async def hang_async() -> str:
        """Hang."""
        await asyncio.sleep(30)
        return "late"

    app = App(one_call("hang"), "ok", tools=[hang_async if is_async else hang])
    run = app.check(app_run(app))
    release.set()
    assert run.status == "completed"
    message = next(m for m in run.messages if m["role"] == "toolResult")
    assert message["isError"]
    assert "did not finish within 0.05 seconds" in text_of(message)


def test_a_tools_updates_are_events_between_its_start_and_its_end() -> None:
    @tool
    def count(ctx: ToolContext) -> str:
        """Count."""
        for n in range(3):
            ctx.update({"n": n})
        return "counted"

    app = App(one_call("count"), "ok", tools=[count])
    run_id = app_run(app)
    app.check(run_id)
    updates = [e for e in app.log(run_id) if e["type"] == "tool_execution_update"]
    assert [e["partialResult"] for e in updates] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_what_a_tool_raises_or_cannot_say_in_json_is_an_error_for_the_model() -> None:
    @tool
    def explode() -> str:
        """Explode."""
        raise ValueError("boom")

    @tool
    def mumble(ctx: ToolContext) -> str:
        """Mumble."""
        ctx.update(object())
        return ""

    app = App([*one_call("explode"), *one_call("mumble")], "ok", tools=[explode, mumble])
    run = app.check(app_run(app))
    results = [m for m in run.messages if m["role"] == "toolResult"]
    assert [m["isError"] for m in results] == [True, True]
    assert text_of(results[0]) == "ValueError: boom"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_aborted_tool_notices_and_the_run_ends_within_a_second(is_async: bool) -> None:
    reached, noticed = threading.Event(), threading.Event()

    @tool(name="work")
    def work(ctx: ToolContext) -> str:
        """Work."""
        reached.set()
        wait_until(lambda: ctx.aborted, what="the abort")
        noticed.set()
        return "stopped"

    @tool(name="work")
    async def work_async() -> str:
        """Work."""
        reached.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            noticed.set()
            raise
        return "never"

    app = App(one_call("work"), "ok", tools=[work_async if is_async else work])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id, "enough")
    at = time.monotonic()
    wait_until(lambda: app.kit.get(run_id).ended, what="the end", timeout=1.5)
    assert time.monotonic() - at < 1.2
    thread.join(10)
    assert noticed.wait(5)
    run = app.check(run_id)
    assert (run.status, run.error) == ("aborted", {"code": "aborted", "message": "enough"})


def test_a_tool_that_never_notices_is_outlived() -> None:
    reached, release = threading.Event(), threading.Event()

    @tool
    def deaf() -> str:
        """Hear nothing."""
        reached.set()
        release.wait(30)
        return "late"

    app = App(one_call("deaf"), "ok", tools=[deaf])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id)
    thread.join(2)
    assert not thread.is_alive()
    release.set()
    run = app.check(run_id)
    assert run.status == "aborted"
    assert [m["role"] for m in run.messages] == ["user", "assistant"]


def test_an_abort_of_a_silent_model_takes_less_than_a_second() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    app.kit.abort(run_id, "too slow")
    at = time.monotonic()
    thread.join(5)
    assert time.monotonic() - at < 1
    run = app.check(run_id)
    assert (run.status, run.error) == ("aborted", {"code": "aborted", "message": "too slow"})
    assert (text_of(run.messages[-1]), run.messages[-1]["stopReason"]) == ("well", "aborted")


def test_a_silent_model_ends_with_the_time_of_its_run() -> None:
    app = App(model=Silent())
    run_id = app.kit.start("a", "go", limits={"timeout": 0.1}).id
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "limit_time")


def test_a_stopping_worker_hands_its_model_call_to_another() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(lambda: app.kit.execute(*app.nudger.told.pop(0)))
    assert model.reached.wait(10)
    app.kit.runner.keeper.stop_all()
    thread.join(5)
    assert app.nudger.told == [(run_id, 1)]
    assert app.check(run_id).status == "running"
    other = AgentKit([Agent("a", ScriptedModel(["fresh"]))], settings=Settings(), store=app.store, nudger=app.nudger)
    other.execute(run_id, 1)
    run = app.check(run_id)
    assert (run.status, text_of(run.messages[-1])) == ("completed", "fresh")
    assert shape(app.log(run_id)).count("message_discard") == 1


# -- attempts --------------------------------------------------------------------------------------


def die(app: App, run_id: str, step: int) -> None:
    """A worker claims a step and dies."""
    assert app.store.claim(run_id, step, 0) is not None


def test_a_model_step_that_killed_its_worker_is_executed_again() -> None:
    app = App("hello")
    run_id = app.start()
    die(app, run_id, 1)
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert shape(app.log(run_id)).count("message_discard") == 1


def test_a_step_that_kills_every_worker_fails_its_run() -> None:
    app = App("hello", max_attempts=2)
    run_id = app.start()
    for _ in range(2):
        die(app, run_id, 1)
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "step_failed")
    assert run.messages[-1]["stopReason"] == "error"


def test_a_tool_that_kills_every_worker_fails_its_run() -> None:
    @tool
    def poison() -> str:
        """Poison."""
        return ""

    app = App(one_call("poison"), "ok", tools=[poison], max_attempts=2)
    run_id = app.start()
    app.kit.execute(*app.nudger.told.pop(0))
    for _ in range(2):
        die(app, *app.nudger.told[0])
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "step_failed")


def test_an_idempotent_tool_is_executed_again_with_the_same_key() -> None:
    keys: list[tuple[int, str]] = []

    @tool
    def note(ctx: ToolContext) -> str:
        """Note."""
        keys.append((ctx.attempt, ctx.idempotency_key))
        return "noted"

    app = App(one_call("note"), "ok", tools=[note])
    first, second = app.start(), app.start()
    for run_id in (first, second):
        app.kit.execute(run_id, 1)
    die(app, first, 2)
    app.work()
    assert app.check(first).status == app.check(second).status == "completed"
    assert [attempt for attempt, _ in keys] == [2, 1]
    assert len({key for _, key in keys}) == 2
    assert shape(app.log(first)).count("tool_execution_start") == 1


@pytest.mark.parametrize(("verdict", "calls"), [("retry", 1), ("done", 0), ("failed", 0)])
def test_a_tool_with_effects_once_asks_after_a_crash(verdict: str, calls: int) -> None:
    paid: list[str] = []

    @tool(effects="once")
    def pay() -> str:
        """Pay."""
        paid.append("paid")
        return "paid now"

    app = App(one_call("pay"), "ok", tools=[pay])
    run_id = app.start()
    app.kit.execute(*app.nudger.told.pop(0))
    die(app, *app.nudger.told[0])
    app.work()
    assert app.check(run_id).pending[0]["kind"] == "in_doubt"
    assert paid == []
    app.kit.resume(run_id, {"verdict": verdict, "result": "as was said"})
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert len(paid) == calls
    message = next(m for m in run.messages if m["role"] == "toolResult")
    assert (text_of(message), message["isError"]) == (
        "paid now" if verdict == "retry" else "as was said",
        verdict == "failed",
    )


def test_a_worker_without_the_tool_gives_the_run_back() -> None:
    @tool(decision={"type": "object"})
    def refund(decision: Any) -> str:
        """Refund."""
        return "refunded"

    app = App(one_call("refund"), "ok", tools=[refund])
    run_id = app_run(app)
    app.kit.resume(run_id, YES)
    other = AgentKit([Agent("a", app.agent.model)], settings=Settings(), store=app.store, nudger=app.nudger)
    other.execute(*app.nudger.told.pop(0))
    assert app.check(run_id).status == "paused"
    assert "tool_not_registered" in app.log(run_id)[-1]["reason"]
    app.kit.resume(run_id, YES)
    assert app.work().check(run_id).status == "completed"


def test_an_abort_that_meets_a_question_ends_the_run() -> None:
    """The abort comes between the claim and the commit of a step that would pause the run."""

    @tool(effects="once")
    def pay() -> str:
        """Pay."""
        return ""

    app = App(one_call("pay"), "ok", tools=[pay])
    run_id = app.start()
    app.kit.execute(*app.nudger.told.pop(0))
    die(app, *app.nudger.told[0])
    load, claim = app.store.load, app.store.claim

    def claim_then_abort(*args: Any) -> Any:
        claimed_step = claim(*args)
        app.kit.abort(run_id)
        return claimed_step

    app.store.claim = claim_then_abort  # type: ignore[method-assign]
    app.work()
    assert load(run_id).record.status == "aborted"
    app.check(run_id)


def test_a_scripted_finish_is_the_last_part() -> None:
    parts = list(ScriptedModel(["x"]).stream(ModelRequest("m", "", []), Cancellation()))
    assert isinstance(parts[-1], Finish)

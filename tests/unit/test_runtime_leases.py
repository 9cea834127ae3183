"""What a step leans on: the way into the log, and the lease that lasts while it works."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit import AgentKit
from agentkit.core.events import AssistantMessageEvent, MessageUpdate
from agentkit.errors import LeaseLostError, StoreError
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.flusher import Flusher
from agentkit.runtime.leases import Held, LeaseKeeper
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.timer import Timer
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Append, Appended, Store
from agentkit.testing.store_changes import claimed, new_run
from tests.apps import App
from tests.flaky_store import FlakyStore
from tests.waiting import wait_until

# -- streaming -------------------------------------------------------------------------------------


def appended(store: FlakyStore) -> list[list[str]]:
    """The deltas of each append that reached the store."""
    return [deltas(append.events) for append in appends_of(store)]


def appends_of(store: FlakyStore) -> list[Append]:
    return [append for call in store.calls if call.method == "append" for append in call.args[0]]


def delta(text: str, at: int = 0) -> Any:
    return MessageUpdate(assistant_message_event=AssistantMessageEvent("text_delta", at, text))


def deltas(events: Any) -> list[str]:
    updates = [event.assistant_message_event for event in events]
    return [update.type if update.delta is None else update.delta for update in updates]


def buffer_on(store: Store, window: float) -> tuple[EventBuffer, Held]:
    held = Held(claimed(store, new_run(store)))
    return EventBuffer(store, held, Flusher(store, window, window)), held


def test_the_first_token_is_written_at_once_and_the_rest_together() -> None:
    store = FlakyStore()
    buffer, _ = buffer_on(store, 3600)
    for letter in "abcd":
        buffer.emit(delta(letter))
    assert appended(store) == [["a"]]
    assert deltas(buffer.drain()) == ["bcd"]


def test_what_is_collected_is_written_at_the_end_of_the_window_while_the_model_is_silent() -> None:
    store = FlakyStore()
    buffer, _ = buffer_on(store, 0.02)
    for letter in "abcd":
        buffer.emit(delta(letter))
    wait_until(lambda: len(appended(store)) == 2, what="the trailing flush")
    assert appended(store) == [["a"], ["bcd"]]
    assert buffer.drain() == ()


def test_only_adjacent_deltas_of_one_block_are_merged() -> None:
    store = FlakyStore()
    buffer, _ = buffer_on(store, 3600)
    buffer.emit(delta("first"))
    start = MessageUpdate(assistant_message_event=AssistantMessageEvent("text_start", 1))
    buffer.emit(delta("a"), delta("b"), start, delta("c", 1), delta("d", 1), delta("e", 0))
    assert deltas(buffer.drain()) == ["ab", "text_start", "cd", "e"]


def test_nothing_is_written_after_the_buffer_was_drained() -> None:
    store = FlakyStore()
    buffer, _ = buffer_on(store, 0)
    buffer.drain()
    buffer.emit(delta("late"))
    assert appended(store) == []


def test_a_flush_that_met_a_lost_lease_cancels_the_step() -> None:
    store = FlakyStore()
    buffer, held = buffer_on(store, 0.02)
    buffer.emit(delta("a"))
    _steal(store, held)
    buffer.emit(delta("b"))
    wait_until(lambda: held.cancel.reason == "lost", what="the loss to be noticed")
    with pytest.raises(LeaseLostError):
        buffer.drain()


def test_steps_whose_windows_end_together_are_written_in_one_round_trip() -> None:
    store = FlakyStore()
    flusher = Flusher(store, 1.0, 1.0)
    buffers = [EventBuffer(store, Held(claimed(store, new_run(store))), flusher) for _ in range(5)]
    for buffer in buffers:
        buffer.emit(delta("a"))
        buffer.emit(delta("b"))
    wait_until(lambda: len(appends_of(store)) == 10, what="the trailing flush")
    assert [len(call.args[0]) for call in store.calls if call.method == "append"] == [1, 1, 1, 1, 1, 5]


def test_what_was_collected_elsewhere_is_pulled_when_it_is_written_and_not_by_another_write() -> None:
    store = FlakyStore()
    buffer, _ = buffer_on(store, 0.02)
    collected: list[str] = []

    def emit_collected() -> None:
        texts, collected[:] = list(collected), []
        buffer.emit(*map(delta, texts))

    buffer.pull_from(emit_collected)
    collected += ["a", "b"]
    buffer.collected()
    wait_until(lambda: appended(store) == [["ab"]], what="the write")
    collected += ["c"]
    buffer.collected()
    wait_until(lambda: appended(store) == [["ab"], ["c"]], what="the next write")
    assert buffer.drain() == ()


def test_what_is_collected_during_a_write_is_written_after_it() -> None:
    late = ["late"]

    class Collecting(MemoryStore):
        def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
            if deltas(appends[0].events) == ["first"]:
                buffer.collected()
            return super().append(appends)

    def emit_collected() -> None:
        while late:
            buffer.emit(delta(late.pop()))

    store = FlakyStore(Collecting())
    buffer, _ = buffer_on(store, 0.02)
    buffer.pull_from(emit_collected)
    buffer.emit(delta("first"))
    wait_until(lambda: appended(store) == [["first"], ["late"]], what="the write of what came late")


def test_a_run_that_nobody_follows_is_written_seldom_and_at_once_to_whoever_comes() -> None:
    store = FlakyStore()
    held = Held(claimed(store, new_run(store)))
    buffer = EventBuffer(store, held, Flusher(store, 0.01, 0.3))
    buffer.emit(delta("a"))
    assert buffer.window == 0.3
    buffer.emit(delta("b"))
    subscription = store.subscribe(held.lease.run_id)
    wait_until(lambda: buffer.window == 0.01, what="the follower to be noticed")
    subscription.close()
    buffer.emit(delta("c"))
    wait_until(lambda: buffer.window == 0.3, what="its end to be noticed")
    assert appended(store) == [["a"], ["b"], ["c"]]


def test_a_write_that_the_store_refuses_holds_no_other_up() -> None:
    store = MemoryStore()
    refused = new_run(store)

    class Refusing(FlakyStore):
        def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
            outcomes = store.append([each for each in appends if each.lease.run_id != refused])
            return [StoreError("refused") if each.lease.run_id == refused else outcomes.pop(0) for each in appends]

    flusher = Flusher(Refusing(store), 0.02, 0.02)
    bad = EventBuffer(Refusing(store), Held(claimed(store, refused)), flusher)
    other = new_run(store)
    good = EventBuffer(Refusing(store), Held(claimed(store, other)), flusher)
    with pytest.raises(StoreError):
        bad.emit(delta("a"))
    for letter in "abc":
        good.emit(delta(letter))
    wait_until(lambda: store.load(other).last_seq == 6, what="the other's events")
    assert good.drain() == ()


def _steal(store: Store, held: Held) -> None:
    """Another worker claims the step."""
    store.renew([held.lease], 0)
    assert store.claim(held.lease.run_id, held.lease.step, 60_000) is not None


def test_a_store_that_is_away_costs_the_model_s_answer_nothing() -> None:
    store = FlakyStore()
    buffer, held = buffer_on(store, 0)
    store.fail["append"] = 1
    buffer.emit(delta("a"))  # is not taken, and does not raise
    buffer.emit(delta("b"))
    wait_until(lambda: len(appended(store)) == 2, what="the second try")
    store.fail["append"] = 1
    buffer.emit(delta("c"))
    assert buffer.drain() == ()
    assert appended(store) == [["a"], ["b"], ["c"]]
    assert store.load(held.lease.run_id).last_seq == 7


def test_a_trailing_flush_that_the_store_could_not_take_is_tried_again() -> None:
    store = FlakyStore()
    buffer, held = buffer_on(store, 0.02)
    buffer.emit(delta("a"))
    store.fail["append"] = 1
    buffer.emit(delta("b"))
    wait_until(lambda: len(appended(store)) == 2, what="the second try")
    assert buffer.drain() == ()
    assert store.load(held.lease.run_id).last_seq == 6


# -- leases ----------------------------------------------------------------------------------------


def test_a_kept_lease_is_renewed_and_a_lost_one_cancels_the_step() -> None:
    store = MemoryStore()
    keeper = LeaseKeeper(store, Timer(), 0.3)
    run_id = new_run(store)
    held = keeper.hold(claimed(store, run_id, lease_ms=300))
    assert keeper.busy() == 1
    first = store.load(run_id).live[1]
    wait_until(lambda: store.load(run_id).live.get(1, 0) > first + 300, what="a renewal")
    assert store.claim(run_id, 1, 1000) is None
    _steal(store, held)
    wait_until(lambda: held.cancel.reason == "lost", what="the loss to be noticed")
    keeper.drop(held)
    assert keeper.busy() == 0


def test_a_step_that_has_just_written_is_not_asked_for_and_its_lease_is_renewed_in_time() -> None:
    store = FlakyStore()
    keeper = LeaseKeeper(store, Timer(), 30)
    writing, silent = (keeper.hold(claimed(store, new_run(store))) for _ in range(2))
    writing.observed = float("inf")  # it writes again and again

    def renewed() -> list[str]:
        return [lease.run_id for call in store.calls if call.method == "renew" for lease in call.args[0]]

    wait_until(lambda: len(renewed()) >= 2, what="two heartbeats")
    assert set(renewed()) == {silent.lease.run_id}
    writing.renewed -= 3
    wait_until(lambda: writing.lease.run_id in renewed(), what="the renewal")
    for held in (writing, silent):
        keeper.drop(held)


def test_a_keeper_cancels_the_step_of_an_aborted_run() -> None:
    store = MemoryStore()
    app = App("hello")
    app.kit = AgentKit([app.agent], settings=Settings(), store=store, queue=app.queue)
    run_id = app.start()
    keeper = LeaseKeeper(store, Timer(), 30)
    held = keeper.hold(claimed(store, run_id))
    app.kit.abort(run_id)
    wait_until(lambda: held.cancel.reason == "abort", timeout=5, what="the abort to be noticed")
    keeper.drop(held)


def test_an_abort_that_a_heartbeat_could_not_learn_of_is_learnt_by_the_next() -> None:
    store = FlakyStore()
    app = App("hello")
    app.kit = AgentKit([app.agent], settings=Settings(), store=store, queue=app.queue)
    run_id = app.start()
    keeper = LeaseKeeper(store, Timer(), 30)
    held = keeper.hold(claimed(store, run_id))
    store.fail["renew"] = 1
    app.kit.abort(run_id)
    wait_until(lambda: held.cancel.reason == "abort", what="the abort to be noticed")
    keeper.drop(held)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError])
def test_a_heartbeat_that_fails_by_any_error_is_followed_by_the_next(error: type[Exception]) -> None:
    store = FlakyStore(fail={"renew": 2}, error=error)
    keeper = LeaseKeeper(store, Timer(), 0.3)
    run_id = new_run(store)
    held = keeper.hold(claimed(store, run_id, lease_ms=3000))
    wait_until(lambda: store.count["renew"] > 2, what="the next heartbeat")
    _steal(store.store, held)
    wait_until(lambda: held.cancel.reason == "lost", what="the loss to be noticed")
    keeper.drop(held)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_step_that_cannot_be_cancelled_keeps_no_other_from_being_cancelled(stopping: bool) -> None:
    def fail() -> None:
        raise RuntimeError("the step's")

    store, stop = MemoryStore(), Shutdown()
    keeper = LeaseKeeper(store, Timer(), 0.3, stop)
    held = [keeper.hold(claimed(store, new_run(store), lease_ms=3000)) for _ in range(3)]
    for each in held[:2]:
        each.cancel.on_cancel(fail)
    if stopping:
        stop.request(at_once=True)
    else:
        for each in held:
            _steal(store, each)
    reason = "stop" if stopping else "lost"
    wait_until(lambda: [each.cancel.reason for each in held] == [reason] * 3, what="all to be cancelled")
    for each in held:
        keeper.drop(each)


def test_the_timer_of_a_steps_deadline_does_not_outlive_the_step_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.runtime.deadlines._CHECK_SECONDS", 0.01)
    app = App("hello")
    handle = app.kit.start("a", "go", limits={"timeout": 1_000_000_000})
    app.work()
    assert handle.run.status == "completed"
    wait_until(lambda: gc.collect() >= 0 and not app.kit.runner.timer._calls, what="the timers to be gone")

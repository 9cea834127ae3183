"""Whose step a worker executes on a message: owners take turns, and the most urgent agents come first."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, ScriptedModel
from agentkit.core.ready import ReadyStep
from agentkit.runtime.ready import ReadySteps
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue
from tests.flaky_store import ALWAYS, FlakyStore


class Desk:
    """A kit whose messages a test delivers; `began` are the runs in the order of their first model calls."""

    def __init__(self, *agents: Agent, store: Any = None) -> None:
        self.store: Any = store or FlakyStore()
        self.queue = FakeQueue()
        self.kit = AgentKit(
            agents or [Agent("a", ScriptedModel(["Done."]))],
            store=self.store,
            queue=self.queue,
            around_step=self._note,
        )
        self.began: list[str] = []

    def _note(self, step: Any) -> Any:
        self.began.append(step.run_id)
        return _Nothing()

    def start(self, owner: str | None = None, agent: str = "a") -> str:
        return self.kit.start(agent, "go", owner=owner).id

    def deliver(self, number: int = 0, queue: str = "agentkit") -> None:
        run_id, step = self.queue.enqueued.pop(number)
        for turn, name in self.kit.turns(run_id, step, "model", queue, [queue]):
            if self.kit.execute(turn.run_id, turn.number, turn.kind, name) is not None:
                break

    def methods(self) -> set[str]:
        return {call.method for call in self.store.calls}


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_one_run_of_another_owner_comes_after_one_of_many() -> None:
    desk = Desk()
    many = [desk.start("ann") for _ in range(60)]
    one = desk.start("bob")
    while desk.queue.enqueued:
        desk.deliver()
    assert desk.began[:3] == [many[0], one, many[1]]
    assert sorted(desk.began) == sorted([*many, one])
    assert all(run.status == "completed" for run in desk.kit.runs())


def test_kits_without_owners_and_priorities_pay_nothing() -> None:
    desk = Desk()
    ids = [desk.start() for _ in range(3)]
    while desk.queue.enqueued:
        desk.deliver()
    assert desk.began == ids
    assert not desk.methods() & {"add_ready", "take_ready"}
    assert sum(call.method == "has_ready" for call in desk.store.calls) <= 2


def test_runs_without_an_owner_go_by_their_messages_beside_those_with_one() -> None:
    desk = Desk()
    owned = [desk.start("ann") for _ in range(2)]
    free = desk.start()
    desk.deliver(2)
    assert desk.began == [free]
    desk.deliver()
    desk.deliver()
    assert desk.began == [free, *owned]


@pytest.mark.parametrize("times", [1, 3])
def test_a_message_that_comes_twice_executes_nothing_twice(times: int) -> None:
    desk = Desk()
    ids = [desk.start("ann"), desk.start("bob")]
    desk.queue.enqueued *= times
    while desk.queue.enqueued:
        desk.deliver()
    assert sorted(desk.began) == sorted(ids)


def test_what_is_stale_in_a_set_is_passed_over_for_the_next() -> None:
    desk = Desk()
    first, second = desk.start("ann"), desk.start("ann")
    desk.kit.execute(first, 1)  # by a worker that knows of no turns
    desk.deliver(1)
    assert desk.began == [first, second]


def test_a_step_that_was_taken_and_lost_is_enqueued_by_recovery() -> None:
    clock = [1_800_000_000_000]
    desk = Desk(store=FlakyStore(MemoryStore(clock=lambda: clock[0])))
    run_id = desk.start("ann")
    desk.queue.enqueued.clear()
    assert desk.store.take_ready(["agentkit"], None) is not None
    clock[0] += 60_000
    desk.kit.recovery().sweep()
    desk.deliver()
    assert desk.began == [run_id]


def test_a_set_that_cannot_be_written_leaves_the_message() -> None:
    desk = Desk()
    desk.store.fail["add_ready"] = ALWAYS
    run_id = desk.start("ann")
    desk.deliver()
    assert desk.began == [run_id]


def test_a_stopping_worker_takes_nobodys_turn() -> None:
    desk = Desk()
    desk.start("ann")
    desk.kit.stop()
    desk.deliver()
    assert desk.began == []
    assert len(desk.queue.enqueued) == 1
    assert desk.store.take_ready(["agentkit"], None) is not None


def test_the_most_urgent_agent_comes_first_with_owners_and_without() -> None:
    model = ScriptedModel(["Done."])
    desk = Desk(Agent("a", model), Agent("b", model, priority=5), Agent("c", model, priority=9))
    a, b, c, owned = desk.start(), desk.start(agent="b"), desk.start(agent="c"), desk.start("ann", "b")
    while desk.queue.enqueued:
        desk.deliver()
    assert desk.began[0] == c
    assert set(desk.began[1:3]) == {b, owned}
    assert desk.began[3] == a


@pytest.mark.parametrize("priority", [-1, 10, 1.0, True, "high"])
def test_a_priority_is_a_whole_number_from_0_to_9(priority: Any) -> None:
    with pytest.raises(ConfigurationError, match="priority must be a whole number from 0 to 9"):
        Agent("a", "openai:x", priority=priority)


def test_a_more_urgent_step_of_another_queue_is_taken_and_the_message_goes_back() -> None:
    store, queue = MemoryStore(), FakeQueue()
    steps = ReadySteps(store, queue)
    own, urgent = ReadyStep("own", 1, "model"), ReadyStep("urgent", 2, "tool")
    steps.add("slow", [own], "ann", 0)
    steps.add("fast", [urgent], "bob", 9)
    assert list(steps.turns(own, "slow", ["fast", "slow"], lambda: False)) == [(urgent, "fast")]
    assert queue.enqueued == [("own", 1)]
    assert next(steps.turns(own, "slow", ["fast", "slow"], lambda: False)) == (own, "slow")


def test_a_queue_that_this_worker_does_not_serve_is_left_alone() -> None:
    store, queue = MemoryStore(), FakeQueue()
    steps = ReadySteps(store, queue)
    own, urgent = ReadyStep("own", 1, "model"), ReadyStep("urgent", 2, "tool")
    steps.add("slow", [own], "ann", 0)
    steps.add("fast", [urgent], "bob", 9)
    assert next(steps.turns(own, "slow", ["slow"], lambda: False)) == (own, "slow")

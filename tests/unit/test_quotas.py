"""What one principal may have: runs that have not ended, and dollars in a day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from agentkit import Agent, AgentKit, ConfigurationError, Quota, QuotaExceededError, ScriptedModel, Settings
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Cost, Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.store.memory import MemoryStore
from agentkit.tasks import install
from tests.apps import FakeQueue
from tests.flaky_store import FlakyStore
from tests.tools import refund
from tests.turns import call

DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2


class Clock:
    def __init__(self) -> None:
        self.ms = NOON

    def __call__(self) -> int:
        return self.ms


class Dollar:
    """A model whose every answer costs a dollar."""

    name = api = "dear"
    model = "m"

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        yield TextDelta("There.")
        usage = Usage(input=1, output=1, cache_read=0, cache_write=0, total_tokens=2, cost=Cost.of(0.5, 0.5))
        yield Finish("stop", usage, "m")


class Desk:
    """A kit with a quota, whose steps a test executes by hand."""

    def __init__(self, quota: Any, *, store: Any = None, **options: Any) -> None:
        self.clock = Clock()
        self.store: Any = store or MemoryStore(clock=self.clock)
        self.queue = FakeQueue()
        agents = [
            Agent("a", ScriptedModel(["Done."])),
            Agent("dear", Dollar()),
            Agent("shop", ScriptedModel([[call("refund", cents=500)], "Done."]), tools=[refund]),
            Agent("boss", ScriptedModel([[call("dear", input="go"), call("dear", input="go")], "Done."]),
                  tools=[Agent("dear", Dollar()).as_tool()]) if options.pop("boss", False) else Agent("b", Dollar()),
        ]  # fmt: skip
        if agents[-1].name == "boss":
            agents = [agents[0], agents[2], agents[3]]
        self.kit = AgentKit(agents, store=self.store, queue=self.queue, quota=quota, **options)

    def start(self, agent: str = "a", owner: str | None = "ann", **more: Any) -> str:
        return self.kit.start(agent, "go", owner=owner, **more).id

    def work(self) -> None:
        while self.queue.enqueued:
            self.kit.execute(*self.queue.enqueued.pop(0))

    def refused(self, agent: str = "a", owner: str | None = "ann", **more: Any) -> QuotaExceededError:
        with pytest.raises(QuotaExceededError) as caught:
            self.start(agent, owner, **more)
        return caught.value


# -- declared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Quota(active_runs=-1), "active_runs must be a whole number from 0"),
        (lambda: Quota(active_runs=1.5), "active_runs must be"),  # type: ignore[arg-type]
        (lambda: Quota(cost_per_day=-1), "cost_per_day must be a number of dollars from 0"),
        (lambda: Quota(cost_per_day="5"), "cost_per_day must be"),  # type: ignore[arg-type]
        (lambda: Quota(cost_per_day=float("nan")), "cost_per_day must be"),
        (lambda: Quota(runs=1), "no parameter runs"),  # type: ignore[call-arg]
        (lambda: Desk(Quota(active_runs=1)), "quota must be a function"),
        (lambda: Desk(lambda: None), "quota must take"),
    ],
)
def test_a_quota_that_means_nothing_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_a_function_that_returns_no_quota_lets_nothing_begin() -> None:
    desk = Desk(lambda principal: 5)
    with pytest.raises(ConfigurationError, match="must return a Quota or None"):
        desk.start()
    assert list(desk.kit.runs()) == []


# -- runs that have not ended --------------------------------------------------------------------------


def test_a_run_counts_from_its_start_to_its_end() -> None:
    desk = Desk(lambda principal: Quota(active_runs=2))
    for _ in range(2):
        desk.start()
    error = desk.refused()
    assert (error.code, error.retry_after) == ("quota_exceeded", 5)
    assert "2 active runs" in error.message
    desk.start(owner="bob")
    desk.work()
    for _ in range(2):
        desk.start()
    desk.refused()
    assert len(list(desk.kit.runs())) == 5


def test_a_paused_run_counts_until_it_ends() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    run_id = desk.start("shop")
    desk.work()
    assert desk.kit.get(run_id).status == "paused"
    desk.refused()
    desk.kit.abort(run_id)
    desk.start()


@pytest.mark.parametrize("end", ["abort", "delete"])
def test_a_run_that_never_was_executed_leaves_when_it_ends(end: str) -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    run_id = desk.start()
    if end == "abort":
        desk.kit.abort(run_id)
    else:
        desk.kit.delete(run_id, force=True)
    desk.start()


def test_the_quota_is_the_principals_own_and_may_be_none() -> None:
    desk = Desk(lambda principal: {"ann": Quota(active_runs=0), None: Quota(active_runs=1)}.get(principal))
    desk.refused()
    for _ in range(3):
        desk.start(owner="bob")
    desk.start(owner=None)
    desk.refused(owner=None)


def test_the_same_start_again_takes_no_second_place_and_is_not_refused() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    run_id = desk.start(idempotency_key="k")
    assert desk.start(idempotency_key="k") == run_id
    desk.work()
    other = desk.start()
    assert desk.start(idempotency_key="k") == run_id, "it has ended, and its place is another's"
    assert [each for each, _ in desk.store.active_runs("ann")] == [other]


def test_a_start_that_was_refused_may_come_again_under_its_key() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    first = desk.start()
    desk.refused(idempotency_key="k")
    desk.kit.abort(first)
    run_id = desk.start(idempotency_key="k")
    assert desk.start(idempotency_key="k") == run_id


def test_a_retry_of_an_ended_run_counts() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    source = desk.start()
    desk.work()
    again = desk.kit.start(from_run=source, input="more", owner="ann").id
    with pytest.raises(QuotaExceededError):
        desk.kit.start(from_run=source, input="more", owner="ann")
    desk.kit.abort(again)


def test_a_place_whose_start_died_is_found_when_it_is_needed() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1))
    assert desk.store.admit_run("ann", "never-made", 1, 1, None) == "admitted"
    desk.refused()
    desk.clock.ms += 61_000
    desk.kit._engine.quotas._repaired.clear()  # type: ignore[union-attr]
    desk.start()


@pytest.mark.parametrize("found_by", ["the next start", "recovery"])
def test_an_end_that_was_not_told_is_found(found_by: str) -> None:
    clock = Clock()
    store = FlakyStore(MemoryStore(clock=clock))
    desk = Desk(lambda principal: Quota(active_runs=1), store=store)
    desk.start()
    store.fail["leave_run"] = 1
    desk.work()
    assert len(store.active_runs("ann")) == 1
    if found_by == "recovery":
        clock.ms += 60_000
        desk.kit.recovery().sweep()
        assert store.active_runs("ann") == []
    desk.start()


def test_permission_is_asked_first() -> None:
    desk = Desk(lambda principal: Quota(active_runs=0))

    def forbid(run: Any) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        desk.start(permit=forbid)


# -- dollars in a day ----------------------------------------------------------------------------------


def test_no_run_begins_when_the_day_has_cost_enough_and_the_next_day_it_does() -> None:
    desk = Desk(lambda principal: Quota(cost_per_day=1.5))
    for _ in range(2):
        desk.start("dear")
        desk.work()
    error = desk.refused("dear")
    assert error.retry_after == 12 * 3600 + 1
    assert "1.5 dollars a day" in error.message
    desk.start("dear", owner="bob")
    desk.clock.ms += error.retry_after * 1000
    desk.start("dear")


def test_what_a_run_costs_counts_while_it_goes_on() -> None:
    desk = Desk(lambda principal: Quota(cost_per_day=1))
    run_id = desk.start("dear")
    desk.kit.send(run_id, "and more")
    desk.kit.execute(*desk.queue.enqueued.pop(0))
    assert desk.kit.get(run_id).status == "running"
    desk.refused()


def test_what_a_run_cost_yesterday_is_not_todays() -> None:
    desk = Desk(lambda principal: Quota(cost_per_day=1.5))
    run_id = desk.start("dear")
    desk.kit.send(run_id, "and more")
    desk.kit.execute(*desk.queue.enqueued.pop(0))
    desk.clock.ms += DAY_MS
    desk.work()
    assert desk.kit.get(run_id).usage["cost"]["total"] == 2
    desk.start()


def test_the_runs_of_sub_agents_take_no_place_and_what_they_cost_is_their_parents() -> None:
    desk = Desk(lambda principal: Quota(active_runs=1, cost_per_day=2.5), boss=True)
    run_id = desk.start("boss")
    desk.work()
    assert desk.kit.get(run_id).status == "completed"
    assert desk.kit.get(run_id).usage["cost"]["total"] == 2
    desk.start()
    desk.work()
    desk.kit._engine.store.count_cost("ann", "x", NOON // DAY_MS, 0, 10**9 // 2)
    desk.refused()


# -- over HTTP, and by the task ------------------------------------------------------------------------


def test_the_task_says_so_once() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    kit = AgentKit(
        [Agent("a", ScriptedModel(["Done."]))],
        settings=Settings(redis_url="redis://127.0.0.1:1/0", broker_url="memory://"),
        store=MemoryStore(),
        quota=lambda principal: Quota(active_runs=0),
    )
    install(app, kit)
    result = app.tasks["agentkit.start"].apply(args=("a", "hi"), kwargs={"owner": "ann"})
    assert result.status == "FAILURE"
    assert isinstance(result.result, QuotaExceededError)


def test_a_kit_without_quota_writes_nothing_of_it() -> None:
    store = FlakyStore()
    desk = Desk(None, store=store)
    desk.start("dear")
    desk.work()
    assert not {each.method for each in store.calls} & {"admit_run", "leave_run", "count_cost", "active_runs"}


def test_starts_at_once_take_each_place_once() -> None:
    desk = Desk(lambda principal: Quota(active_runs=5))
    outcomes: list[str] = []

    def start() -> None:
        try:
            desk.start()
            outcomes.append("started")
        except QuotaExceededError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("started"), outcomes.count("refused")) == (5, 15)

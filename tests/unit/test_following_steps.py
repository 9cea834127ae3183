"""The step that commits has the next one claimed for its worker: what it hands on, and where it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from celery.worker import state as worker_state

from agentkit import Agent, AgentKit, ScriptedModel, ToolContext, tool
from agentkit.core.struct import to_json
from agentkit.loop import next_turn
from agentkit.queue import series as series_module
from agentkit.queue.series import NextTask, Series, others_wait
from agentkit.runtime import tool_step
from agentkit.runtime.steps import Following
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Claim
from agentkit.store.redis import RedisStore
from tests.apps import App, FakeQueue
from tests.event_rules import check_log
from tests.flaky_store import FlakyStore
from tests.tools import APPROVAL
from tests.turns import call


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"{order_id} is there"


@tool(queue="slow")
def dig(order_id: str) -> str:
    """Look where few have a key."""
    return f"{order_id} was found"


@tool(decision=APPROVAL)
def refund(order_id: str, decision: dict[str, Any]) -> str:
    """Refund an order."""
    return "refunded"


def yes() -> bool:
    return True


def execute(app: App, claim: Claim | None = None, allows: Any = yes) -> Claim | None:
    """Execute the step that is due next, or the claimed one."""
    if claim is None:
        run_id, step = app.queue.enqueued.pop(0)
    else:
        run_id, step = claim.lease.run_id, claim.lease.step
    following = Following(allows, claim)
    app.kit.execute(run_id, step, queue="agentkit", following=following)
    return following.claim


def follow(app: App) -> int:
    """Execute the step that is due and all that follow from it; how many there were."""
    steps, claim = 1, execute(app)
    while claim is not None:
        claim = execute(app, claim)
        steps += 1
    return steps


def shape(app: App, run_id: str) -> Any:
    return [(e["type"], e.get("turn"), e.get("toolCallId")) for e in app.log(run_id)]


TURNS: tuple[Any, ...] = ([call("look_up", order_id="A-1")], [call("look_up", order_id="A-2")], "Both are there.")


def test_a_run_that_is_followed_to_its_end_is_the_run_that_messages_would_have_made() -> None:
    followed, hopping = App(*TURNS, tools=[look_up]), App(*TURNS, tools=[look_up])
    run_id = followed.start()
    assert follow(followed) == 5
    other = hopping.run()
    assert followed.kit.get(run_id).status == "completed"
    assert [m["content"] for m in followed.kit.get(run_id).messages] == [
        m["content"] for m in hopping.kit.get(other).messages
    ]
    assert [kind for kind, *_ in shape(followed, run_id)] == [kind for kind, *_ in shape(hopping, other)]


def test_a_boundary_is_one_call_of_the_store() -> None:
    app = App(*TURNS, tools=[look_up], store=FlakyStore())
    app.start()
    app.store.count.clear()
    app.store.calls.clear()
    follow(app)
    counted = {name: n for name, n in app.store.count.items() if name in ("claim", "commit", "load", "conflicts")}
    assert counted == {"claim": 1, "commit": 5}


def test_nothing_is_claimed_where_the_worker_would_not_go_on() -> None:
    app = App(*TURNS, tools=[look_up])
    run_id = app.start()
    assert execute(app, allows=lambda: False) is None
    assert execute(app, allows=None) is None
    assert app.queue.enqueued == [(run_id, 3)]


def test_a_step_of_another_queue_is_enqueued_there() -> None:
    app = App([call("dig", order_id="A-1")], "Found.", tools=[dig])
    run_id = app.start()
    assert execute(app) is None
    assert app.queue.enqueued == [(run_id, 2)]


def test_a_worker_that_is_to_stop_goes_on_to_nothing() -> None:
    app = App(*TURNS, tools=[look_up])
    run_id = app.start()

    def stopped() -> bool:
        app.kit.stop()
        return True

    claim = execute(app, allows=stopped)
    assert claim is not None
    assert execute(app, claim) is None
    assert app.queue.enqueued == [(run_id, 2)]
    app.another_worker().kit.execute(run_id, 2)
    assert app.kit.get(run_id).status == "running"
    assert [e["type"] for e in app.log(run_id)].count("tool_execution_start") == 1


def test_of_several_calls_one_is_gone_on_with_and_the_others_are_enqueued() -> None:
    app = App([call("look_up", order_id=f"A-{n}") for n in range(3)], "All there.", tools=[look_up])
    run_id = app.start()
    claim = execute(app)
    assert claim is not None
    assert (claim.lease.step, claim.complete) == (2, False)
    assert app.queue.enqueued == [(run_id, 3), (run_id, 4)]
    assert execute(app, claim) is None
    assert execute(app) is None
    assert execute(app, execute(app)) is None
    assert app.kit.get(run_id).status == "completed"


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("follows", [False, True], ids=["1 step per message", "32 steps per message"])
@pytest.mark.parametrize("processes", [1, 2])
def test_sixteen_calls_side_by_side_take_sixteen_writes_and_none_is_refused(
    kind: str, follows: bool, processes: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    monkeypatch.setattr(tool_step, "next_turn", lambda *args: computed.append(1) or next_turn(*args))
    store = MemoryStore() if kind == "memory" else RedisStore(request.getfixturevalue("redis_url"))
    together = threading.Barrier(16)

    @tool
    def wait(n: int) -> str:
        """Come to an end with all the others."""
        together.wait(10)
        return str(n)

    app = App([call("wait", n=n) for n in range(16)], "All there.", tools=[wait], store=FlakyStore(store))
    run_id = app.start()
    allows = yes if follows else None
    first = execute(app, allows=allows)
    assert (first is not None) == follows
    kits = [app.kit, *(app.another_worker().kit for _ in range(processes - 1))]
    following = [Following(allows, first if step == 2 else None) for step in range(2, 18)]

    def execute_call(place: int) -> None:
        kit = kits[place % processes]
        kit.execute(run_id, place + 2, queue="agentkit", following=following[place])

    app.queue.enqueued.clear()
    app.store.count.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(execute_call, range(16)))
    counted = {name: app.store.count[name] for name in ("commit_call", "commit", "load", "conflicts")}
    assert counted == {"commit_call": 16, "commit": 0, "load": 0, "conflicts": 0}
    assert len(computed) == processes, "what follows is said by the last one of each process"
    if follows:
        [last] = [each.claim for each in following if each.claim is not None]
        assert app.queue.enqueued == [], "the last commit has claimed the next step"
        assert [m["role"] for m in to_json(list(last.messages))] == ["user", "assistant", *["toolResult"] * 16]
        execute(app, last)
    else:
        assert app.queue.enqueued == [(run_id, 18)]
        execute(app)
    assert app.kit.get(run_id).status == "completed"
    assert app.kit.get(run_id).messages[-1]["content"][0]["text"] == "All there."
    check_log(app.log(run_id), app.kit.get(run_id).messages, "completed")
    for kit in kits:
        kit.close()


def test_a_pause_ends_a_series_and_the_answer_is_a_message() -> None:
    app = App([call("refund", order_id="A-1")], "Done.", tools=[refund])
    run_id = app.start()
    assert follow(app) == 1
    app.kit.resume(run_id, {"approved": True})
    assert follow(app) == 2
    assert app.kit.get(run_id).status == "completed"


def test_a_tool_that_changes_its_arguments_changes_nothing_that_later_steps_see() -> None:
    seen: list[Any] = []

    @tool
    def spoil(order: dict[str, Any], ctx: ToolContext) -> str:
        """Change what it was given."""
        seen.append(ctx.metadata)
        order["id"] = ctx.metadata["who"] = "spoilt"
        return "done"

    turns = ([call("spoil", order={"id": "A-1"})], [call("spoil", order={"id": "A-2"})], "Done.")
    app = App(*turns, tools=[spoil])
    run_id = app.kit.start("a", "go", metadata={"who": "ann"}).id
    claim = execute(app)
    while claim is not None:
        if claim.messages:
            assert "spoilt" not in repr(claim.messages)
        assert claim.state.record.metadata == {"who": "ann"}
        claim = execute(app, claim)
    assert app.kit.get(run_id).status == "completed"
    assert len(seen) == 2


def test_a_step_that_fails_after_its_commit_enqueues_the_one_that_it_has_claimed() -> None:
    @contextmanager
    def around(_: Any) -> Iterator[None]:
        yield
        raise ZeroDivisionError

    queue = FakeQueue()
    agent = Agent("a", ScriptedModel(list(TURNS)), tools=[look_up])
    app: Any = App(*TURNS, tools=[look_up])
    app.queue = queue
    app.kit = AgentKit([agent], settings=Settings(), store=app.store, queue=queue, around_step=around)
    run_id = app.start()
    with pytest.raises(ZeroDivisionError):
        execute(app)
    assert queue.enqueued == [(run_id, 2)]
    state = app.store.load(run_id)
    assert (state.live, [step.number for step in state.record.steps]) == ({}, [2])


# -- what bounds a series --------------------------------------------------------------------------


def next_step() -> NextTask:
    return NextTask({"task": "agentkit.model_call", "id": "1"}, "run", 2, "claim")


def test_a_series_has_so_many_steps() -> None:
    series = Series(lambda: False)
    assert [series.may_follow(most) for most in (1, 2, 3)] == [False, True, True]
    series.follow(next_step())
    assert (series.advance(), series.claim) == (next_step(), "claim")
    assert series.advance() is None
    assert [series.may_follow(most) for most in (2, 3)] == [False, True]


def test_a_series_ends_where_others_wait_and_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    series = Series(lambda: bool(waiting))
    assert series.may_follow(9)
    waiting.append(1)
    assert not series.may_follow(9)
    waiting.clear()
    monkeypatch.setattr(series_module, "SECONDS", 0.0)
    assert not series.may_follow(9)


class FakePool:
    num_processes = 2


class FakeRequest:
    pass


def test_others_wait_where_more_tasks_were_taken_than_the_pool_has_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [FakeRequest() for _ in range(3)]
    monkeypatch.setattr(worker_state, "reserved_requests", set(taken[:2]))
    assert not others_wait(FakePool())  # each has a slot, whether it has begun there or not
    worker_state.reserved_requests.add(taken[2])
    assert others_wait(FakePool())

"""Recovery: whatever was lost, one sweep of any worker finds it. Time is the store's; leases are short."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.core.ids import new_id, now_ms
from agentkit.errors import StoreUnavailableError
from agentkit.runtime import forgotten
from agentkit.runtime.forgotten import begin_walk, is_walk
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import DueRun
from agentkit.testing.store_changes import new_run
from tests.apps import App, die
from tests.event_rules import shape
from tests.flaky_store import FlakyStore
from tests.tools import YES, look, refund_with
from tests.turns import call
from tests.waiting import wait_until

LEASE_SECONDS = 0.2


refund = refund_with(decision_timeout=0.1)


@tool(decision={"type": "boolean"}, decision_timeout=0.1, on_expire=False)
def ask(decision: bool) -> str:
    """Ask."""
    return f"decided {decision}"


def app_of(*turns: Any, **options: Any) -> App:
    return App(*turns, lease_seconds=LEASE_SECONDS, **options)


def swept(app: App) -> list[tuple[str, int]]:
    """What the next sweep that finds anything enqueues, as (run id, step)."""
    app.queue.enqueued.clear()
    recovery = app.kit.recovery()
    wait_until(lambda: recovery.sweep() and app.queue.enqueued, what="a sweep that finds something")
    return app.queue.enqueued


def test_a_lost_message_is_found() -> None:
    app = app_of("hello")
    run_id = app.start()
    app.queue.enqueued.clear()
    assert swept(app) == [(run_id, 1)]
    assert app.work().check(run_id).status == "completed"


def test_a_lost_message_of_a_later_step_is_found() -> None:
    app = app_of([call("look")], "done", tools=[look])
    run_id = app.start()
    app.execute_next()
    assert swept(app) == [(run_id, 2)]
    assert app.work().check(run_id).status == "completed"


def test_a_run_that_is_checked_for_another_reason_while_its_answer_is_committed_is_not_forgotten() -> None:
    app = app_of([call("refund")], "done", tools=[refund_with()])
    run_id = app.run()
    commit = app.store.commit
    app.store.schedule(run_id, 0)
    [run] = app.store.due(1, 0)
    app.store.reschedule(run, 0)  # a check that the run was due for before

    def sweep_first(*args: Any, **named: Any) -> Any:
        app.store.commit = commit
        assert app.kit.recovery().sweep() == 1
        return commit(*args, **named)

    app.store.commit = sweep_first
    app.kit.resume(run_id, YES)
    assert swept(app) == [(run_id, 2)]
    assert app.work().check(run_id).status == "completed"


def test_a_lost_message_of_an_answer_is_found() -> None:
    app = app_of([call("refund")], "done", tools=[refund])
    run_id = app.run()
    app.kit.resume(run_id, YES)
    assert swept(app) == [(run_id, 2)]
    assert app.work().check(run_id).status == "completed"


def test_the_step_of_a_dead_worker_is_found_when_its_lease_has_run_out() -> None:
    app = app_of("hello")
    run_id = app.start()
    assert app.store.claim(run_id, 1, 300) is not None
    lease_ends_at = app.store.load(run_id).live[1]
    assert swept(app) == [(run_id, 1)]
    assert now_ms() >= lease_ends_at
    assert app.work().check(run_id).status == "completed"
    assert shape(app.log(run_id)).count("message_discard") == 1


def test_an_unanswered_message_is_repeated_once_per_lease_time() -> None:
    app = app_of("hello")
    run_id = app.start()
    assert swept(app) == [(run_id, 1)]
    assert app.kit.recovery().sweep() == 0
    assert swept(app) == [(run_id, 1)]


def test_an_expired_item_is_resolved() -> None:
    app = app_of([call("refund")], "done", tools=[refund])
    run_id = app.run()
    assert app.check(run_id).status == "paused"
    (message,) = swept(app)
    assert message == (run_id, 2)
    run = app.work().check(run_id)
    assert run.status == "completed"
    resolved = next(e for e in app.log(run_id) if e["type"] == "tool_decision_resolved")
    assert (resolved["outcome"], resolved["reason"]) == ("expired", "nobody answered in time")


def test_a_run_that_was_checked_before_its_item_expires_is_checked_again_then() -> None:
    app = app_of([call("refund")], "done", tools=[refund_with(decision_timeout=0.5)])
    run_id = app.run()
    recovery = app.kit.recovery()
    wait_until(recovery.sweep, what="the first recovery check")
    assert app.check(run_id).status == "paused"
    assert swept(app) == [(run_id, 2)]
    assert app.work().check(run_id).status == "completed"


def test_a_default_decision_of_false_is_what_the_tool_gets() -> None:
    app = app_of([call("ask")], "done", tools=[ask])
    run_id = app.run()
    swept(app)
    run = app.work().check(run_id)
    assert run.messages[2]["content"][0]["text"] == "decided False"


def test_a_run_that_waits_without_a_time_is_left_alone() -> None:
    app = app_of([call("refund")], tools=[refund_with()])
    app.run()
    recovery = app.kit.recovery()
    wait_until(lambda: app.store.backlog()[0] == 0 or recovery.sweep(), what="the index to be read")
    wait_until(lambda: (recovery.sweep(), app.store.backlog()[0] == 0)[1], what="the index to be empty")
    assert app.queue.enqueued == []


def test_an_ended_run_stays_until_it_has_expired_and_then_leaves_every_index() -> None:
    app = app_of("hello", store=MemoryStore(retention_seconds=1), retention_seconds=1)
    run_id = app.run()
    recovery = app.kit.recovery()
    assert app.store.listing(None, 10) == [run_id]
    wait_until(lambda: (recovery.sweep(), app.store.listing(None, 10) == [])[1], what="the run to be unlisted")
    assert app.store.backlog() == (0, 0)
    assert app.store.loads([run_id]) == [None]


def test_a_run_that_is_aborted_after_recovery_let_go_of_it_leaves_every_index_too() -> None:
    store = MemoryStore(retention_seconds=1)
    app = app_of([call("refund")], tools=[refund_with()], store=store, retention_seconds=1)
    run_id = app.run()
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), app.store.backlog()[0] == 0)[1], what="the index to be empty")
    app.kit.abort(run_id)
    wait_until(lambda: (recovery.sweep(), app.store.listing(None, 10) == [])[1], what="the run to be unlisted")


def test_a_run_whose_record_cannot_be_loaded_keeps_no_other_from_being_found() -> None:
    app = app_of("hello")
    broken, run_id = app.start(), app.start()  # the older one is checked first, each time
    load = app.store.load

    def breaks(wanted: str) -> Any:
        if wanted == broken:
            raise KeyError("its record is in pieces")
        return load(wanted)

    app.store.load = breaks
    assert swept(app) == [(run_id, 1)]


def test_a_run_whose_maker_was_stopped_in_between_for_long_is_found_all_the_same() -> None:
    app = app_of("hello")
    create, recovery = app.store.create, app.kit.recovery()

    def late(*args: Any, **kwargs: Any) -> Any:
        wait_until(recovery.sweep, what="the entry to be dropped as stale")
        assert (app.store.listing(None, 10), app.store.backlog()[0]) == ([], 0)
        return create(*args, **kwargs)

    app.store.create = late
    run_id = app.start()
    assert app.store.listing(None, 10) == [run_id]
    assert swept(app) == [(run_id, 1)]


def test_an_answer_whose_giver_was_stopped_in_between_for_long_is_found_all_the_same() -> None:
    app = app_of([call("refund")], "done", tools=[refund_with()])
    run_id = app.run()
    commit, recovery = app.store.commit, app.kit.recovery()

    def late(*args: Any, **kwargs: Any) -> Any:
        wait_until(lambda: (recovery.sweep(), app.store.backlog()[0] == 0)[1], what="the note to be settled")
        return commit(*args, **kwargs)

    app.store.commit = late
    app.kit.resume(run_id, YES)
    app.store.commit = commit
    assert swept(app) == [(run_id, 2)]
    assert app.work().check(run_id).status == "completed"


def test_who_lists_runs_forgets_none_that_is_just_being_made() -> None:
    app = app_of("hello")
    create = app.store.create

    def watched(*args: Any, **kwargs: Any) -> Any:
        assert list(app.kit.runs()) == []
        return create(*args, **kwargs)

    app.store.create = watched
    run_id = app.start()
    assert [run.id for run in app.kit.runs()] == [run_id]
    assert swept(app) == [(run_id, 1)]


def test_an_entry_whose_run_was_never_made_is_dropped() -> None:
    app = app_of("hello")
    run_id = new_id()
    app.store.schedule(run_id, now_ms() - 1)
    app.store.index(run_id)
    assert app.kit.recovery().sweep() == 1
    assert app.store.backlog() == (0, 0)
    assert app.store.listing(None, 10) == []


def test_a_record_that_cannot_be_read_holds_up_no_other() -> None:
    app = app_of("hello")
    newer = new_run(app.store, schema_version=99)
    app.store.schedule(newer, now_ms() - 1000)
    run_id = app.start()
    assert swept(app) == [(run_id, 1)]
    assert app.work().check(run_id).status == "completed"


def test_an_aborted_run_whose_worker_is_gone_is_ended() -> None:
    app = app_of("hello")
    run_id = app.start()
    die(app, run_id, 1)
    app.queue.enqueued.clear()
    app.kit.abort(run_id)
    app.queue.enqueued.clear()
    assert (run_id, 1) in swept(app)
    assert app.work().check(run_id).status == "aborted"


def test_a_running_worker_counts_as_there() -> None:
    app = app_of("hello")
    recovery = app.kit.recovery()
    run_id = app.start()
    app.queue.enqueued.clear()
    recovery.start()
    try:
        wait_until(app.store.workers, what="the worker's sign of life")
        wait_until(lambda: (run_id, 1) in app.queue.enqueued, what="the sweep")
    finally:
        recovery.stop()


def test_a_run_whose_recovery_check_was_cut_off_by_a_death_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_of("hello")
    run_id = app.start()

    def killed(*_: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(app.queue, "enqueue", killed)
    with pytest.raises(SystemExit):
        wait_until(app.kit.recovery().sweep, what="a sweep that finds something")
    monkeypatch.undo()
    assert swept(app) == [(run_id, 1)]


def test_a_lost_message_is_found_also_where_the_queue_never_gets_short() -> None:
    app = app_of("hello")
    run_id = app.start()
    app.queue.enqueued[:] = [("another", 1)] * 10_000
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), (run_id, 1) in app.queue.enqueued)[1], what="the message")


def test_workers_that_lack_the_agent_use_up_no_attempts() -> None:
    app = app_of("hello", max_attempts=2)
    run_id = app.start()
    stranger = AgentKit(
        [Agent("another", ScriptedModel([]))], settings=app.kit.settings, store=app.store, queue=app.queue
    )
    for _ in range(5):
        stranger.execute(run_id, 1)
    assert app.work().check(run_id).status == "completed"


def test_after_an_outage_the_runs_that_the_index_has_lost_are_found() -> None:
    """What a failover of a cluster's master may lose: an entry of the index, and not the run that it is of."""
    store = FlakyStore()
    app = app_of([call("ask")], "done", tools=[ask], store=store)
    expires, lost = app.run(), app.start()
    store._due.clear()
    app.queue.enqueued.clear()
    recovery = app.kit.recovery()
    store.fail["due"] = 1
    recovery.start()
    try:
        wait_until(lambda: (lost, 1) in app.queue.enqueued, timeout=20, what="the lost message to be made up for")
        wait_until(lambda: app.kit.get(expires).status != "paused", timeout=20, what="the item to expire")
    finally:
        recovery.stop()


def walk(app: App) -> None:
    """Have a worker take what there is of walks, and only that."""
    due: dict[str, float] = app.store._due
    runs = {run_id: due.pop(run_id) for run_id in list(due) if not is_walk(DueRun(run_id, 0))}
    due.update(dict.fromkeys(due, 0))
    try:
        app.kit.recovery().sweep()
    finally:
        due.update(runs)


def test_runs_that_have_ended_or_wait_for_people_alone_are_not_missed_in_the_index() -> None:
    app = app_of([call("refund")], "done", tools=[refund_with()])
    app.run()
    ended = app_of("hello", store=app.store)
    ended.run()
    active = ended.start()
    app.store._due.clear()
    begin_walk(app.store)
    walk(app)
    assert set(app.store._due) == {active}
    walk(app)
    assert set(app.store._due) == {active}, "a walk ends"


def test_where_the_worker_that_looks_for_lost_runs_dies_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgotten, "_BATCH", 1)
    monkeypatch.setattr(forgotten, "_WALK_SECONDS", 0)
    store = FlakyStore()
    app = app_of([call("ask")], "done", tools=[ask], store=store)
    runs = [app.start() for _ in range(3)]
    store._due.clear()
    begin_walk(store)
    walk(app)
    assert store.unscheduled(runs) == runs[:2], "the newest first"
    store.fail["loads"] = 1
    with pytest.raises(StoreUnavailableError):
        walk(app)
    for _ in range(4):
        walk(app)
    assert set(store._due) == set(runs)

"""A run and its sub-agents' runs find one another again, whatever notification between them was lost or came late."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, DecisionConflictError, ScriptedModel, tool
from agentkit.core.messages import text_of_json as text_of
from agentkit.runtime.children import Children
from tests.apps import App
from tests.turns import call
from tests.waiting import wait_until


@tool(decision={"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})
def pay(cents: int, decision: dict[str, Any]) -> str:
    """Pay."""
    return f"paid {cents}: {decision['ok']}"


def parent_app(child: Any, calls: int = 1, **settings: Any) -> App:
    """A run that asks its helper, whose turns are `child`, in `calls` calls of one turn."""
    helper = Agent("helper", ScriptedModel(child, name="helper"), "", [pay])
    boss = ScriptedModel([[call("helper", input="help")] * calls, "done"], name="boss")
    return App(model=boss, tools=[helper.as_tool()], **{"lease_seconds": 0.05, **settings})


ASKS = [[call("pay", cents=5)], "paid"]


def children_of(app: App, run_id: str) -> list[str]:
    """The runs of its sub-agents, the oldest first."""
    return sorted(set(app.store.listing(None, 10)) - {run_id})


def swept(app: App, done: Callable[[], Any], what: str) -> None:
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), app.work(), done())[-1], what=what)


@pytest.mark.parametrize(
    ("deleted", "expected"), [(False, "helped"), (True, "which was to answer, was deleted before its answer was read")]
)
def test_recovery_makes_up_for_a_lost_notification_of_a_parent(
    monkeypatch: pytest.MonkeyPatch, deleted: bool, expected: str
) -> None:
    app = parent_app(["helped"])
    with monkeypatch.context() as patch:
        patch.setattr(Children, "_notify_parent", lambda *_: None)
        run_id = app.run()
    assert app.kit.get(run_id).status == "running"
    if deleted:
        app.kit.delete(*children_of(app, run_id))
    swept(app, lambda: app.kit.get(run_id).ended, "the parent to get its child's answer")
    run = app.check(run_id)
    assert run.status == "completed"
    assert expected in text_of(run.messages[2])
    assert run.messages[2]["isError"] is deleted


def test_recovery_aborts_a_child_that_nobody_waits_for_though_it_had_let_go_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = parent_app(ASKS)
    run_id = app.run()
    [child] = children_of(app, run_id)
    swept(app, lambda: child not in app.store._due, "the paused run to be let go of")
    with monkeypatch.context() as patch:
        patch.setattr(Children, "_abort_orphan", lambda *_: None)
        app.kit.abort(run_id)
    swept(app, lambda: app.kit.get(child).ended, "the orphan to be aborted")
    assert app.check(child).status == "aborted"


def test_a_late_notification_of_a_child_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = parent_app(ASKS)
    late: list[tuple[Any, ...]] = []
    notify = Children._notify_parent

    def notify_later(children: Children, child: str, parent: str) -> None:
        late.append((children, child, parent))
        notify(children, child, parent)

    with monkeypatch.context() as patch:
        patch.setattr(Children, "_notify_parent", notify_later)
        run_id = app.run()
    [child] = children_of(app, run_id)
    app.kit.resume(child, {"ok": True})
    notify(*late[-1])
    assert app.check(run_id).status == "running"
    assert app.work().check(run_id).status == "completed"


def test_the_answer_of_a_child_that_is_done_before_another_is_known_meanwhile() -> None:
    app = parent_app(ASKS, calls=2)
    run_id = app.run()
    first, second = app.kit.get(run_id).pending
    app.kit.resume(run_id, {"ok": True}, decision_id=second["decisionId"])
    app.work()
    assert app.kit.get(run_id).pending == [first]
    app.kit.resume(run_id, {"ok": True}, decision_id=second["decisionId"])
    with pytest.raises(DecisionConflictError):
        app.kit.resume(run_id, {"ok": False}, decision_id=second["decisionId"])


def test_a_child_run_of_a_newer_version_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    app = parent_app(["helped"], calls=2)
    run_id = app.start()
    for _ in range(2):  # the model's step, and the first call's
        app.execute_next()
    [child] = children_of(app, run_id)
    fixed = app.store._runs[child].fixed
    app.store._runs[child].fixed = re.sub(rb'"schemaVersion":\d+', b'"schemaVersion":99', fixed)
    app.queue.enqueued.clear()
    swept(app, lambda: len(children_of(app, run_id)) == 2, "the second call to be enqueued again")


def test_a_run_whose_time_ends_while_it_waits_for_a_child_fails_and_aborts_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = parent_app(["helped"])
    run_id = app.kit.start("a", "go", limits={"timeout": 0.2}).id
    for _ in range(2):
        app.execute_next()
    [child] = children_of(app, run_id)
    app.queue.enqueued.clear()
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), app.kit.get(run_id).ended)[1], what="the run to end")
    run = app.check(run_id)
    assert (run.status, run.error["code"]) == ("failed", "limit_time")
    assert app.work().check(child).status == "aborted"

"""Who did what to a run stands in its own log, and in that of the process which did it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, AgentKit, InvalidRequestError, ScriptedModel
from agentkit.loop import extend
from agentkit.loop.answers import MAX_EXTENSIONS
from tests.apps import App, Silent, in_background
from tests.loop_driver import Driver
from tests.tools import YES, refund_with
from tests.turns import call

TWO_LINES = "ada\n2026-11-28 run x was deleted"
"""A principal whose name would be a second line of a log."""


def user_ends(app: App, run_id: str) -> list[tuple[Any, Any]]:
    """List the content and the sender of each user message in the run's log."""
    ends = [event for event in app.log(run_id) if event["type"] == "message_end"]
    return [(end["message"]["content"], end.get("by")) for end in ends if end["message"]["role"] == "user"]


def logged(caplog: pytest.LogCaptureFixture, run_id: str) -> list[str]:
    """List what was logged of a run at INFO by what callers do."""
    records = [record for record in caplog.records if record.name == "agentkit.runtime.commands"]
    assert all(record.levelname == "INFO" and run_id in record.getMessage() for record in records)
    return [record.getMessage() for record in records]


@pytest.fixture(autouse=True)
def _logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="agentkit.runtime.commands")


def test_each_message_of_the_log_names_who_sent_it() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    app.kit.send(run_id, "before the first call", "steer", by="ada")
    thread = in_background(app.execute_next)
    assert model.reached.wait(5)
    app.kit.send(run_id, "while it streams", "steer", by="bob")
    app.kit.send(run_id, "at the end", by="cyd")
    app.kit.send(run_id, "by nobody who was named")
    assert app.kit.get(run_id).queued == [
        {"message": "while it streams", "when": "steer", "by": "bob"},
        {"message": "at the end", "when": "followUp", "by": "cyd"},
        {"message": "by nobody who was named", "when": "followUp"},
    ]
    app.kit.stop(at_once=True)
    thread.join(5)
    app.another_worker().work()
    app.check(run_id)
    assert user_ends(app, run_id) == [
        ("go", None),
        ("before the first call", "ada"),
        ("while it streams", "bob"),
        ("at the end", "cyd"),
        ("by nobody who was named", None),
    ]


def test_a_message_is_logged_with_its_run_and_its_sender_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.send(run_id, "secret", "steer", by=TWO_LINES, idempotency_key="k")
    app.kit.send(run_id, "secret", "steer", by=TWO_LINES, idempotency_key="k")  # changes nothing
    app.kit.send(run_id, "secret")
    assert logged(caplog, run_id) == [
        f"run {run_id}: a message (steer) was sent by 'ada\\n2026-11-28 run x was deleted'",
        f"run {run_id}: a message (followUp) was sent",
    ]


def named(kit: AgentKit, run_id: str, name: Any) -> dict[str, Callable[[], Any]]:
    """Give every call that names who calls."""
    item = kit.get(run_id).pending[0]["decisionId"]
    return {
        "start": lambda: kit.start("a", "go", owner=name),
        "send": lambda: kit.send(run_id, "hi", by=name),
        "abort": lambda: kit.abort(run_id, by=name),
        "extend": lambda: kit.extend(run_id, item, 5, caller=name),
        "resume": lambda: kit.resume(run_id, YES, decided_by=name),
        "delete": lambda: kit.delete(run_id, force=True, by=name),
    }


@pytest.mark.parametrize("name", [7, ["ada"], "\ud800"])
@pytest.mark.parametrize("method", ["start", "send", "abort", "extend", "resume", "delete"])
def test_a_caller_that_is_no_text_is_refused_and_nothing_is_done(method: str, name: Any) -> None:
    app = asking()
    run_id = app.run()
    before = app.store.load(run_id)
    with pytest.raises(InvalidRequestError):
        named(app.kit, run_id, name)[method]()
    assert app.store.load(run_id) == before
    assert app.store.listing(None, 10) == [run_id]


def asking() -> App:
    return App([call("refund")], "done", tools=[refund_with(decision_timeout=60)])


# -- extensions ------------------------------------------------------------------------------------


def test_who_gave_an_item_more_time_stands_with_its_answer_and_in_the_servers_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = asking()
    run_id = app.run()
    [item] = app.kit.get(run_id).pending
    began = app.store.now()
    app.kit.extend(run_id, item["decisionId"], 5, caller="ada", idempotency_key="k")
    app.kit.extend(run_id, item["decisionId"], 5, caller="ada", idempotency_key="k")  # changes nothing
    app.kit.extend(run_id, item["decisionId"], 0.5)
    app.kit.resume(run_id, YES, decided_by="bob")
    [decision] = app.kit.decisions(run_id)
    assert [(each.seconds, each.by) for each in decision.extensions] == [(5, "ada"), (0.5, None)]
    assert all(began <= each.at <= app.store.now() for each in decision.extensions)
    assert logged(caplog, run_id) == [
        f"run {run_id}: the item {item['decisionId']} was given 5 s more by 'ada'",
        f"run {run_id}: the item {item['decisionId']} was given 0.5 s more",
    ]


def test_the_last_extensions_are_kept_and_those_of_an_item_that_is_asked_again_are_not() -> None:
    run = Driver(refund_with(decision_timeout=60)).start().model([call("refund")])
    for number in range(MAX_EXTENSIONS + 3):
        run.commit(extend(run.state, 0, number + 1, run.now, caller=f"c{number}"))
    run.decide(YES)
    [first] = run.store.resolutions(run.run_id)
    assert [each.by for each in first.extensions] == [f"c{number}" for number in range(3, MAX_EXTENSIONS + 3)]
    run.park("refund").decide(YES)
    assert [each.extensions for each in run.store.resolutions(run.run_id)][1] == ()


def test_an_extension_through_the_parent_is_the_childs_with_who_gave_it(caplog: pytest.LogCaptureFixture) -> None:
    cashier = Agent("cashier", ScriptedModel([[call("refund")], "x"]), tools=[refund_with(decision_timeout=60)])
    app = App(model=ScriptedModel([[call("cashier", input="x")], "done"], name="boss"), tools=[cashier.as_tool()])
    run_id = app.run()
    [item] = app.kit.get(run_id).pending
    app.kit.extend(run_id, item["decisionId"], 5, caller="ada", idempotency_key="k")
    app.kit.resume(run_id, YES)
    [decision] = app.kit.decisions(item["runId"])
    assert [each.by for each in decision.extensions] == ["ada"]
    assert logged(caplog, item["runId"]) == [
        f"run {item['runId']}: the item {item['decisionId']} was given 5 s more by 'ada'"
    ]


# -- aborts ----------------------------------------------------------------------------------------


def ending(app: App, run_id: str) -> tuple[Any, ...]:
    last = app.log(run_id)[-1]
    assert (last["type"], last["status"]) == ("agent_end", "aborted")
    return last["error"]["message"], last.get("by")


def test_an_abort_of_a_run_that_nobody_holds_names_who_aborted(caplog: pytest.LogCaptureFixture) -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.abort(run_id, "enough", by="ada")
    app.kit.abort(run_id, "again", by="bob")  # changes nothing
    app.check(run_id)
    assert ending(app, run_id) == ("enough", "ada")
    assert logged(caplog, run_id) == [f"run {run_id}: aborted by 'ada'"]


def test_an_abort_that_the_holder_of_a_step_carries_out_names_who_asked_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.execute_next)
    assert model.reached.wait(5)
    app.kit.abort(run_id, "enough", by="ada")
    app.kit.abort(run_id, "again", by="bob")
    thread.join(5)
    app.check(run_id)
    assert ending(app, run_id) == ("enough", "ada")
    assert logged(caplog, run_id) == [
        f"run {run_id}: its abort was asked for by 'ada', and the holder of its step ends it"
    ]


def test_an_abort_by_nobody_who_was_named_names_nobody() -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.abort(run_id)
    assert ending(app, run_id) == ("the run was aborted", None)
    assert "by" not in app.log(run_id)[-1]


def test_a_run_that_ends_by_itself_names_nobody() -> None:
    app = App("hello")
    run_id = app.run()
    assert "by" not in app.log(run_id)[-1]

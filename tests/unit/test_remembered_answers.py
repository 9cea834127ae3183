"""Answers that count for later calls of a tool in the run (`@tool(remember=True)`)."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, InvalidRequestError, ScriptedModel, ToolResult, tool
from agentkit.core.messages import Json
from agentkit.loop import park
from agentkit.tools import Tool, ToolContext
from tests.apps import App
from tests.tools import APPROVAL, YES, look
from tests.turns import call

NO = {"approved": False}


def asking(name: str = "refund", decision: Json = APPROVAL, **options: Any) -> Tool:
    @tool(name=name, **{"decision": decision, "remember": True, **options})
    def refund(cents: int, ctx: ToolContext, decision: Any = None) -> ToolResult | str:
        """Refund some cents."""
        return f"{ctx.decided_by}: {decision} for {cents}"

    return refund


def turns(*names: str, **args: Any) -> list[Any]:
    """One turn for each call, which is named by its number, and an answer."""
    return [*([call(name, str(at), cents=at, **args)] for at, name in enumerate(names, 1)), "Done."]


def app_of(*names: str, tools: tuple[Tool, ...] = (asking(),)) -> tuple[App, str]:
    app = App(*turns(*names), tools=tools)
    return app, app.run()


def answer(app: App, run_id: str, decision: Any = YES, **more: Any) -> Any:
    app.kit.resume(run_id, decision, **more)
    app.work()
    return app.check(run_id)


def result_texts(app: App, run_id: str) -> list[str]:
    messages = app.check(run_id).messages
    return [message["content"][0]["text"] for message in messages if message["role"] == "toolResult"]


def resolved(app: App, run_id: str) -> list[Json]:
    return [event for event in app.log(run_id) if event["type"] == "tool_decision_resolved"]


def test_later_calls_are_answered_alike_without_asking() -> None:
    app, run_id = app_of("refund", "refund", "refund")
    assert app.check(run_id).pending[0]["remember"] is True
    run = answer(app, run_id, decided_by="ann", remember=True)
    assert run.status == "completed"
    assert result_texts(app, run_id) == [f"ann: {YES} for {cents}" for cents in (1, 2, 3)]
    first, *later = resolved(app, run_id)
    assert (first["remember"], first["decidedBy"], "remembered" in first) == (True, "ann", False)
    for event, call_id in zip(later, "23", strict=True):
        assert (event["toolCallId"], event["outcome"], event["decision"]) == (call_id, "decided", YES)
        assert (event["decidedBy"], event["remembered"], "remember" in event) == ("ann", True, False)
    assert len({event["decisionId"] for event in resolved(app, run_id)}) == 3
    assert [event["type"] for event in app.log(run_id)].count("tool_decision_pending") == 1
    assert [known.remembered for known in app.kit.decisions(run_id)] == [False, True, True]
    assert {known.decided_by for known in app.kit.decisions(run_id)} == {"ann"}


def test_a_rejection_counts_too_and_nothing_is_executed() -> None:
    app, run_id = app_of("refund", "refund")
    answer(app, run_id, reject="not today", decided_by="ann", remember=True)
    assert result_texts(app, run_id) == ["rejected: not today"] * 2
    _, later = resolved(app, run_id)
    assert (later["outcome"], later["reason"], later["decidedBy"]) == ("rejected", "not today", "ann")
    assert "tool_execution_start" not in [event["type"] for event in app.log(run_id)]


def test_without_it_each_call_is_asked_about() -> None:
    app, run_id = app_of("refund", "refund")
    assert answer(app, run_id).pending[0]["toolCallId"] == "2"
    assert answer(app, run_id, NO, remember=True).status == "completed"


def test_it_is_for_calls_of_that_tool_with_the_same_schema_only() -> None:
    other = asking("transfer")
    app, run_id = app_of("refund", "transfer", "refund", tools=(asking(), other))
    [item] = answer(app, run_id, remember=True).pending
    assert item["toolName"] == "transfer"
    wider = {**APPROVAL, "properties": {**APPROVAL["properties"], "note": {"type": "string"}}}
    app.agent = app.agent.replace(tools=[asking(decision=wider), other])
    app.another_worker()
    [item] = answer(app, run_id).pending
    assert (item["toolName"], item["schema"]) == ("refund", wider)


def test_a_tool_that_does_not_allow_it_any_more_asks_again() -> None:
    app, run_id = app_of("refund", "refund")
    app.kit.resume(run_id, YES, remember=True)
    app.agent = app.agent.replace(tools=[asking(remember=False)])
    app.another_worker().work()
    assert app.check(run_id).pending[0]["toolCallId"] == "2"


def test_edited_arguments_are_that_calls_alone() -> None:
    app, run_id = app_of("refund", "refund")
    answer(app, run_id, input={"cents": 40}, remember=True)
    assert result_texts(app, run_id) == [f"None: {YES} for 40", f"None: {YES} for 2"]
    assert "input" not in resolved(app, run_id)[1]


def test_arguments_are_validated_whatever_was_remembered() -> None:
    app = App([call("refund", "1", cents=1)], [call("refund", "2", cents="x")], "Done.", tools=[asking()])
    run_id = app.run()
    answer(app, run_id, remember=True)
    assert "cents" in result_texts(app, run_id)[1]
    assert len(resolved(app, run_id)) == 1


def test_a_condition_is_asked_before() -> None:
    rare = asking(decision_when=lambda args, ctx: args["cents"] != 2)
    app, run_id = app_of("refund", "refund", "refund", tools=(rare,))
    answer(app, run_id, decided_by="ann", remember=True)
    assert result_texts(app, run_id) == [f"ann: {YES} for 1", "None: None for 2", f"ann: {YES} for 3"]


def test_what_waits_already_is_no_later_call() -> None:
    app = App([call("refund", "1", cents=1), call("refund", "2", cents=2)], "Done.", tools=[asking()])
    run_id = app.run()
    run = answer(app, run_id, tool_call_id="1", remember=True)
    assert [item["toolCallId"] for item in run.pending] == ["2"]


def test_the_last_answer_that_was_to_be_remembered_counts() -> None:
    calls = [call("refund", "1", cents=1), call("refund", "2", cents=2)]
    app = App(calls, [call("refund", "3", cents=3)], "Done.", tools=[asking()])
    run_id = app.run()
    answer(app, run_id, YES, tool_call_id="2", remember=True, decided_by="ann")
    answer(app, run_id, NO, tool_call_id="1", remember=True, decided_by="bob")
    assert result_texts(app, run_id)[2] == f"bob: {NO} for 3"
    assert len(app.store.load(run_id).record.remembered) == 1


def test_calls_of_other_runs_and_of_sub_agents_runs_are_asked_about() -> None:
    cashier = Agent("cashier", ScriptedModel([[call("refund", "inner", cents=9)], "Paid."]), tools=[asking()])
    model = ScriptedModel([[call("refund", "1", cents=1)], [call("cashier", "2", input="pay")], "Done."])
    app = App(model=model, tools=[asking(), cashier.as_tool()])
    run_id = app.run()
    [item] = answer(app, run_id, remember=True).pending
    assert item["toolCallId"] == "inner"
    assert item["runId"] != run_id
    assert app.check(app.run()).status == "paused"


def test_a_run_that_begins_from_another_remembers_nothing_of_it() -> None:
    app, run_id = app_of("refund")
    assert answer(app, run_id, remember=True).status == "completed"
    fork = app.kit.start("a", "Once more.", from_run=run_id).id
    app.work()
    assert app.store.load(fork).record.remembered == ()
    assert app.check(fork).pending[0]["toolName"] == "refund"


def test_on_another_tool_it_is_a_mistake_that_consumes_nothing() -> None:
    app = App([call("refund", "1", cents=1)], "Done.", tools=[asking(remember=False)])
    run_id = app.run()
    for given in ({"decision": YES}, {"reject": "no"}):
        with pytest.raises(InvalidRequestError, match="remember") as raised:
            app.kit.resume(run_id, **given, remember=True)
        assert raised.value.errors[0]["path"] == "/remember"
    assert answer(app, run_id).status == "completed"


def test_a_result_and_a_verdict_cannot_be_remembered() -> None:
    @tool(runs="client", decision=APPROVAL, remember=True)
    def photo(decision: Any = None) -> str:
        """Take a photo."""
        return ""

    app = App([call("photo", "1")], [call("photo", "2")], "Done.", tools=[photo])
    run_id = app.run()
    answer(app, run_id, remember=True)
    with pytest.raises(InvalidRequestError, match="remember"):
        app.kit.resume(run_id, result="click", remember=True)
    app.kit.resume(run_id, result="click")
    app.work()
    [item] = app.check(run_id).pending
    assert (item["toolCallId"], item["kind"]) == ("2", "client_execute"), "nobody was asked whether it may"


def test_the_same_answer_again_is_the_same_whether_it_was_to_be_remembered_or_not() -> None:
    app, run_id = app_of("refund", "refund")
    decision_id = app.check(run_id).pending[0]["decisionId"]
    answer(app, run_id, remember=True)
    app.kit.resume(run_id, YES, decision_id=decision_id)
    assert len(resolved(app, run_id)) == 2


def test_an_answer_to_a_call_that_was_answered_by_memory_is_known() -> None:
    app, run_id = app_of("refund", "refund")
    answer(app, run_id, remember=True)
    app.kit.resume(run_id, YES, decision_id=resolved(app, run_id)[1]["decisionId"])
    assert len(resolved(app, run_id)) == 2


def test_remembered_answers_stay_with_a_run_that_other_workers_take_over() -> None:
    app, run_id = app_of("refund", "look", "refund", tools=(asking(), look))
    app.kit.resume(run_id, YES, remember=True, decided_by="ann")
    while app.queue.enqueued:
        app.another_worker().execute_next()
    assert result_texts(app, run_id)[-1] == f"ann: {YES} for 3"


def test_a_call_whose_tool_a_worker_lacks_is_asked_about_after_all() -> None:
    app, run_id = app_of("refund", "refund")
    app.kit.resume(run_id, YES, remember=True, decided_by="ann")
    while len(resolved(app, run_id)) < 2:
        app.execute_next()
    [(_, step)] = app.queue.enqueued
    claim = app.store.claim(run_id, step, 10_000)
    app.store.commit(park(claim.state, step, app.store.now(), "gone"), claim.state.version, claim.lease)
    app.queue.enqueued.clear()
    [item] = app.check(run_id).pending
    assert (item["toolCallId"], item["reason"], item["remember"]) == ("2", "gone", True)
    assert answer(app, run_id, NO).status == "completed"
    assert result_texts(app, run_id)[1] == f"None: {NO} for 2"

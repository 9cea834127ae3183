"""The loop while a run waits: decisions, and what a client executes."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import tool
from agentkit.core.calls import ClientResult, ItemAnswer, Rejection
from agentkit.errors import (
    DecisionAmbiguousError,
    DecisionValidationError,
    InputValidationError,
    InvalidRequestError,
    RunNotPausedError,
    ToolNotRegisteredError,
)
from agentkit.loop import Answer, client_result, find_pending, resolve
from tests.loop_driver import Driver
from tests.tools import APPROVAL, YES, locate, look, photo, refund
from tests.turns import call

# -- decisions -------------------------------------------------------------------------------------


def test_a_run_with_one_decision_has_its_events_in_the_protocols_order() -> None:
    run = Driver(refund).start().model([call("refund", cents=5)]).check()
    assert run.status == "paused"
    assert run.record.steps == ()
    run.decide(YES).check()
    assert run.status == "queued"
    run.tool("refund").model("done").check()
    assert run.shape() == [
        "agent_start",
        "user message_start",
        "user message_end",
        "turn_start",
        "assistant message_start",
        "message_update",
        "assistant message_end",
        "tool_decision_pending",
        "agent_pause",
        "tool_decision_resolved",
        "agent_resume",
        "tool_execution_start",
        "tool_execution_end",
        "toolResult message_start",
        "toolResult message_end",
        "turn_end",
        "turn_start",
        "assistant message_start",
        "message_update",
        "assistant message_end",
        "turn_end",
        "agent_end",
    ]


def test_the_pending_item_shows_what_is_to_be_decided() -> None:
    run = Driver(refund).start().model([call("refund", cents=5)])
    (item,) = run.pending
    assert item == {
        "decisionId": item["decisionId"],
        "toolCallId": "refund",
        "toolName": "refund",
        "kind": "decision",
        "input": {"cents": 5},
        "schema": APPROVAL,
        "createdAt": run.now,
    }
    pending = next(e for e in run.events if e["type"] == "tool_decision_pending")
    assert {k: v for k, v in pending.items() if k not in ("seq", "timestamp", "type", "runId")} == {
        k: v for k, v in item.items() if k not in ("kind", "createdAt")
    }


def test_the_resolution_is_in_the_log_and_kept() -> None:
    run = Driver(refund).start().model([call("refund")])
    item = run.pending[0]
    run.decide(YES, decided_by="ann")
    event = next(e for e in run.events if e["type"] == "tool_decision_resolved")
    assert (event["outcome"], event["decision"], event["decidedBy"]) == ("decided", YES, "ann")
    kept = run.store.resolution(run.run_id, decision_id=item["decisionId"], tool_call_id=None)
    assert kept is not None
    assert (kept.outcome, kept.answer, kept.seq) == ("decided", ItemAnswer(decision=YES), event["seq"])


def test_the_executing_step_has_the_decision() -> None:
    run = Driver(refund).start().model([call("refund")]).decide(YES)
    state = run.claim("tool").state
    assert state.record.calls[0].answer == ItemAnswer(decision=YES)


@pytest.mark.parametrize("decision", [None, {}, {"approved": "yes"}, "approved"])
def test_a_decision_that_misses_its_schema_consumes_nothing(decision: Any) -> None:
    run = Driver(refund).start().model([call("refund")])
    before = run.state
    with pytest.raises(DecisionValidationError) as caught:
        run.decide(decision)
    assert caught.value.errors
    assert run.state == before
    assert run.decide(YES).status == "queued"


def test_a_replaced_input_is_checked_and_executed() -> None:
    run = Driver(refund).start().model([call("refund", cents=5)])
    with pytest.raises(InputValidationError):
        run.decide(YES, input={"cents": "five"})
    run.decide(YES, input={"cents": 7}).tool("refund").model("ok").check()
    start = next(e for e in run.events if e["type"] == "tool_execution_start")
    assert start["args"] == {"cents": 7}


def test_a_rejected_call_is_not_executed_and_the_model_reads_why() -> None:
    run = Driver(refund).start().model([call("refund")]).reject("too much")
    resolved = next(e for e in run.events if e["type"] == "tool_decision_resolved")
    assert (resolved["outcome"], resolved["reason"]) == ("rejected", "too much")
    run.tool("refund", "rejected: too much", is_error=True, executed=False).model("ok").check()
    assert "tool_execution_start" not in run.shape()
    assert run.status == "completed"


def test_a_decision_is_checked_against_the_schema_that_was_shown() -> None:
    run = Driver(refund).start().model([call("refund", cents=5)])

    @tool(name="refund", decision={"type": "string"})
    def deployed_since(cents: int = 0, decision: Any = None) -> str:
        """Refund, and ask otherwise."""
        return ""

    with pytest.raises(DecisionValidationError):
        resolve(run.state, 0, Answer("decision", "yes"), deployed_since, True, run.now)
    run.commit(resolve(run.state, 0, Answer("decision", YES), deployed_since, True, run.now))
    assert run.status == "queued"


def test_a_tool_that_the_application_has_no_more_leaves_the_run_paused() -> None:
    run = Driver(refund).start().model([call("refund")])
    with pytest.raises(ToolNotRegisteredError):
        resolve(run.state, 0, Answer("decision", YES), None, True, run.now)
    assert run.check().status == "paused"


def test_nothing_is_pending_in_a_run_that_asks_nothing() -> None:
    run = Driver().start()
    with pytest.raises(RunNotPausedError):
        find_pending(run.record, tool_call_id=None, decision_id=None)


def test_an_answer_may_come_as_its_structures_or_as_their_json() -> None:
    assert Answer("reject", {"reason": "no"}).stored() == Answer("reject", Rejection("no")).stored()
    blocks = {"content": [{"type": "text", "text": "here"}]}
    assert Answer("result", client_result("here")).same_as(Answer("result", blocks).stored())
    for wrong in ({}, {"reason": 5}, {"reason": "no", "more": 1}, "no"):
        with pytest.raises(InvalidRequestError, match="reject"):
            Answer("reject", wrong).stored()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Answer("decision", {"a": 1, "b": 2}), Answer("decision", {"b": 2, "a": 1}, decided_by="ann"), True),
        (Answer("decision", None), Answer("decision", None), True),
        (Answer("decision", 1), Answer("decision", True), False),
        (Answer("decision", None), Answer("decision", False), False),
        (Answer("decision", YES), Answer("decision", YES, input={"cents": 1}), False),
        (Answer("decision", {"reason": "no"}), Answer("reject", {"reason": "no"}), False),
    ],
)
def test_two_answers_are_the_same_where_their_json_is(one: Answer, other: Answer, same: bool) -> None:
    assert one.same_as(other.stored()) == same
    assert not one.same_as(None)


# -- several items ---------------------------------------------------------------------------------


def test_several_items_are_resolved_in_any_order_and_the_run_continues_once() -> None:
    run = Driver(refund).start().model([call("refund", name) for name in ("one", "two", "three")])
    assert [item["toolCallId"] for item in run.pending] == ["one", "two", "three"]
    with pytest.raises(DecisionAmbiguousError):
        run.decide(YES)
    run.decide(YES, "three").check()
    run.reject("no", "one").check()
    assert (run.status, run.record.steps) == ("paused", ())
    run.decide(YES, "two").check()
    assert run.status == "queued"
    run.tool("two").tool("three").tool("one", is_error=True, executed=False).model("done").check()
    assert run.shape().count("agent_pause") == run.shape().count("agent_resume") == 1
    resumed = next(e for e in run.events if e["type"] == "agent_resume")
    assert resumed["toolCallIds"] == ["one", "two", "three"]
    assert [m["toolCallId"] for m in run.messages if m["role"] == "toolResult"] == ["one", "two", "three"]


def test_what_needs_no_decision_executes_before_the_pause() -> None:
    run = Driver(refund, look).start().model([call("refund"), call("look")])
    assert run.status == "running"
    run.tool("look").check()
    assert run.status == "paused"
    assert run.messages[-1]["role"] == "assistant", "its result waits for that of the call before it"
    run.decide(YES).tool("refund").model("done").check()
    assert [m["toolCallId"] for m in run.messages if m["role"] == "toolResult"] == ["refund", "look"]


def test_an_item_answered_while_others_execute_needs_no_pause() -> None:
    run = Driver(refund, look).start().model([call("refund"), call("look")])
    run.claim("tool", "look")
    run.decide(YES)
    assert run.status == "running"
    run.tool("refund").tool("look").model("done").check()
    assert not {"agent_pause", "agent_resume"} & set(run.shape())


def test_sequential_decided_calls_execute_one_after_the_other() -> None:
    run = Driver(refund, parallel_tool_calls=False).start().model([call("refund", "one"), call("refund", "two")])
    run.decide(YES, "two").decide(YES, "one")
    assert len(run.record.steps) == 1
    run.tool("one").tool("two").model("done").check()


# -- client-side tools -----------------------------------------------------------------------------


def test_a_client_side_tool_is_answered_by_its_result() -> None:
    run = Driver(locate).start().model([call("locate")]).check()
    assert run.pending[0]["kind"] == "client_execute"
    assert "tool_client_execute_pending" in run.shape()
    with pytest.raises(InvalidRequestError):
        run.decide(YES)
    run.give({"content": [{"type": "text", "text": "Zürich"}], "details": {"lat": 47}})
    stored = run.record.calls[0].answer
    assert stored == ItemAnswer(
        result=ClientResult([{"type": "text", "text": "Zürich"}], is_error=False, details={"lat": 47})
    )
    run.tool("locate", "Zürich", executed=False).model("ok").check()
    assert "tool_execution_start" not in run.shape()


def test_a_decision_is_not_answered_by_a_result() -> None:
    run = Driver(refund).start().model([call("refund")])
    with pytest.raises(InvalidRequestError):
        run.give("done")


def test_a_client_side_tool_with_a_decision_asks_twice_and_pauses_once() -> None:
    run = Driver(photo).start().model([call("photo")])
    first = run.pending[0]
    run.decide(YES).check()
    second = run.pending[0]
    assert run.status == "paused"
    assert (first["kind"], second["kind"]) == ("decision", "client_execute")
    assert first["decisionId"] != second["decisionId"]
    run.give("click").tool("photo", "click", executed=False).model("ok").check()
    assert run.shape().count("agent_pause") == run.shape().count("agent_resume") == 1


def test_a_rejected_client_side_tool_is_not_asked_of_the_client() -> None:
    run = Driver(photo).start().model([call("photo")]).reject("no")
    run.tool("photo", "rejected", is_error=True, executed=False).model("ok").check()
    assert "tool_client_execute_pending" not in run.shape()

"""The loop where waiting goes wrong: a call in doubt, a worker without the tool, items that expire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agentkit import tool
from agentkit.core.calls import ItemAnswer, Rejection, Verdict
from agentkit.core.events import RunError
from agentkit.errors import (
    DecisionExpiredError,
    DecisionValidationError,
)
from agentkit.loop import park
from tests.loop_driver import Driver, texts_of
from tests.tools import APPROVAL, YES, look, pay, refund
from tests.turns import call


@tool(effects="once", decision=APPROVAL)
def wire(decision: Any = None) -> str:
    """Wire money, if allowed."""
    return ""


def expiring(on_expire: Any, seconds: float = 60, **options: Any) -> Any:
    options = {"decision": APPROVAL, **options}

    @tool(name="ask", decision_timeout=seconds, on_expire=on_expire, **options)
    def ask(decision: Any = None) -> str:
        """Ask."""
        return ""

    return ask


# -- doubt -----------------------------------------------------------------------------------------


def in_doubt() -> Driver:
    run = Driver(pay).start().model([call("pay")])
    run.lose("tool", "pay")
    return run.doubt("pay").check()


def test_a_call_in_doubt_asks_for_a_verdict() -> None:
    run = in_doubt()
    assert run.status == "paused"
    assert run.pending[0]["kind"] == "in_doubt"
    assert run.shape()[-2:] == ["tool_in_doubt", "agent_pause"]
    for wrong in ({"verdict": "maybe"}, {}, {"verdict": "done", "result": 1}):
        with pytest.raises(DecisionValidationError):
            run.decide(wrong)


@pytest.mark.parametrize("verdict", ["retry", "done", "failed"])
def test_each_verdict_ends_the_call_once(verdict: str) -> None:
    run = in_doubt().decide({"verdict": verdict, "result": "so it was"})
    assert run.record.calls[0].answer == ItemAnswer(verdict=Verdict(verdict, "so it was"))
    run.tool("pay", "so it was", is_error=verdict == "failed", executed=verdict == "retry").model("ok").check()
    assert run.status == "completed"
    assert run.shape().count("tool_execution_start") == run.shape().count("tool_execution_end") == 1


def test_a_call_in_doubt_can_be_rejected() -> None:
    run = in_doubt().reject("leave it")
    run.tool("pay", "rejected", is_error=True, executed=False).model("ok").check()


def test_a_call_can_be_in_doubt_again() -> None:
    run = in_doubt().decide({"verdict": "retry"})
    run.lose("tool", "pay")
    run.doubt("pay").check()
    run.decide({"verdict": "done"}).tool("pay", executed=False).model("ok").check()


def test_a_retried_call_still_has_its_decision() -> None:
    run = Driver(wire).start().model([call("wire")]).decide(YES)
    run.lose("tool", "wire")
    run.doubt("wire").decide({"verdict": "retry"})
    assert run.record.calls[0].answer == ItemAnswer(decision=YES, verdict=Verdict("retry"))
    run.tool("wire").model("ok").check()


def test_a_call_in_doubt_beside_an_executing_one_pauses_when_that_is_done() -> None:
    run = Driver(pay, look).start().model([call("pay"), call("look")])
    run.lose("tool", "pay")
    run.claim("tool", "look")
    run.doubt("pay").check()
    assert run.status == "running"
    run.tool("look").check()
    assert run.status == "paused"
    run.decide({"verdict": "done"}).tool("pay", executed=False).model("ok").check()


# -- a worker without the tool ---------------------------------------------------------------------


def test_a_parked_run_is_paused_again_with_the_same_question_and_says_why() -> None:
    run = Driver(refund).start().model([call("refund", cents=5)])
    first = run.pending[0]
    run.decide(YES).park("refund", "tool_not_registered: gone").check()
    assert run.status == "paused"
    assert run.events[-1]["reason"] == "tool_not_registered: gone"
    second = run.pending[0]
    assert second["decisionId"] != first["decisionId"]
    assert second.pop("reason") == "tool_not_registered: gone"
    assert {**second, "decisionId": "", "createdAt": 0} == {**first, "decisionId": "", "createdAt": 0}
    run.decide(YES).tool("refund").model("ok").check()
    assert run.shape().count("tool_execution_start") == 1


def parked(on_expire: Any) -> Driver:
    run = Driver(expiring(on_expire, seconds=60), look).start().model([call("ask"), call("look")])
    run.now += 50_000
    run.tool("look").decide(YES, "ask").park("ask")
    assert run.pending[0]["expiresAt"] == run.now + 60_000
    assert not run.expire(seconds=59)
    assert run.expire(seconds=1)
    return run


def test_a_parked_item_has_its_whole_time_again_and_then_expires() -> None:
    run = parked("reject")
    run.tool("ask", executed=False).model("ok").check()
    assert texts_of(run.messages)[2] == "ask done"
    assert [event["outcome"] for event in run.events if event["type"] == "tool_decision_resolved"] == [
        "decided",
        "expired",
    ]


def test_a_parked_item_expires_as_its_tool_said() -> None:
    assert parked("abort").check().status == "aborted"
    default = parked({"approved": False})
    assert default.record.calls[0].answer == ItemAnswer(decision={"approved": False})
    default.park("ask")
    assert default.pending[0]["expiresAt"] == default.now + 60_000


def test_a_parked_item_of_an_older_record_executes_nothing_unasked() -> None:
    run = Driver(expiring({"approved": True})).start().model([call("ask")]).decide(YES)
    step = run.claim("tool", "ask").lease.step
    [asked] = run.record.calls
    old = replace(
        run.state, record=msgspec.structs.replace(run.record, calls=(msgspec.structs.replace(asked, on_expire=None),))
    )
    [again] = park(old, step, run.now, "gone").record.calls
    assert again.on_expire == "reject"


def test_why_a_call_was_parked_is_in_the_log_also_while_another_executes() -> None:
    run = Driver(expiring("reject"), look).start().model([call("ask"), call("look")])
    run.decide(YES, "ask").claim("tool", "look")
    run.park("ask", "tool_not_registered: gone")
    assert run.status == "running"
    assert (run.events[-1]["type"], run.events[-1]["reason"]) == ("tool_decision_pending", "tool_not_registered: gone")
    run.tool("look").check()


def test_a_parked_call_in_doubt_that_had_no_decision_has_no_answer() -> None:
    run = in_doubt().decide({"verdict": "retry"}).park("pay").check()
    assert run.record.calls[0].answer is None
    assert run.pending[0]["kind"] == "in_doubt"


def test_a_parked_retry_of_a_call_in_doubt_still_has_its_decision() -> None:
    run = Driver(wire).start().model([call("wire")]).decide(YES)
    run.lose("tool", "wire")
    run.doubt("wire").decide({"verdict": "retry"}).park("wire")
    assert run.record.calls[0].answer == ItemAnswer(decision=YES)
    assert run.pending[0]["kind"] == "in_doubt"
    assert "expiresAt" not in run.pending[0]
    run.decide({"verdict": "retry"})
    assert run.record.calls[0].answer == ItemAnswer(decision=YES, verdict=Verdict("retry"))
    run.tool("wire").model("ok").check()


# -- expiry ----------------------------------------------------------------------------------------


def test_an_item_shows_when_it_expires_and_nothing_happens_before() -> None:
    run = Driver(expiring("reject")).start().model([call("ask")])
    assert run.pending[0]["expiresAt"] == run.now + 60_000
    assert not run.expire(59.999)
    assert run.check().status == "paused"


def test_an_item_whose_time_is_over_takes_no_answer() -> None:
    run = Driver(expiring("reject")).start().model([call("ask")])
    run.now += 60_000
    with pytest.raises(DecisionExpiredError):
        run.decide(YES)


def test_an_expired_item_is_rejected_by_default() -> None:
    run = Driver(expiring("reject")).start().model([call("ask")])
    assert run.expire(60)
    assert run.status == "queued"
    resolved = run.events[-1]
    assert (resolved["outcome"], resolved["reason"]) == ("expired", "nobody answered in time")
    assert run.record.calls[0].answer == ItemAnswer(reject=Rejection("nobody answered in time"))
    run.tool("ask", "rejected", is_error=True, executed=False).model("ok").check()
    assert not run.expire(60)


def test_an_expired_item_can_abort_the_run() -> None:
    run = Driver(expiring("abort"), look).start().model([call("ask"), call("look")]).tool("look")
    assert run.expire(61)
    assert run.check().status == "aborted"
    assert run.record.error == RunError("expired", "nobody answered 'ask' in time")
    assert texts_of(run.messages, "toolResult") == ["look done"]


@pytest.mark.parametrize(
    ("schema", "default"),
    [(APPROVAL, {"approved": False}), ({"type": "boolean"}, False), ({"type": "integer"}, 0), ({}, None)],
)
def test_a_default_decision_is_what_executes(schema: Any, default: Any) -> None:
    run = Driver(expiring(default, decision=schema)).start().model([call("ask")])
    assert run.expire(60)
    assert run.record.calls[0].answer == ItemAnswer(decision=default)
    run.tool("ask").model("ok").check()


def test_an_expired_item_beside_one_that_waits_lets_the_run_wait() -> None:
    run = Driver(expiring("reject"), refund).start().model([call("ask"), call("refund")])
    assert run.expire(60)
    assert run.check().status == "paused"
    run.decide(YES).tool("ask", is_error=True, executed=False).tool("refund").model("ok").check()


def test_a_default_decision_does_not_execute_a_client_side_tool_on_the_server() -> None:
    run = Driver(expiring({"approved": True}, runs="client")).start().model([call("ask")])
    assert run.expire(60)
    assert run.check().status == "paused"
    assert run.pending[0]["kind"] == "client_execute"
    assert run.record.steps == ()


def test_a_client_that_does_not_execute_in_time_is_an_error_not_the_default_decision() -> None:
    run = Driver(expiring({"approved": True}, runs="client")).start().model([call("ask")]).decide(YES)
    assert run.expire(60)
    assert run.record.calls[0].answer == ItemAnswer(reject=Rejection("nobody answered in time"))
    run.tool("ask", is_error=True, executed=False).model("ok").check()


def test_a_client_side_tool_that_expires_is_rejected() -> None:
    run = Driver(expiring("reject", decision=None, runs="client")).start().model([call("ask")])
    assert run.expire(60)
    run.tool("ask", is_error=True, executed=False).model("ok").check()

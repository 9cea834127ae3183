"""The loop where a run is cut short: aborted in every state, failed by its model or by a step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentkit.core.events import RunError
from agentkit.core.record import AbortRequest
from agentkit.errors import RunNotPausedError
from agentkit.loop import abort, find_pending, not_pending
from agentkit.store.protocol import LeaseStatus
from tests.loop_driver import Driver, texts_of
from tests.tools import YES, look, pay, refund
from tests.turns import call


def new() -> Driver:
    return Driver(look, refund, pay).start()


def queued() -> Driver:
    return new()


def between_turns() -> Driver:
    return new().model([call("look")]).tool("look")


def tool_due() -> Driver:
    return new().model([call("look")])


def paused() -> Driver:
    return new().model([call("refund")])


def paused_with_a_result() -> Driver:
    return new().model([call("refund"), call("look")]).tool("look")


def paused_and_half_answered() -> Driver:
    return new().model([call("refund", "one"), call("refund", "two")]).decide(YES, "one")


def resumed() -> Driver:
    return paused().decide(YES)


def in_doubt() -> Driver:
    run = new().model([call("pay")])
    run.lose("tool", "pay")
    return run.doubt("pay")


def parked() -> Driver:
    return resumed().park("refund")


def worker_gone() -> Driver:
    run = new().model([call("look"), call("look", "two")])
    run.lose("tool", "look")
    return run


NOT_HELD = [
    queued,
    between_turns,
    tool_due,
    paused,
    paused_with_a_result,
    paused_and_half_answered,
    resumed,
    in_doubt,
    parked,
    worker_gone,
]


@pytest.mark.parametrize("state", NOT_HELD)
def test_a_run_that_nobody_works_on_is_aborted_at_once(state: Callable[[], Driver]) -> None:
    run = state()
    assert run.abort("enough")
    run.check()
    assert run.status == "aborted"
    assert run.record.error == RunError("aborted", "enough")
    assert (run.pending, run.record.steps, run.record.abort) == ([], (), None)
    assert not run.abort("again")


def test_an_aborted_run_keeps_the_results_that_were_there() -> None:
    run = paused_with_a_result()
    run.abort()
    assert texts_of(run.messages, "toolResult") == ["look done"]
    assert run.record.error == RunError("aborted", "the run was aborted")


def test_an_abort_of_a_held_run_is_a_request_that_is_made_once() -> None:
    run = new()
    run.claim("model")
    assert abort(run.state, "stop", run.now) == AbortRequest("stop", at=run.now)
    assert run.abort("stop")
    assert abort(run.state, "again", run.now) is None
    assert run.record.abort == AbortRequest("stop", at=run.now)
    with pytest.raises(RunNotPausedError):
        find_pending(run.record, tool_call_id=None, decision_id=None)


def test_an_aborted_run_takes_no_answers_while_its_worker_ends_it() -> None:
    run = new().model([call("refund"), call("look")])
    run.claim("tool", "look")
    run.abort("stop")
    assert find_pending(run.record, tool_call_id="refund", decision_id=None) is None
    assert isinstance(not_pending(run.record), RunNotPausedError)


def test_a_call_that_ended_beside_others_before_an_abort_keeps_its_result() -> None:
    run = new().model([call("look", "one"), call("look", "two"), call("look", "three")])
    for call_id in ("one", "two", "three"):
        run.claim("tool", call_id)
    assert run.tool_beside_others("two")
    run.abort("stop")
    assert not run.tool_beside_others("one"), "the run is to end"
    assert run.abort(holding=True)
    assert run.check().status == "aborted"
    assert texts_of(run.messages, "toolResult") == ["two done"]
    assert run.shape().count("tool_execution_end") == 3


def test_an_execution_that_ended_before_an_abort_has_one_end() -> None:
    run = new().model([call("refund"), call("look", "two"), call("pay")])
    run.claim("tool", "two")
    run.lose("tool", "pay")
    run.doubt("pay").decide({"verdict": "done"}, "pay").tool("two").check()
    run.decide(YES, "refund").tool("pay", executed=False).check()
    assert run.abort()
    assert run.check().shape().count("tool_execution_end") == 2


def test_a_retried_execution_that_ended_beside_others_before_an_abort_has_one_end() -> None:
    run = new().model([call("look", "one"), call("pay"), call("look", "three")])
    run.claim("tool", "one")
    run.lose("tool", "pay")
    run.doubt("pay").decide({"verdict": "retry"}, "pay")
    assert run.tool_beside_others("pay")
    run.abort()
    assert run.abort(holding=True)
    assert run.check().shape().count("tool_execution_end") == 2
    assert texts_of(run.messages, "toolResult") == ["pay done"]


def test_an_ended_run_is_not_aborted() -> None:
    run = new().model("done")
    before = run.state
    assert not run.abort()
    assert run.state == before


def test_where_a_worker_holds_the_model_step_it_ends_the_run_and_keeps_what_was_streamed() -> None:
    run = new()
    claim = run.claim("model")
    assert run.abort("stop")
    assert (run.status, run.record.abort) == ("running", AbortRequest("stop", at=run.now))
    assert not run.abort("again")
    assert run.abort(holding=True, message=run.cut_message("half of it", "aborted"))
    run.check()
    assert run.record.error == RunError("aborted", "stop")
    last = run.messages[-1]
    assert (texts_of([last]), last["stopReason"]) == (["half of it"], "aborted")
    assert run.store.renew([claim.lease], 1000) == [LeaseStatus.LOST]


def test_a_model_step_whose_worker_is_gone_is_ended_by_another() -> None:
    run = new()
    run.lose("model")
    assert run.abort()
    assert run.status == "running"
    run.claim("model")
    assert run.abort(holding=True, message=run.cut_message("", "aborted"))
    assert run.check().status == "aborted"


def test_where_a_worker_holds_a_tool_step_it_ends_the_run() -> None:
    run = new().model([call("look"), call("look", "two"), call("look", "three")])
    run.claim("tool", "look")
    run.claim("tool", "two")
    assert run.abort()
    assert run.status == "running"
    assert run.abort(holding=True)
    run.check()
    assert run.shape().count("tool_execution_end") == 2
    assert run.messages[-1]["role"] == "assistant"


def test_a_tool_that_finished_in_time_keeps_its_result() -> None:
    run = new().model([call("look"), call("look", "two")])
    claim = run.claim("tool", "two")
    run.claim("tool", "look")
    run.abort()
    assert run.abort(holding=True, finished=(claim.lease.step, run.result(claim, "just in time"), True))
    run.check()
    assert texts_of(run.messages, "toolResult") == ["just in time"]


def test_a_rejected_call_that_an_abort_overtakes_has_no_execution_to_end() -> None:
    run = paused().reject("no")
    claim = run.claim("tool")
    run.abort()
    assert run.abort(holding=True, finished=(claim.lease.step, run.result(claim, "rejected: no", is_error=True), False))
    run.check()
    assert "tool_execution_end" not in run.shape()


def test_a_model_that_fails_ends_the_run_and_its_message() -> None:
    run = new()
    message = run.cut_message("half", "error")
    message.error_message = "overloaded"
    run.fail("provider_error", "overloaded", message).check()
    assert run.status == "failed"
    assert run.record.error == RunError("provider_error", "overloaded")
    assert run.shape()[-3:] == ["assistant message_end", "turn_end", "agent_end"]


@pytest.mark.parametrize("state", [tool_due, worker_gone, resumed, in_doubt])
def test_a_step_that_fails_ends_the_run_from_where_it_stands(state: Callable[[], Driver]) -> None:
    run = state()
    if run.status == "paused":
        run.decide({"verdict": "retry"})
    run.claim("tool")
    run.fail("step_failed", "it killed its workers").check()
    assert run.status == "failed"
    assert run.record.error is not None
    assert run.record.error.code == "step_failed"


def test_a_failing_step_ends_the_steps_beside_it() -> None:
    run = new().model([call("look"), call("look", "two")])
    other = run.claim("tool", "two")
    run.claim("tool", "look")
    run.fail("step_failed", "poison").check()
    assert run.shape().count("tool_execution_end") == 2
    assert run.store.renew([other.lease], 1000) == [LeaseStatus.LOST]

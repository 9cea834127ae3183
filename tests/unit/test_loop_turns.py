"""The loop while a run works: turns, tool calls and their order, messages from outside, limits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from msgspec import structs

from agentkit import tool
from agentkit.core.calls import Call, OtherCalls
from agentkit.core.events import MessageDiscard, ToolExecutionEnd, ToolExecutionResult
from agentkit.core.messages import Cost, Message, TextBlock, ToolResultMessage, Usage, UserMessage, text_of
from agentkit.core.record import TERMINAL, TRANSITIONS, Status
from agentkit.core.struct import check, encode, to_json
from agentkit.errors import LeaseLostError, RunNotPausedError
from agentkit.loop import call_end, finish_tool, next_turn
from agentkit.testing.store_changes import append
from tests.loop_driver import Driver, texts_of
from tests.tools import look, refund
from tests.turns import call


@tool
def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)


def spent(tokens: int = 0, dollars: float = 0.0) -> Usage:
    return Usage.of(input=tokens, cost=Cost.of(input=dollars))


# -- answers and tool calls ------------------------------------------------------------------------


def test_a_plain_answer_is_one_turn() -> None:
    run = Driver().start("hi")
    assert run.status == "queued"
    run.model("hello").check()
    assert run.status == "completed"
    assert run.shape() == [
        "agent_start",
        "user message_start",
        "user message_end",
        "turn_start",
        "assistant message_start",
        "message_update",
        "assistant message_end",
        "turn_end",
        "agent_end",
    ]
    assert texts_of(run.messages) == ["hi", "hello"]
    assert (run.record.turn, run.record.ended_at) == (1, run.now)


def test_a_history_stands_in_agent_start_and_is_not_repeated() -> None:
    history = [UserMessage("one", 1), Driver().answer_of("two")[1], UserMessage("three", 3)]
    run = Driver().start(history=history)
    assert run.events[0]["messages"] == to_json(history)
    run.model("four").check()
    assert texts_of(run.messages) == ["one", "two", "three", "four"]
    assert run.shape()[:3] == ["agent_start", "turn_start", "assistant message_start"]


def test_a_tool_call_is_executed_and_its_result_starts_the_next_turn() -> None:
    run = Driver(add).start().model([call("add", a=1, b=2)])
    assert run.status == "running"
    run.tool("add", "3").model("it is 3").check()
    assert run.status == "completed"
    assert run.shape()[6:] == [
        "assistant message_end",
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
    assert [m["role"] for m in run.messages] == ["user", "assistant", "toolResult", "assistant"]


def test_the_model_step_reads_the_whole_conversation_and_the_tool_step_its_call() -> None:
    run = Driver(add).start().model([call("add", a=1, b=2)])
    claim = run.claim("tool")
    assert claim.state.messages == ()
    assert claim.call == run.record.calls[0]
    run.tool("add")
    assert to_json(list(run.claim("model").state.messages)) == run.messages
    assert len(run.messages) == 3


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (call("nothing"), "there is no tool named 'nothing'; the tools are: add, look, refund"),
        (call("add", a=1), "do not satisfy the tool's parameters"),
        (call("add", a=1, b="x"), "/b"),
        ({**call("add"), "rawArguments": "{a: 1"}, "not a JSON object"),
        (call("refund", cents="many"), "do not satisfy"),
    ],
)
def test_a_call_that_cannot_be_executed_is_an_error_for_the_model_and_nobody_is_asked(block: Any, error: str) -> None:
    run = Driver(add, look, refund).start().model([block])
    assert run.status == "running"
    answer = run.messages[-1]
    assert answer["role"] == "toolResult"
    assert answer["isError"]
    assert error in text_of(check(answer, Message))
    assert not {"tool_execution_start", "tool_decision_pending"} & set(run.shape())
    run.model("sorry").check()
    assert run.status == "completed"


def test_raw_arguments_stand_in_the_message_as_the_model_wrote_them() -> None:
    run = Driver(add).start().model([{**call("add"), "rawArguments": "{a: 1"}]).check()
    assert run.messages[1]["content"][0]["rawArguments"] == "{a: 1"


def test_an_agent_without_tools_says_so_to_a_model_that_calls_one() -> None:
    run = Driver().start().model([call("add")])
    assert texts_of(run.messages)[-1].endswith("the tools are: none")


# -- several calls ---------------------------------------------------------------------------------


def test_parallel_calls_are_open_together_and_their_results_stand_in_the_calls_order() -> None:
    run = Driver(look).start().model([call("look", "one"), call("look", "two"), call("look", "three")])
    assert [step.call for step in run.record.steps] == [0, 1, 2]
    run.tool("three").tool("one").check()
    assert [m.get("toolCallId") for m in run.messages[2:]] == ["one"]
    run.tool("two").check()
    assert [m.get("toolCallId") for m in run.messages[2:]] == ["one", "two", "three"]
    run.model("done").check()


def test_sequential_calls_are_opened_one_after_the_other() -> None:
    run = Driver(look, parallel_tool_calls=False).start()
    run.model([call("look", "one"), call("look", "two"), call("look", "three")])
    for name in ("one", "two", "three"):
        assert [run.record.calls[step.call or 0].id for step in run.record.steps] == [name]
        run.tool(name)
    run.model("done").check()
    ends = [e.get("toolCallId") for e in run.events if e["type"].startswith("tool_execution")]
    assert ends == ["one", "one", "two", "two", "three", "three"]


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two", "three"])), ids="-".join)
def test_calls_that_end_beside_others_leave_the_same_log_as_by_transitions(order: Sequence[str]) -> None:
    def started() -> Driver:
        run = Driver(look).start().model([call("look", "one"), call("look", "two"), call("look", "three")])
        for call_id in ("one", "two", "three"):
            run.claim("tool", call_id)
        return run

    beside, whole = started(), started()
    for call_id in order:
        assert beside.tool_beside_others(call_id)
        beside.check()
    beside.model("done").check()
    for call_id in order:
        whole.tool(call_id)
    whole.model("done").check()
    assert beside.shape() == whole.shape()
    assert beside.messages == whole.messages


def sends(when: Literal["steer", "followUp"]) -> Callable[[Driver], object]:
    return lambda run: run.send("wait", when)


@pytest.mark.parametrize(
    ("limits", "happens", "follows"),
    [
        ({}, sends("followUp"), True),
        ({}, sends("steer"), False),
        ({"maxTurns": 2}, None, True),
        ({"maxTurns": 1}, None, False),
        ({"timeout": 60}, lambda run: run.expire(61), False),
    ],
    ids=["a follow-up", "a steer", "more turns", "no turn more", "time"],
)
def test_that_a_turn_follows_the_last_call_is_said_from_one_call_where_nothing_else_does(
    limits: Any, happens: Callable[[Driver], object] | None, follows: bool
) -> None:
    run = Driver(look).start(limits=limits).model([call("look", "one"), call("look", "two")])
    if happens is not None:
        happens(run)
    claims = [run.claim("tool", call_id) for call_id in ("one", "two")]
    change = next_turn(claims[1].state, run.agent, claims[1].lease.step, run.now)
    assert (change is not None) == follows
    assert run.tool_beside_others("one")
    assert run.tool_beside_others("two") == follows
    if follows:
        run.model("done")
    else:
        run.tool("two")
    run.check()


@pytest.mark.parametrize(
    "others",
    [OtherCalls(0, 1, 0, 0), OtherCalls(1, 1, 1, 0), OtherCalls(1, 1, 0, 1)],
    ids=["unknown", "asked", "works"],
)
def test_what_follows_the_last_call_is_not_said_where_the_others_have_not_just_steps(others: OtherCalls) -> None:
    run = Driver(look).start().model([call("look", "one"), call("look", "two")])
    claim = run.claim("tool", "one")
    assert next_turn(claim.state, run.agent, claim.lease.step, run.now) is not None
    state = replace(claim.state, record=structs.replace(claim.state.record, others=others))
    assert next_turn(state, run.agent, claim.lease.step, run.now) is None


def test_results_that_were_there_before_a_pending_call_follow_it_in_the_calls_order() -> None:
    calls = [call("look", "one"), call("refund", "two", cents=1), call("look", "three"), call("look", "four")]
    run = Driver(look, refund).start().model(calls)
    for call_id in ("one", "three", "four"):
        run.claim("tool", call_id)
    assert run.tool_beside_others("four")
    assert run.tool_beside_others("one")
    assert texts_of(run.messages, "toolResult") == ["one done"]
    run.tool("three").check()
    assert run.status == "paused"
    run.decide({"approved": True}).tool("two").model("done").check()
    assert texts_of(run.messages, "toolResult") == [f"{call_id} done" for call_id in ("one", "two", "three", "four")]


@pytest.mark.parametrize(("started", "executed"), [(False, False), (False, True), (True, False), (True, True)])
def test_an_executions_end_is_in_the_log_if_its_start_is(started: bool, executed: bool) -> None:
    made = Call("c", "look", {}, "ready", started=started)
    result = ToolResultMessage("c", "look", [TextBlock("x")], False, 5, details={"n": 1})
    end = call_end(made, result, executed)
    if not started and not executed:
        assert end is None
    else:
        assert end == ToolExecutionEnd(
            tool_call_id="c", tool_name="look", result=ToolExecutionResult([TextBlock("x")], {"n": 1}), is_error=False
        )


def test_a_result_is_a_message_of_the_time_at_which_its_call_ended() -> None:
    run = Driver(look).start().model([call("look", "one"), call("look", "two")])
    ended = run.now = run.now + 1000
    run.tool("two")
    run.now += 1000
    run.tool("one").check()
    assert [m["timestamp"] for m in run.messages if m["role"] == "toolResult"] == [run.now, ended]


def test_a_transition_leaves_the_calls_that_it_does_not_concern_the_same_objects() -> None:
    run = Driver(look).start().model([call("look", name) for name in ("one", "two", "three")])
    claim, state = run.claim("tool", "two"), run.state
    change = finish_tool(state, run.agent, claim.lease.step, run.result(claim, "x"), run.now, executed=True)
    same = [after is before for after, before in zip(change.record.calls, state.record.calls, strict=True)]
    assert same == [True, False, True]


def test_events_refer_to_messages_and_hold_no_copy_of_them() -> None:
    run = Driver(look).start("a secret").model([call("look")])
    claim, state = run.claim("tool"), run.state
    change = finish_tool(state, run.agent, claim.lease.step, run.result(claim, "xyzzy"), run.now, executed=True)
    assert change.before is state.record
    written = [encode(event) for event in change.events]
    assert [b"xyzzy" in event for event in written] == [True, *[False] * 3], (
        "only tool_execution_end may come before it"
    )
    assert written[1:] == [
        b'{"type":"message_start","message":\x012 1\x01}',
        b'{"type":"message_end","message":\x012 1\x01}',
        b'{"type":"turn_end","turn":1,"message":\x011 1\x01,"toolResults":[\x012 1\x01]}',
    ]


def test_a_mistaken_call_does_not_hold_up_its_neighbours() -> None:
    run = Driver(look).start().model([call("look", "one"), call("nothing"), call("look", "two")])
    run.tool("two").tool("one").model("done").check()
    assert [(m["toolCallId"], m["isError"]) for m in run.messages if m["role"] == "toolResult"] == [
        ("one", False),
        ("nothing", True),
        ("two", False),
    ]


def test_a_step_that_is_done_cannot_be_done_again() -> None:
    run = Driver(look).start().model([call("look", "one"), call("look", "two")])
    stale = run.lose("tool", "one")
    run.tool("one")
    with pytest.raises(LeaseLostError):
        append(run.store, stale.lease, [MessageDiscard(reason="x")], 1)
    run.tool("two").model("done").check()


# -- messages from outside -------------------------------------------------------------------------


def test_a_steer_for_a_call_that_has_not_begun_is_seen_by_it() -> None:
    run = Driver().start("one").send("two", "steer")
    assert [text_of(m) for m in run.claim("model").state.messages] == ["one", "two"]
    run.model("done").check()
    assert run.status == "completed"


def test_a_steer_while_tools_execute_is_seen_by_the_next_call() -> None:
    run = Driver(look).start().model([call("look")])
    run.claim("tool")
    run.send("hurry", "steer").check()
    run.tool("look")
    assert texts_of(run.messages)[-1] == "hurry"
    run.model("done").check()


def test_a_steer_that_no_call_would_see_starts_another_turn() -> None:
    run = Driver().start()
    run.claim("model")
    run.send("and this?", "steer").model("done").check()
    assert (run.status, run.record.turn) == ("running", 2)
    run.model("that too").check()
    assert run.status == "completed"


def test_follow_ups_start_a_turn_each_when_the_run_would_end() -> None:
    run = Driver(look).start().send("second", "followUp").send("third", "followUp")
    run.model([call("look")]).tool("look").model("first done")
    assert texts_of(run.messages)[-1] == "second"
    run.model("second done").model("third done").check()
    assert run.status == "completed"
    assert texts_of(run.messages, "user") == ["go", "second", "third"]


def test_messages_to_a_paused_run_wait_for_it() -> None:
    run = Driver(refund).start().model([call("refund", cents=1)])
    run.send("steer", "steer").send("later", "followUp").check()
    assert run.status == "paused"
    run.decide({"approved": True}).tool("refund").model("ok").model("later done").check()
    assert texts_of(run.messages, "user") == ["go", "steer", "later"]


@pytest.mark.parametrize("when", ["steer", "followUp"])
def test_an_ended_run_takes_no_messages(when: Any) -> None:
    run = Driver().start().model("done")
    with pytest.raises(RunNotPausedError):
        run.send("more", when)


# -- limits ----------------------------------------------------------------------------------------


def test_a_run_has_no_more_turns_than_its_limit() -> None:
    run = Driver(look).start(limits={"maxTurns": 2})
    run.model([call("look")]).tool("look").model([call("look", "again")]).tool("again").check()
    assert run.status == "failed"
    assert run.record.error is not None
    assert run.record.error.code == "limit_turns"
    assert run.record.turn == 2


def test_an_answer_in_the_last_turn_completes_the_run() -> None:
    assert Driver(max_turns=1).start().model("done").check().status == "completed"


def test_a_limit_of_the_run_goes_before_the_agents() -> None:
    run = Driver(look, max_turns=1).start(limits={"maxTurns": 2})
    assert run.model([call("look")]).tool("look").model("done").check().status == "completed"


@pytest.mark.parametrize(
    ("limits", "usage", "code"),
    [
        ({"maxTokens": 10}, spent(tokens=11), "limit_tokens"),
        ({"maxCost": 0.5}, spent(dollars=0.75), "limit_cost"),
    ],
)
def test_a_run_over_its_limit_executes_no_tool_more(limits: Any, usage: Any, code: str) -> None:
    run = Driver(look).start(limits=limits).model([call("look")], usage).check()
    assert run.status == "failed"
    assert run.record.error is not None
    assert run.record.error.code == code
    assert "tool_execution_start" not in run.shape()
    assert run.record.usage == usage


def test_what_is_used_exactly_is_not_over_the_limit() -> None:
    run = Driver(look).start(limits={"maxTokens": 10, "maxCost": 0.5})
    assert run.model([call("look")], spent(10, 0.5)).check().status == "running"


def test_the_time_of_a_run_is_limited_without_its_pauses() -> None:
    run = Driver(refund, look, timeout=10).start()
    run.now += 4_000
    run.model([call("refund", cents=1)])
    run.now += 3_600_000
    run.decide({"approved": True})
    run.now += 5_000
    run.tool("refund")
    assert run.status == "running"
    run.now += 1_000
    run.model([call("look")]).check()
    assert run.status == "failed"
    assert run.record.error is not None
    assert run.record.error.code == "limit_time"


@pytest.mark.parametrize("parallel", [True, False])
def test_a_run_whose_time_is_over_ends_between_tools_and_never_in_one(parallel: bool) -> None:
    run = Driver(look, timeout=10, parallel_tool_calls=parallel).start()
    run.model([call("look", "one"), call("look", "two"), call("look", "three")])
    executing = ["one", "two", "three"] if parallel else ["one"]
    for call_id in executing:
        run.claim("tool", call_id)
    run.now += 11_000
    for call_id in executing:
        assert run.check().status == "running"
        run.tool(call_id)
    assert run.check().status == "failed"
    assert run.record.error is not None
    assert run.record.error.code == "limit_time"
    assert texts_of(run.messages, "toolResult") == [f"{c} done" for c in executing]


# -- the table of transitions ----------------------------------------------------------------------


def test_nothing_follows_the_end_and_everything_can_reach_it() -> None:
    for status, following in TRANSITIONS.items():
        assert (not following) == (status in TERMINAL)
        assert Status.ABORTED in following or status in TERMINAL
    assert set(TRANSITIONS) == set(Status)

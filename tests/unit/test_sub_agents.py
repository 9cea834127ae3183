"""An agent as another's tool: its run is a run of its own, and the calling run waits without a process."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import (
    Agent,
    AgentKit,
    ConfigurationError,
    DecisionAmbiguousError,
    DecisionConflictError,
    Run,
    RunNotPausedError,
    ScriptedModel,
    tool,
)
from agentkit.loop.children import MAX_DEPTH
from tests.event_rules import check_log
from tests.turns import call

OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


@tool(decision=OK)
def pay(cents: int, decision: dict[str, Any]) -> str:
    """Pay."""
    return f"paid {cents}: {decision['ok']}"


def desk(*asks: int) -> AgentKit:
    """A boss that asks the cashier once per amount, all in one turn; the cashier's tool needs a decision."""
    cashier = Agent("cashier", ScriptedModel([[call("pay", cents=5)], "The cashier paid."], name="cashier"), "", [pay])
    turn = [call("cashier", input=f"pay {ask}") for ask in asks]
    boss = Agent("boss", ScriptedModel([turn, "All is paid."], name="boss"), "", [cashier.as_tool()])
    return AgentKit([boss])


def plain(answer: Any) -> AgentKit:
    helper = Agent("helper", ScriptedModel(answer, name="helper"))
    boss = Agent("boss", ScriptedModel([[call("helper", input="help")], "done"], name="boss"), "", [helper.as_tool()])
    return AgentKit([boss])


def children_of(kit: AgentKit, run: Run) -> list[Run]:
    """The runs that the run's tool calls started, in the order of the calls."""
    updates = [e for e in kit.handle(run.id).events(until_pause=True) if e["type"] == "tool_execution_update"]
    return [kit.get(e["partialResult"]["runId"]) for e in updates]


def checked(kit: AgentKit, run_id: str) -> Run:
    run = kit.get(run_id)
    check_log(list(kit.handle(run_id).events(until_pause=not run.ended)), run.messages)
    return run


def test_the_childs_answer_is_the_calls_result_and_its_usage_comes_up() -> None:
    kit = plain(["I have helped."])
    run = checked(kit, kit.run("boss", "go").id)
    [child] = children_of(kit, run)
    assert run.status == "completed"
    assert run.messages is not None
    result = next(m for m in run.messages if m["role"] == "toolResult")
    assert result["content"] == [{"type": "text", "text": "I have helped."}]
    assert result["details"] == {"runId": child.id, "usage": child.usage}
    assert child.status == "completed"
    assert child.parent_run_id == run.id
    assert child.to_json()["parentRunId"] == run.id
    own = sum(m["usage"]["totalTokens"] for m in run.messages if m["role"] == "assistant")
    assert run.usage["totalTokens"] == own + child.usage["totalTokens"]


def test_a_decision_pending_in_the_child_is_listed_on_the_parent_which_holds_no_step() -> None:
    kit = desk(5)
    run = checked(kit, kit.run("boss", "go").id)
    [child] = children_of(kit, run)
    assert run.status == child.status == "paused"
    assert run.pending == [{**child.pending[0], "runId": child.id}]


@pytest.mark.parametrize("through", ["parent", "child"])
def test_the_childs_decision_is_answered_on_either_run(through: str) -> None:
    kit = desk(5)
    run = kit.run("boss", "go")
    [child] = children_of(kit, run)
    kit.resume(run.id if through == "parent" else child.id, {"ok": True})
    assert checked(kit, child.id).status == "completed"
    assert checked(kit, run.id).status == "completed"


@pytest.mark.parametrize("through", ["parent", "child"])
def test_the_childs_decision_given_again_on_the_parent_is_the_same_answer(through: str) -> None:
    kit = desk(5)
    run = kit.run("boss", "go")
    [child] = children_of(kit, run)
    [item] = run.pending
    kit.resume(run.id if through == "parent" else child.id, {"ok": True}, decision_id=item["decisionId"])
    again = kit.resume(run.id, {"ok": True}, decision_id=item["decisionId"])
    [frame] = [part for part in b"".join(again.sse()).split(b"\n\n") if part.startswith(b"id: ")]
    assert b'"agent_end"' in frame
    with pytest.raises(DecisionConflictError):
        kit.resume(run.id, {"ok": False}, decision_id=item["decisionId"])
    with pytest.raises(RunNotPausedError):
        kit.resume(run.id, {"ok": True}, decision_id="another")


def test_two_children_are_answered_one_after_the_other_and_the_results_keep_their_order() -> None:
    kit = desk(5, 6)
    run = kit.run("boss", "go")
    with pytest.raises(DecisionAmbiguousError):
        kit.resume(run.id, {"ok": True})
    second, first = reversed(run.pending)
    kit.resume(run.id, {"ok": True}, decision_id=second["decisionId"])
    assert [item["decisionId"] for item in kit.get(run.id).pending] == [first["decisionId"]]
    kit.resume(run.id, {"ok": True}, decision_id=first["decisionId"])
    ended = checked(kit, run.id)
    assert ended.status == "completed"
    assert ended.messages is not None
    assert [m["toolCallId"] for m in ended.messages if m["role"] == "toolResult"] == ["call_0_0", "call_0_1"]


def test_abort_goes_down() -> None:
    kit = desk(5, 6)
    run = kit.run("boss", "go")
    children = children_of(kit, run)
    kit.abort(run.id, "enough")
    assert checked(kit, run.id).status == "aborted"
    assert [checked(kit, child.id).status for child in children] == ["aborted", "aborted"]
    with pytest.raises(RunNotPausedError):
        kit.resume(children[0].id, {"ok": True})


def test_a_child_that_is_aborted_by_itself_is_an_error_result() -> None:
    kit = desk(5)
    run = kit.run("boss", "go")
    [child] = children_of(kit, run)
    kit.abort(child.id, "not today")
    ended = checked(kit, run.id)
    assert ended.status == "completed"
    assert ended.messages is not None
    result = next(m for m in ended.messages if m["role"] == "toolResult")
    assert result["isError"]
    assert "not today" in result["content"][0]["text"]


def test_a_child_that_fails_is_an_error_result() -> None:
    kit = plain([])
    ended = checked(kit, kit.run("boss", "go").id)
    assert ended.status == "completed"
    assert ended.messages is not None
    assert next(m for m in ended.messages if m["role"] == "toolResult")["isError"]


def test_depth_is_limited() -> None:
    agent = Agent("level0", ScriptedModel(["the bottom"], name="level0"))
    for level in range(1, MAX_DEPTH + 2):
        below = agent.as_tool("down")
        agent = Agent(
            f"level{level}", ScriptedModel([[call("down", input="go")], "up"], name=f"level{level}"), "", [below]
        )
    kit = AgentKit([agent])
    run = kit.run(agent.name, "go")
    assert run.status == "completed"
    depth = 0
    while children := children_of(kit, run):
        [run] = children
        depth += 1
    assert depth == MAX_DEPTH
    assert run.messages is not None
    refused = next(m for m in run.messages if m["role"] == "toolResult")
    assert refused["isError"]
    assert f"{MAX_DEPTH} deep" in refused["content"][0]["text"]


def test_a_sub_agent_may_itself_need_a_decision_before_it_starts() -> None:
    helper = Agent("helper", ScriptedModel(["helped"], name="helper"))
    boss_model = ScriptedModel([[call("helper", input="help")], "done"], name="boss")
    kit = AgentKit([Agent("boss", boss_model, "", [helper.as_tool(decision=OK)])])
    run = kit.run("boss", "go")
    assert [item["toolName"] for item in run.pending] == ["helper"]
    assert children_of(kit, run) == []
    kit.resume(run.id, {"ok": True})
    assert checked(kit, run.id).status == "completed"


def test_two_agents_of_one_name_are_an_error_when_they_are_declared() -> None:
    helper = Agent("helper", "scripted:echo")
    with pytest.raises(ConfigurationError, match="helper"):
        AgentKit([Agent("helper", "scripted:echo"), Agent("boss", "scripted:echo", "", [helper.as_tool()])])

"""An agent that asks another, with real processes: nothing waits in a process, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call

pytestmark = pytest.mark.brokers("redis", "rabbitmq")

PAY = script([call("refund", order_id="A-1", cents=250)], "The money is back.")
TASK = script([call("support", input=PAY)], "I had it done.")


def child_of(stack: Stack, run_id: str) -> str:
    [update] = [e for e in stack.checked(run_id, "paused") if e["type"] == "tool_execution_update"]
    child: str = update["partialResult"]["runId"]
    return child


def test_a_childs_decision_is_answered_on_the_parent_after_everything_was_killed(stack: Stack) -> None:
    parent = stack.web_a.begin("boss", TASK)
    paused: dict[str, Any] = stack.wait_for(parent, "paused")
    child = child_of(stack, parent)
    assert [item["runId"] for item in paused["pending"]] == [child]
    stack.kill_workers()
    stack.web_a.kill()
    stack.repair()
    assert stack.web_b.resume(parent, decision={"approved": True}).status_code == 202
    ended = stack.wait_for(parent, "completed")
    stack.checked(parent)
    stack.checked(child)
    assert stack.web_b.get(child)["parentRunId"] == parent
    assert [m["content"][0]["text"] for m in ended["messages"] if m["role"] == "toolResult"] == ["The money is back."]
    assert len(stack.ledger.entries(run=child, tool="refund")) == 1


def test_an_abort_of_the_parent_ends_its_child(stack: Stack) -> None:
    parent = stack.web_a.begin("boss", TASK)
    stack.wait_for(parent, "paused")
    child = child_of(stack, parent)
    assert stack.web_b.abort(parent).status_code == 202
    stack.wait_for(parent, "aborted")
    stack.wait_for(child, "aborted")
    stack.checked(parent, "aborted")
    stack.checked(child, "aborted")
    assert stack.web_a.resume(child, decision={"approved": True}).status_code == 409
    assert not stack.ledger.entries(run=child)

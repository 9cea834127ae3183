"""Runs that wait: what happens when nobody answers, when somebody needs more time, and when people talk meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call
from tests.waiting import wait_until

pytestmark = pytest.mark.brokers("redis", "rabbitmq")

WITHIN_SECONDS = 5
"""From an item's `expiresAt` to its consequence."""


def asking(stack: Stack, *tools: str) -> dict[str, Any]:
    """A paused run that has called these tools in one turn."""
    return stack.wait_for(stack.web_a.begin("desk", script([call(name) for name in tools], "Done.")), "paused")


def late(item: dict[str, Any], event: dict[str, Any]) -> float:
    """How many seconds after its time an item was resolved."""
    return float(event["timestamp"] - item["expiresAt"]) / 1000


def results(run: dict[str, Any]) -> list[str]:
    return [message["content"][0]["text"] for message in run["messages"] if message["role"] == "toolResult"]


def said(run: dict[str, Any]) -> list[Any]:
    return [message["content"] for message in run["messages"] if message["role"] == "user"]


@pytest.mark.parametrize(
    ("tool", "status", "said", "executed"),
    [
        ("ask", "completed", ["rejected: nobody answered in time"], 0),
        ("presume", "completed", ["presumed False"], 1),
        ("insist", "aborted", [], 0),
    ],
)
def test_what_nobody_answers_expires_by_the_hand_of_any_worker(
    stack: Stack, tool: str, status: str, said: list[str], executed: int
) -> None:
    run = asking(stack, tool)
    [item] = run["pending"]
    stack.workers[0].kill()  # whichever made the run pause: the other one knows as much
    ended = stack.wait_for(run["id"], status)
    events = stack.checked(run["id"], status)
    [resolved] = [event for event in events if event["type"] == "tool_decision_resolved"]
    assert resolved["outcome"] == "expired"
    assert 0 <= late(item, resolved) < WITHIN_SECONDS
    assert results(ended) == said
    assert len(stack.ledger.entries(run=run["id"], tool=tool)) == executed
    assert ended.get("error", {}).get("code") == ("expired" if status == "aborted" else None)
    for answer in ({"decision": {"approved": True}}, {"reject": {"reason": "no"}}):
        refused = stack.web_b.resume(run["id"], decisionId=item["decisionId"], **answer)
        assert (refused.status_code, refused.json()["code"]) == (410, "decision_expired")


def test_what_expires_while_no_worker_is_there_is_resolved_by_the_next_one(stack: Stack) -> None:
    run = asking(stack, "ask")
    [item] = run["pending"]
    stack.kill_workers()
    wait_until(lambda: time.time() * 1000 > item["expiresAt"], what="the expiry")
    refused = stack.web_a.resume(run["id"], decision={"approved": True})
    assert (refused.status_code, refused.json()["code"]) == (410, "decision_expired")
    assert stack.web_b.get(run["id"])["status"] == "paused"
    stack.repair()
    stack.wait_for(run["id"], "completed", timeout=WITHIN_SECONDS)
    stack.checked(run["id"])


def test_an_extended_item_is_answered_after_its_first_time(stack: Stack) -> None:
    run = asking(stack, "ask")
    [item] = run["pending"]
    body = {"decisionId": item["decisionId"], "by": 3600}
    extended = stack.web_b.http.post(f"/runs/{run['id']}/extend", json=body)
    assert extended.status_code == 202
    assert extended.json()["pending"] == [{**item, "expiresAt": item["expiresAt"] + 3_600_000}]
    wait_until(
        lambda: time.time() * 1000 > item["expiresAt"] + 1500, what="a look of every worker after the first time"
    )
    assert stack.web_a.get(run["id"])["status"] == "paused"
    assert stack.web_a.resume(run["id"], decision={"approved": True}).status_code == 202
    assert results(stack.wait_for(run["id"], "completed")) == ["asked"]
    stack.checked(run["id"])


def test_one_of_two_items_expires_and_the_other_keeps_the_run_waiting(stack: Stack) -> None:
    run = asking(stack, "ask", "photo")
    photo = run["pending"][1]
    wait_until(lambda: stack.web_a.get(run["id"])["pending"] == [photo], what="the expiry")
    assert stack.web_b.get(run["id"])["status"] == "paused"
    assert (
        stack.web_b.resume(run["id"], reject={"reason": "no photos"}, decisionId=photo["decisionId"]).status_code == 202
    )
    ended = stack.wait_for(run["id"], "completed")
    assert results(ended) == ["rejected: nobody answered in time", "rejected: no photos"]
    stack.checked(run["id"])


def test_a_client_side_tool_is_first_decided_and_then_executed_by_the_client(stack: Stack) -> None:
    run = asking(stack, "photo")
    [first] = run["pending"]
    assert first["kind"] == "decision"
    answered = stack.web_a.resume(run["id"], decision={"approved": True}, decisionId=first["decisionId"])
    [second] = answered.json()["pending"]
    assert (answered.json()["status"], second["kind"]) == ("paused", "client_execute")
    again = stack.web_b.resume(run["id"], decision={"approved": True}, decisionId=first["decisionId"])
    assert (again.status_code, again.json()["pending"]) == (202, [second])
    wrong = stack.web_b.resume(run["id"], decision={"approved": True}, decisionId=second["decisionId"])
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_request")
    assert stack.web_b.resume(run["id"], result={"width": 640}, decisionId=second["decisionId"]).status_code == 202
    ended = stack.wait_for(run["id"], "completed")
    assert results(ended) == ['{"width": 640}']
    assert "tool_execution_start" not in [event["type"] for event in stack.checked(run["id"])]


def test_calls_that_need_nobody_are_executed_side_by_side(stack: Stack) -> None:
    run_id = stack.web_a.begin("desk", script([call("meet"), call("meet")], "Done."))
    assert results(stack.wait_for(run_id, "completed")) == ["met", "met"]
    stack.checked(run_id)


def test_messages_to_a_paused_run_approve_nothing_and_wait(stack: Stack) -> None:
    run = asking(stack, "photo")
    for when, message in (("followUp", script("Later, too.")), ("steer", script("Yes."))):
        sent = stack.web_b.http.post(f"/runs/{run['id']}/messages", json={"message": message, "when": when})
        assert (sent.status_code, sent.json()["pending"]) == (202, run["pending"])
        assert said(sent.json()) == said(run)
    assert stack.web_a.resume(run["id"], reject={"reason": "no"}).status_code == 202
    ended = stack.wait_for(run["id"], "completed")
    assert said(ended)[1:] == [script("Yes."), script("Later, too.")]
    roles = [message["role"] for message in ended["messages"]]
    assert roles == ["user", "assistant", "toolResult", "user", "assistant", "user", "assistant"]
    stack.checked(run["id"])
    late = stack.web_a.http.post(f"/runs/{run['id']}/messages", json={"message": "x", "when": "steer"})
    assert (late.status_code, late.json()["code"]) == (409, "run_not_paused")


def test_a_synchronous_tool_sees_the_abort_within_a_second(stack: Stack) -> None:
    run_id = stack.web_a.begin("desk", script([call("wait")], "Never said."))
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="wait"), what="the tool")
    began = time.monotonic()
    assert stack.web_b.abort(run_id).status_code == 202
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="wait noticed"), what="ctx.aborted")
    stack.wait_for(run_id, "aborted")
    assert time.monotonic() - began < 3.0, "a second, and what a busy machine adds to it"
    stack.checked(run_id, "aborted")


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"maxTurns": 1}, "limit_turns"), ({"maxTokens": 1}, "limit_tokens"), ({"timeout": 1}, "limit_time")],
)
def test_a_run_over_its_limit_fails_with_the_limits_own_code(stack: Stack, limits: dict[str, Any], code: str) -> None:
    message = script([call("look_up", order_id="A-1")], "Never said.", silent=code == "limit_time")
    body = {"agent": "desk", "input": message, "limits": limits}
    run_id = stack.web_a.http.post("/runs", json=body).json()["id"]
    assert stack.wait_for(run_id, "failed")["error"]["code"] == code
    stack.checked(run_id, "failed")

"""Answers and readers over HTTP, from two web processes at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WebProcess
from tests.turns import call

pytestmark = pytest.mark.brokers("redis", "rabbitmq")

ASK = script([call("refund", order_id="A-1", cents=250)], "Done.")
MANY = 50


def paused_run(stack: Stack, message: str = ASK) -> dict[str, Any]:
    return stack.wait_for(stack.web_a.begin("support", message), "paused")


def sides(stack: Stack) -> list[WebProcess]:
    return [stack.web_a, stack.web_b]


def test_reconnecting_after_every_seq_gives_exactly_the_rest(stack: Stack) -> None:
    run = paused_run(stack)
    stack.web_b.resume(run["id"], decision={"approved": True})
    stack.wait_for(run["id"], "completed")
    events = stack.checked(run["id"])
    head, *frames = stack.web_a.sse(run["id"]).split(b"\n\n")
    assert len(frames) == len(events) + 1
    for web in sides(stack):
        for seq in range(len(events)):
            assert web.sse(run["id"], after=seq) == b"\n\n".join([head, *frames[seq:]])
        assert web.sse_status(run["id"], len(events)) == 204
        assert web.sse_status(run["id"], len(events) + 1) == 400


def test_a_reader_that_hangs_up_after_every_event_of_a_live_stream_misses_nothing(stack: Stack) -> None:
    run_id = stack.web_a.begin("support", script([call("look_up", order_id="A-1")], "It is there.", delay=0.05))
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["type"] != "agent_end":
        with closing(sides(stack)[len(seen) % 2].follow(run_id, len(seen))) as stream:
            seen.append(next(stream))
    assert seen == stack.checked(run_id)


def test_an_invalid_decision_says_where_and_the_run_can_still_be_resumed(stack: Stack) -> None:
    run = paused_run(stack)
    for answer, code, path in (
        ({"decision": {"approved": "yes"}}, "decision_invalid", "/approved"),
        ({"decision": {}}, "decision_invalid", ""),
        ({"decision": {"approved": True}, "input": {"order_id": "A-1", "cents": "all"}}, "input_invalid", "/cents"),
    ):
        refused = stack.web_a.resume(run["id"], **answer)
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == code
        assert path in [error["path"] for error in refused.json()["errors"]]
    assert stack.web_b.get(run["id"]) == run
    assert stack.web_b.resume(run["id"], decision={"approved": True}).status_code == 202
    stack.wait_for(run["id"], "completed")
    stack.checked(run["id"])


@pytest.mark.parametrize("run_id", ["01a205ab-f78c-7000-92e1-4f5161368e9c", "nonsense"])
def test_an_unknown_run_is_404_everywhere(stack: Stack, run_id: str) -> None:
    web = stack.web_a
    for response in (
        web.http.get(f"/runs/{run_id}"),
        web.http.get(f"/runs/{run_id}/events"),
        web.resume(run_id, decision=True),
        web.abort(run_id),
        web.http.delete(f"/runs/{run_id}"),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "run_not_found")


def test_of_many_same_answers_at_once_one_is_executed_and_all_are_accepted(stack: Stack) -> None:
    run = paused_run(stack)
    [item] = run["pending"]

    def answer(number: int) -> int:
        web = sides(stack)[number % 2]
        return web.resume(run["id"], decision={"approved": True}, decisionId=item["decisionId"]).status_code

    with ThreadPoolExecutor(MANY) as threads:
        assert Counter(threads.map(answer, range(MANY))) == {202: MANY}
    stack.wait_for(run["id"], "completed")
    events = stack.checked(run["id"])
    assert [event["type"] for event in events].count("tool_decision_resolved") == 1
    assert len(stack.ledger.entries(run=run["id"], tool="refund")) == 1
    again = stack.web_a.resume(run["id"], decision={"approved": True}, decisionId=item["decisionId"])
    assert (again.status_code, again.json()["status"]) == (202, "completed")
    assert len(stack.ledger.entries(run=run["id"], tool="refund")) == 1


def test_of_many_different_answers_at_once_one_is_accepted(stack: Stack) -> None:
    run = paused_run(stack)
    [item] = run["pending"]

    def answer(number: int) -> tuple[int, str]:
        decision = {"approved": True, "note": number}
        response = sides(stack)[number % 2].resume(run["id"], decision=decision, decisionId=item["decisionId"])
        return response.status_code, response.json().get("code", "")

    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(answer, range(MANY)))
    assert Counter(answers) == {(202, ""): 1, (409, "decision_conflict"): MANY - 1}
    stack.wait_for(run["id"], "completed")
    events = stack.checked(run["id"])
    [resolved] = [event for event in events if event["type"] == "tool_decision_resolved"]
    assert resolved["decision"]["note"] == answers.index((202, ""))
    assert len(stack.ledger.entries(run=run["id"], tool="refund")) == 1


def test_two_items_of_one_turn_are_answered_in_reverse_through_two_web_processes(stack: Stack) -> None:
    calls = [
        call("refund", order_id="A-1", cents=100),
        call("look_up", order_id="A-2"),
        call("refund", order_id="A-3", cents=300),
    ]
    run = paused_run(stack, script(calls, "All done."))
    first, second = run["pending"]
    assert [item["input"]["order_id"] for item in (first, second)] == ["A-1", "A-3"]
    ambiguous = stack.web_a.resume(run["id"], decision={"approved": True})
    assert (ambiguous.status_code, ambiguous.json()["code"]) == (409, "decision_ambiguous")

    later = stack.web_b.resume(run["id"], decision={"approved": False}, toolCallId=second["toolCallId"])
    assert (later.status_code, later.json()["status"]) == (202, "paused")
    assert stack.web_a.get(run["id"])["pending"] == [first]
    assert stack.ledger.entries(run=run["id"], tool="refund") == []
    sooner = stack.web_a.resume(run["id"], decision={"approved": True}, decisionId=first["decisionId"])
    assert sooner.status_code == 202

    run = stack.wait_for(run["id"], "completed")
    stack.checked(run["id"])
    results = [m["content"][0]["text"] for m in run["messages"] if m["role"] == "toolResult"]
    assert results == ["refunded 100 for A-1", "A-2 was delivered", "not approved"]
    assert len(stack.ledger.entries(run=run["id"])) == 3

"""Votes, remembered answers and conditions over HTTP and WebSocket, with principals that the application knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, Run, ScriptedModel, ToolContext, tool
from agentkit.core.messages import Json
from tests.sockets import SocketClient
from tests.tools import APPROVAL, YES
from tests.turns import call
from tests.unit.web.conftest import Web, assert_problem, frames
from tests.unit.web.test_access import ADA, BOB, EVE, begin, build, by_name

__all__ = ["build"]  # the fixture

CARL = {"Authorization": "Bearer carl"}
NO = {"approved": False}


@tool(decision=APPROVAL, approvals=2)
def transfer(cents: int, ctx: ToolContext) -> str:
    """Transfer some cents."""
    return f"{cents} for {'+'.join(vote.decided_by for vote in ctx.votes)}"


@tool(decision=APPROVAL, remember=True, decision_when=lambda args, ctx: args["cents"] > 1)
def refund(cents: int) -> str:
    """Refund some cents."""
    return f"refunded {cents}"


AGENTS = [
    Agent("bank", ScriptedModel([[call("transfer", cents=500)], "Done."]), tools=[transfer]),
    Agent("shop", ScriptedModel([[call("refund", str(at), cents=at)] for at in range(4)]), tools=[refund]),
]


@pytest.fixture
def web(build: Callable[..., Web]) -> Web:
    """Everybody may do everything, and `web.asked` is what `may` was asked about items."""
    asked: list[tuple[str, str, Json]] = []

    def may(principal: str, action: str, run: Run, item: Json | None) -> bool:
        if item is not None:
            asked.append((principal, action, item))
        return principal != "eve" or action == "read"

    web = build(AGENTS, {"authenticate": by_name, "may": may})
    web.asked = asked  # type: ignore[attr-defined]
    return web


def answer(web: Web, run_id: str, who: Json, body: Any = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.client.post(f"/runs/{run_id}/resume", json=body or {"decision": YES}, headers={**who, **named})


def item_of(web: Web, run_id: str) -> Json:
    [item] = web.client.get(f"/runs/{run_id}", headers=ADA).json["pending"]
    return dict(item)


def result_of(web: Web, run_id: str) -> str:
    run = web.kit.handle(run_id).wait(10)
    return next(str(m["content"][0]["text"]) for m in run.messages or [] if m["role"] == "toolResult")


def test_two_principals_decide_and_the_first_ones_reply_shows_its_vote(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    first = answer(web, run_id, BOB)
    assert (first.status_code, first.json["status"]) == (202, "paused")
    [item] = first.json["pending"]
    assert (item["approvals"], [vote["decidedBy"] for vote in item["votes"]]) == (2, ["bob"])
    assert isinstance(item["votes"][0]["decidedAt"], int)
    assert answer(web, run_id, BOB).json["pending"] == [item], "a second vote changes nothing"
    assert_problem(answer(web, run_id, CARL, {"decision": NO}), 409, "decision_conflict")
    assert answer(web, run_id, CARL, {"decision": YES, "decisionId": item["decisionId"]}).status_code == 202
    assert result_of(web, run_id) == "500 for bob+carl"


def test_the_owner_and_who_has_no_right_are_refused(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    for who in (ADA, EVE):
        for body in ({"decision": YES}, {"reject": {"reason": "no"}}):
            assert_problem(answer(web, run_id, who, body), 403, "forbidden")
    assert item_of(web, run_id)["votes"] == []


def test_without_authentication_nobody_has_a_name_and_it_is_said(build: Callable[..., Web]) -> None:
    web = build(AGENTS, {})
    run_id = begin(web, {}, "bank")
    problem = assert_problem(answer(web, run_id, {}), 403, "forbidden")
    assert "2 principals" in problem["detail"]


def test_may_is_asked_with_the_item_and_its_votes(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    answer(web, run_id, BOB)
    answer(web, run_id, CARL)
    asked = web.asked  # type: ignore[attr-defined]
    assert [(who, action, [vote["decidedBy"] for vote in item["votes"]]) for who, action, item in asked] == [
        ("bob", "resume", []),
        ("carl", "resume", ["bob"]),
    ]


def test_a_rejection_by_one_settles_it_over_http(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    answer(web, run_id, BOB)
    assert answer(web, run_id, CARL, {"reject": {"reason": "too much"}}).status_code == 202
    assert result_of(web, run_id) == "rejected: too much"


def test_an_idempotency_key_is_each_voters_own(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    for _ in range(2):
        assert answer(web, run_id, BOB, Idempotency_Key="k").status_code == 202
    assert_problem(answer(web, run_id, BOB, {"decision": NO}, Idempotency_Key="k"), 409, "idempotency_conflict")
    assert len(item_of(web, run_id)["votes"]) == 1
    assert answer(web, run_id, CARL, Idempotency_Key="k").status_code == 202
    assert result_of(web, run_id) == "500 for bob+carl"


def test_a_vote_as_a_stream_begins_with_its_event(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    streamed = answer(web, run_id, BOB, Accept="text/event-stream")
    assert [event["type"] for _, event in frames(streamed.data)] == ["tool_decision_vote"], "the run is still paused"
    settled = answer(web, run_id, CARL, Accept="text/event-stream")
    types = [event["type"] for _, event in frames(settled.data)]
    assert (types[0], types[-1]) == ("tool_decision_resolved", "agent_end")


def test_votes_over_a_websocket_count_for_who_opened_it(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    token = web.client.post(f"/runs/{run_id}/stream-token", json={"scope": "answer"}, headers=BOB).json["token"]
    by_token = SocketClient(web.app, f"/runs/{run_id}/ws?token={token}")
    by_header = SocketClient(web.app, f"/runs/{run_id}/ws", CARL)
    by_owner = SocketClient(web.app, f"/runs/{run_id}/ws", ADA)
    for client in (by_token, by_header, by_owner):
        client.read("agent_pause")
    by_owner.send(type="resume", decision=YES)
    assert by_owner.read("error")[-1]["code"] == "forbidden"
    by_token.send(type="resume", decision=YES)
    by_token.read("ok")
    vote = by_header.read("tool_decision_vote")[-1]
    assert (vote["decidedBy"], vote["votes"], vote["approvals"]) == ("bob", 1, 2)
    by_header.send(type="resume", decision=YES, remember=True)
    assert by_header.read("error")[-1]["code"] == "invalid_request"
    by_header.send(type="resume", decision=YES)
    by_header.read("agent_end")
    for client in (by_token, by_header, by_owner):
        client.close()
    assert result_of(web, run_id) == "500 for bob+carl"


def test_an_answer_is_remembered_over_http_and_only_where_the_tool_allows_it(web: Web) -> None:
    run_id = begin(web, ADA, "bank")
    problem = assert_problem(answer(web, run_id, BOB, {"decision": YES, "remember": True}), 400, "invalid_request")
    assert problem["errors"][0]["path"] == "/remember"
    assert_problem(answer(web, run_id, BOB, {"decision": YES, "remember": "yes"}), 400, "invalid_request")

    run_id = begin(web, ADA, "shop")
    item = item_of(web, run_id)
    assert (item["toolCallId"], item["remember"]) == ("2", True)
    assert item["reason"] == "decision_when says that this call needs the decision"
    assert answer(web, run_id, BOB, {"decision": YES, "remember": True}).status_code == 202
    web.kit.handle(run_id).wait(10)
    events = [event for _, event in frames(web.client.get(f"/runs/{run_id}/events", headers=ADA).data)]
    resolved = [event for event in events if event["type"] == "tool_decision_resolved"]
    assert [(event["toolCallId"], event.get("remembered")) for event in resolved] == [("2", None), ("3", True)]
    assert {event["decidedBy"] for event in resolved} == {"bob"}


def test_the_definitions_say_who_decides(web: Web) -> None:
    bank, shop = web.client.get("/agents", headers=ADA).json["agents"]
    assert (bank["tools"][0]["approvals"], "remember" in bank["tools"][0]) == (2, False)
    assert (shop["tools"][0]["decisionWhen"], shop["tools"][0]["remember"]) == (True, True)

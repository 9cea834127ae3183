"""`POST /runs {from}`: what is taken, refused and shown over HTTP, and whom the server asks before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, ForbiddenError, ScriptedModel
from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from tests.tools import APPROVAL, refund
from tests.turns import call
from tests.unit.web.conftest import Web, assert_problem, frames
from tests.unit.web.test_access import ADA, BOB, EVE, begin, bob_looks_on, build, by_name

__all__ = ["build"]  # the fixture

Build = Callable[..., Web]


def ended(web: Web, agent: str = "hello", **more: Any) -> str:
    """Start a run of an agent that asks nobody, wait for its end and return its id."""
    run_id = web.start(agent, **more)
    assert web.kit.get(run_id).ended
    return run_id


def start(web: Web, **body: Any) -> Json:
    """Start a run and return it as it ended or paused."""
    response = web.client.post("/runs", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == f"/runs/{response.json['id']}"
    return web.kit.handle(response.json["id"]).wait(10).to_json()


def test_a_run_begins_with_another_runs_messages_and_the_input(web: Web) -> None:
    source_id = ended(web)
    source = web.client.get(f"/runs/{source_id}").json
    run = start(web, **{"from": {"runId": source_id}, "input": "and?"})
    assert run["messages"][:2] == source["messages"]
    assert [message["role"] for message in run["messages"]] == ["user", "assistant", "user", "assistant"]
    assert (run["agent"], run["origin"]) == ("hello", {"runId": source_id, "turn": 1})
    assert run["usage"] == run["messages"][-1]["usage"], "the cost is that of the new run alone"
    assert web.client.get(f"/runs/{source_id}").json == source
    listed = web.client.get("/runs").json["runs"][0]
    assert (listed["id"], listed["origin"]) == (run["id"], run["origin"])
    assert "origin" not in source


def test_the_answer_may_be_a_stream_that_folds_into_the_run(web: Web) -> None:
    source_id = ended(web)
    body = {"from": {"runId": source_id, "turn": 1}, "input": "and?"}
    response = web.client.post("/runs", json=body, headers={"Accept": "text/event-stream"})
    assert response.status_code == 200
    events = [event for _, event in frames(response.data)]
    run = web.client.get(response.headers["Location"]).json
    folded = [*events[0]["messages"], *(e["message"] for e in events if e["type"] == "message_end")]
    assert folded == run["messages"]
    assert len(events[0]["messages"]) == 2
    assert events[-1]["type"] == "agent_end"


@pytest.mark.parametrize(
    ("body", "says", "path"),
    [
        ({"from": {}}, "from.runId is missing", "/from"),
        ({"from": "ID"}, "from must be an object", "/from"),
        ({"from": None}, "from must be an object", "/from"),
        ({"from": {"runId": 5}}, "from.runId must be a string", "/from/runId"),
        ({"from": {"runId": "ID", "turn": "1"}}, "from.turn must be a whole number", "/from/turn"),
        ({"from": {"runId": "ID", "turn": 1.5}}, "from.turn must be a whole number", "/from/turn"),
        ({"from": {"runId": "ID", "turn": True}}, "from.turn must be a whole number", "/from/turn"),
        ({"from": {"runId": "ID", "turn": None}}, "from.turn must be a whole number", "/from/turn"),
        ({"from": {"runId": "ID", "turn": -1}}, "from.turn must be a whole number from 0", "/from/turn"),
        ({"from": {"runId": "ID", "turn": 0}}, "from.turn is 0", "/from/turn"),
        ({"from": {"runId": "ID", "turn": 2}}, "from.turn is 2", "/from/turn"),
        ({"from": {"runId": "ID", "step": 2}}, "unknown field 'from.step'", "/from"),
        ({"from": {"runId": "ID"}, "messages": [{"role": "user", "content": "x"}]}, "messages or from", ""),
        ({"from": {"runId": "ID"}, "input": ""}, "input is empty", None),
        ({"from": {"runId": "ID"}, "input": None}, "leave it out", "/input"),
        ({"from": {"runId": "ID"}, "agent": None}, "leave it out", "/agent"),
        ({"from": {"runId": "ID"}}, "nothing to go on from", None),
        ({"from": {"runId": "ID"}, "input": "x", "model": "nobody:x"}, "model", "/model"),
        ({"from": {"runId": "ID"}, "input": "x", "metadata": []}, "metadata", "/metadata"),
    ],
)
def test_what_is_wrong_with_it_is_said_and_nothing_begins(web: Web, body: Json, says: str, path: str | None) -> None:
    source_id = ended(web)
    if isinstance(body["from"], dict) and body["from"].get("runId") == "ID":
        body = {**body, "from": {**body["from"], "runId": source_id}}
    problem = assert_problem(web.client.post("/runs", json=body), 400, "invalid_request")
    assert says in problem["detail"]
    if path is not None:
        assert problem["errors"][0]["path"] == path
    assert [run["id"] for run in web.client.get("/runs").json["runs"]] == [source_id]


def test_a_run_that_is_not_there_or_has_not_ended_is_refused(web: Web) -> None:
    for absent in ("nobody", "0190a6f0-0000-7000-8000-000000000000", "", "\ud83d\ude00", "x" * 10_000):
        body = {"from": {"runId": absent}, "input": "x"}
        assert_problem(web.client.post("/runs", json=body), 404, "run_not_found")
    paused = web.start("shop")
    problem = assert_problem(web.client.post("/runs", json={"from": {"runId": paused}}), 409, "run_not_terminal")
    assert "paused" in problem["detail"]
    assert_problem(
        web.client.post("/runs", json={"agent": "nobody", "from": {"runId": ended(web)}, "input": "x"}),
        404,
        "agent_not_found",
    )


def test_a_failed_run_is_tried_again_over_http(build: Build) -> None:
    refused = [1]

    def answer(messages: list[Any]) -> str:
        if refused:
            raise ProviderError("slow down", status=refused.pop() + 428)
        return "well"

    web = build([Agent("hello", ScriptedModel(answer))], hooks={})
    source_id = ended(web)
    source = web.client.get(f"/runs/{source_id}").json
    assert (source["status"], source["error"]["code"]) == ("failed", "provider_error")
    run = start(web, **{"from": {"runId": source_id}})
    assert (run["status"], run["origin"]) == ("completed", {"runId": source_id, "turn": 0})
    assert [message["role"] for message in run["messages"]] == ["user", "assistant"]
    assert start(web, **{"from": run["origin"]})["messages"][0] == source["messages"][0]


def test_the_same_key_starts_one_run_whatever_becomes_of_the_source(web: Web) -> None:
    source_id = ended(web)
    body, headers = {"from": {"runId": source_id}, "input": "x"}, {"Idempotency-Key": "k"}
    first = web.client.post("/runs", json=body, headers=headers).json
    web.client.delete(f"/runs/{source_id}")
    again = web.client.post("/runs", json=body, headers=headers)
    assert (again.status_code, again.json["id"]) == (202, first["id"])
    other = {**body, "from": {"runId": source_id, "turn": 1}}
    assert_problem(web.client.post("/runs", json=other, headers=headers), 409, "idempotency_conflict")
    assert_problem(web.client.post("/runs", json=body), 404, "run_not_found")


def test_a_history_beyond_the_bound_is_too_large(build: Build) -> None:
    web = build(hooks={}, max_history_bytes=100)
    problem = assert_problem(
        web.client.post("/runs", json={"from": {"runId": ended(web)}, "input": "x"}), 413, "payload_too_large"
    )
    assert "AGENTKIT_MAX_HISTORY_BYTES" in problem["detail"]


def test_a_run_that_the_caller_may_not_read_does_not_exist(build: Build) -> None:
    web = build()
    run_id = begin(web, ADA, "hello")
    body = {"agent": "hello", "from": {"runId": run_id}, "input": "x"}
    absent = {**body, "from": {"runId": "nobody"}}
    theirs = assert_problem(web.client.post("/runs", json=body, headers=EVE), 404, "run_not_found")
    nobodys = assert_problem(web.client.post("/runs", json=absent, headers=EVE), 404, "run_not_found")
    assert theirs["detail"].replace(run_id, "nobody") == nobodys["detail"]
    assert_problem(web.client.post("/runs", json=body), 401, "unauthenticated")
    paused = begin(web, ADA)
    body = {"from": {"runId": paused}}
    assert_problem(web.client.post("/runs", json=body, headers=EVE), 404, "run_not_found")
    assert_problem(web.client.post("/runs", json=body, headers=ADA), 409, "run_not_terminal")
    assert web.client.get("/runs", headers=EVE).json == {"runs": []}


def test_the_history_of_the_server_needs_no_client_history_and_the_new_run_is_the_callers(build: Build) -> None:
    web = build(hooks={"authenticate": by_name, "may": bob_looks_on})
    run_id = begin(web, ADA, "hello")
    response = web.client.post("/runs", json={"from": {"runId": run_id}, "input": "and?"}, headers=BOB)
    assert response.status_code == 202
    assert response.json["owner"] == "bob"
    assert web.client.get(f"/runs/{response.json['id']}", headers=ADA).status_code == 404
    assert web.client.get(f"/runs/{run_id}", headers=ADA).json["owner"] == "ada"


def test_may_is_asked_with_the_run_that_would_begin(build: Build) -> None:
    asked: list[Any] = []

    def may(principal: str, action: str, run: Any, item: Any) -> bool:
        asked.append((action, run.id, run.agent, run.origin, run.owner, run.messages, item))
        return action != "start" or run.origin is None

    web = build(hooks={"authenticate": by_name, "may": may})
    run_id = begin(web, ADA, "hello")
    asked.clear()
    body = {"from": {"runId": run_id}, "input": "x"}
    assert_problem(web.client.post("/runs", json=body, headers=ADA), 403, ForbiddenError.code)
    (read, of, *_), (action, new_id, agent, origin, owner, messages, item) = asked
    assert (read, of) == ("read", run_id)
    assert (action, agent, owner, messages, item) == ("start", "hello", "ada", None, None)
    assert origin == {"runId": run_id, "turn": 1}
    assert new_id != run_id


def test_a_sub_agents_run_may_be_started_from_by_its_owner(build: Build) -> None:
    child = Agent("child", ScriptedModel(["from the child"]))
    parent = Agent("parent", ScriptedModel([[call("child", input="do it")], "done"]), tools=[child.as_tool()])
    web = build([parent])
    run_id = begin(web, ADA, "parent")
    messages = web.client.get(f"/runs/{run_id}", headers=ADA).json["messages"]
    child_id = next(message for message in messages if message["role"] == "toolResult")["details"]["runId"]
    body = {"from": {"runId": child_id}, "input": "and?"}
    assert_problem(web.client.post("/runs", json=body, headers=EVE), 404, "run_not_found")
    forked = web.client.post("/runs", json=body, headers=ADA).json
    assert (forked["agent"], forked["origin"], "parentRunId" in forked) == (
        "child",
        {"runId": child_id, "turn": 1},
        False,
    )


def test_a_fork_waits_for_its_own_decisions(web: Web) -> None:
    paused = web.start("shop")
    web.resume(paused, {"decision": {"approved": True}})
    source = web.kit.handle(paused).wait(10)
    assert source.status == "completed"
    fork = start(web, **{"from": {"runId": paused}, "input": "again"})
    assert [item["schema"] for item in fork["pending"]] == [APPROVAL]
    assert fork["pending"][0]["toolName"] == refund.name
    web.resume(fork["id"], {"decision": {"approved": False}})
    done = web.kit.handle(fork["id"]).wait(10)
    assert [m["role"] for m in done.messages or []] == ["user", "assistant", "toolResult", "assistant"] * 2

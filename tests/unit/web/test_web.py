"""Runs over HTTP: answers, streams, listings, and what the processes say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from agentkit import AgentKit
from agentkit.errors import ConfigurationError
from agentkit.runtime import web_server
from agentkit.server.streams import open_streams
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.flaky_store import FlakyStore
from tests.metrics import value
from tests.unit.web.conftest import AGENTS, SERVERS, ThreadQueue, Web, frames
from tests.waiting import wait_until
from tests.wire import fold

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    """Each kind of server, Django's by ASGI included: that one is in this file alone, as it takes the longest."""
    kind: str = request.param
    return kind


def test_starting_a_run_answers_with_it_and_where_it_is(web: Web) -> None:
    body = {"agent": "hello", "input": "häi", "metadata": {"tenant": "ü"}, "limits": {"maxTurns": 3}}
    response = web.client.post("/runs", json=body)
    assert response.status_code == 202
    assert response.content_type == "application/json"
    run = response.json
    assert response.headers["Location"] == f"/runs/{run['id']}"
    assert run["status"] in ("queued", "running", "completed")
    ended = web.kit.handle(run["id"]).wait(10)
    answer = web.client.get(response.headers["Location"])
    assert answer.json == ended.to_json()
    assert answer.json["metadata"] == {"tenant": "ü"}


def test_a_history_is_taken_in_place_of_an_input(web: Web) -> None:
    history = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "three"},
    ]
    response = web.client.post("/runs", json={"agent": "hello", "messages": history})
    run = web.kit.handle(response.json["id"]).wait(10)
    assert [message["role"] for message in run.messages or ()] == ["user", "assistant", "user", "assistant"]


def test_starting_with_sse_streams_from_the_first_event_to_the_end(web: Web) -> None:
    response = web.client.post("/runs", json={"agent": "hello", "input": "x"}, headers=SSE)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    run_id = response.headers["Location"].removeprefix("/runs/")
    body = response.data
    assert body.startswith(b"retry: ")
    events = frames(body)
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert all(event["seq"] == seq for seq, event in events)
    assert events[0][1]["type"] == "agent_start"
    assert events[-1][1]["type"] == "agent_end"
    assert fold(event for _, event in events) == web.kit.get(run_id).messages


def test_a_stream_of_a_start_ends_at_the_pause_and_that_of_an_answer_begins_at_it(web: Web) -> None:
    started = web.client.post("/runs", json={"agent": "shop", "input": "x"}, headers=SSE)
    first = frames(started.data)
    assert first[-1][1]["type"] == "agent_pause"
    location = started.headers["Location"]
    answer = {"decision": {"approved": True}, "decisionId": first[-1][1]["pending"][0]["decisionId"]}
    answered = web.client.post(f"{location}/resume", json=answer, headers=SSE)
    assert answered.status_code == 200
    assert answered.headers["Location"] == location
    second = frames(answered.data)
    assert second[0][1]["type"] == "tool_decision_resolved"
    assert second[-1][1]["type"] == "agent_end"
    assert [seq for seq, _ in first + second] == list(range(1, len(first + second) + 1))
    again = web.client.post(f"{location}/resume", json=answer, headers=SSE)
    assert frames(again.data) == second


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/html", False),
        ("text/event-stream;q=0", False),
        ("application/json, text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream; charset=utf-8", True),
    ],
)
def test_only_who_asks_for_events_gets_them(web: Web, accept: str, streams: bool) -> None:
    response = web.client.post("/runs", json={"agent": "hello", "input": "x"}, headers={"Accept": accept})
    kind = "text/event-stream" if streams else "application/json"
    assert (response.status_code, response.content_type) == (200 if streams else 202, kind)
    response.close()


def test_rejecting_and_answering_for_the_client_go_on(web: Web) -> None:
    refused = web.start("shop")
    response = web.resume(refused, {"reject": {"reason": "too much"}})
    assert response.status_code == 202
    assert response.json["status"] in ("queued", "running", "completed")
    assert "too much" in json.dumps(web.kit.handle(refused).wait(10).messages)
    located = web.start("map")
    assert web.resume(located, {"result": "at home"}).status_code == 202
    assert "at home" in json.dumps(web.kit.handle(located).wait(10).messages)


def test_reconnecting_after_every_seq_gives_exactly_the_rest(web: Web) -> None:
    run_id = web.start("shop")
    web.resume(run_id, {"decision": {"approved": True}})
    web.kit.handle(run_id).wait(10)
    whole = frames(web.client.get(f"/runs/{run_id}/events").data)
    for after in range(len(whole)):
        by_header = web.client.get(f"/runs/{run_id}/events?after=1", headers={"Last-Event-ID": str(after)})
        assert frames(by_header.data) == whole[after:]
        by_query = web.client.get(f"/runs/{run_id}/events?after={after}")
        assert frames(by_query.data) == whole[after:]


def test_following_ends_with_204_exactly_at_the_end(web: Web) -> None:
    run_id = web.start("hello")
    last = web.kit.get(run_id).last_seq
    response = web.client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": str(last)})
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert web.client.get(f"/runs/{run_id}/events?after={last + 1}").status_code == 400


def test_following_until_the_pause_ends_there_and_otherwise_goes_on(web: Web) -> None:
    run_id = web.start("shop")
    short = frames(web.client.get(f"/runs/{run_id}/events?until=pause").data)
    assert short[-1][1]["type"] == "agent_pause"
    at_pause = web.client.get(f"/runs/{run_id}/events?until=pause&after={len(short)}")
    assert (at_pause.status_code, frames(at_pause.data)) == (200, [])
    long = web.client.get(f"/runs/{run_id}/events")
    chunks = iter(long.response)
    seen = [next(chunks)]
    while b"agent_pause" not in seen[-1]:
        seen.append(next(chunks))
    web.resume(run_id, {"decision": {"approved": True}})
    seen += chunks
    assert frames(b"".join(seen))[-1][1]["type"] == "agent_end"


def test_a_client_that_goes_away_ends_its_stream_and_nothing_else(stopped_web: Web) -> None:
    web = stopped_web
    run_id = web.client.post("/runs", json={"agent": "hello", "input": "x"}).json["id"]
    before = open_streams()
    response = web.client.get(f"/runs/{run_id}/events")
    next(iter(response.response))
    assert open_streams() == before + 1
    assert value(web.client.get("/metrics").text, "agentkit_event_streams") == before + 1
    response.close()
    assert open_streams() == before
    assert web.kit.get(run_id).status == "queued"


def test_a_stopping_server_ends_its_streams(stopped_web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        alive = True

    worker = Worker()
    monkeypatch.setattr(web_server, "_worker", worker)
    run_id = stopped_web.client.post("/runs", json={"agent": "hello", "input": "x"}).json["id"]
    chunks = iter(stopped_web.client.get(f"/runs/{run_id}/events").response)
    next(chunks)
    next(chunks)
    worker.alive = False
    assert [chunk for chunk in chunks if not chunk.startswith(b":")] == []


def test_a_silent_stream_is_kept_alive(stopped_web: Web) -> None:
    run_id = stopped_web.client.post("/runs", json={"agent": "hello", "input": "x"}).json["id"]
    kit = AgentKit(AGENTS, settings=Settings(keepalive_seconds=0.05), store=stopped_web.store, queue=stopped_web.queue)
    response = stopped_web.client_of(kit).get(f"/runs/{run_id}/events")
    assert any(chunk.startswith(b":") for chunk in response.response)
    response.close()


def test_who_asks_for_trimmed_events_gets_the_run_in_their_place() -> None:
    queue = ThreadQueue()
    web = Web(FlakyStore(MemoryStore(max_events=5)), queue)
    run_id = web.start("hello")
    [(seq, event)] = frames(web.client.get(f"/runs/{run_id}/events").data)
    assert (event["type"], event["run"]) == ("stream_reset", web.client.get(f"/runs/{run_id}").json)
    assert web.client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": str(seq)}).status_code == 204
    queue.close()


def test_a_deleted_run_is_gone(web: Web) -> None:
    run_id = web.start("hello")
    assert web.client.delete(f"/runs/{run_id}").status_code == 204
    assert web.client.get(f"/runs/{run_id}").status_code == 404
    assert web.client.delete(f"/runs/{run_id}").status_code == 404


def test_head_and_options_stream_nothing(stopped_web: Web) -> None:
    run_id = stopped_web.client.post("/runs", json={"agent": "hello", "input": "x"}).json["id"]
    before = open_streams()
    head = stopped_web.client.head(f"/runs/{run_id}/events")
    assert (head.status_code, head.headers["Content-Type"], head.data) == (200, "text/event-stream", b"")
    options = stopped_web.client.options(f"/runs/{run_id}/events")
    assert set(options.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "Content-Type" not in options.headers
    assert open_streams() == before


def test_aborting_needs_no_body_and_is_harmless_when_repeated(stopped_web: Web) -> None:
    run_id = stopped_web.client.post("/runs", json={"agent": "hello", "input": "x"}).json["id"]
    first = stopped_web.client.post(f"/runs/{run_id}/abort", json={"reason": "enough"})
    assert (first.status_code, first.json["status"]) == (202, "aborted")
    assert first.json["error"]["code"] == "aborted"
    again = stopped_web.client.post(f"/runs/{run_id}/abort")
    empty = stopped_web.client.post(f"/runs/{run_id}/abort", data=b"", content_type="application/json")
    assert first.json == again.json == empty.json


def test_a_message_to_a_paused_run_is_seen_by_its_next_model_call(web: Web) -> None:
    run_id = web.start("shop")
    response = web.client.post(f"/runs/{run_id}/messages", json={"message": "hurry", "when": "steer"})
    assert response.status_code == 202
    web.resume(run_id, {"decision": {"approved": True}})
    assert "hurry" in json.dumps(web.kit.handle(run_id).wait(10).messages)


def test_a_listing_pages_newest_first_without_messages(web: Web) -> None:
    ids = [web.start("hello") for _ in range(3)]
    paused = web.start("shop")
    first = web.client.get("/runs?limit=2").json
    assert [run["id"] for run in first["runs"]] == [paused, ids[2]]
    assert all("messages" not in run for run in first["runs"])
    second = web.client.get(f"/runs?limit=2&cursor={first['nextCursor']}").json
    assert [run["id"] for run in second["runs"]] == [ids[1], ids[0]]
    assert "nextCursor" not in second
    assert [run["id"] for run in web.client.get("/runs?status=paused").json["runs"]] == [paused]
    assert [run["id"] for run in web.client.get("/runs?agent=shop&status=completed").json["runs"]] == []
    assert len(web.client.get("/runs?agent=hello").json["runs"]) == 3


def test_agents_are_shown_with_their_tools(web: Web) -> None:
    agents = web.client.get("/agents").json["agents"]
    assert [agent["name"] for agent in agents] == [agent.name for agent in AGENTS]
    assert agents[0]["capabilities"] == {
        "tools": True,
        "images": False,
        "reasoning": False,
        "contextWindow": None,
        "documents": False,
        "audio": False,
        "imageUrls": False,
    }
    assert agents[1]["tools"][0]["name"] == "refund"
    assert agents[1]["tools"][0]["decision"]["required"] == ["approved"]


def test_ready_means_store_broker_and_a_worker(web: Web) -> None:
    assert web.client.get("/healthz").json == {"status": "ok"}
    response = web.client.get("/readyz")
    assert (response.status_code, response.json["status"]) == (503, "unavailable")
    assert response.json["checks"] == {"store": True, "broker": True, "worker": False}
    web.beat()
    response = web.client.get("/readyz")
    assert (response.status_code, response.json["status"]) == (200, "ready")
    assert response.json["warnings"]
    web.queue.up = False
    assert web.client.get("/readyz").json["checks"]["broker"] is False


def test_ready_tells_of_each_queue_whether_it_is_served(web: Web) -> None:
    kit = AgentKit(AGENTS, settings=Settings(key_prefix="shop:", ready_seconds=0.3), store=web.store)
    client = web.client_of(kit)
    web.beat()
    response = client.get("/readyz")
    assert (response.status_code, response.json["queues"]) == (503, {"shop": False}), "a heartbeat alone shows nothing"
    assert response.json["checks"]["worker"] is False
    assert any("queue shop" in warning for warning in response.json["warnings"])
    web.store.mark_served("other", 60_000)
    assert client.get("/readyz").json["queues"] == {"shop": False}
    kit.probed("shop")
    response = client.get("/readyz")
    assert response.json["queues"] == {"shop": True}
    assert response.json["checks"]["worker"] is True
    assert set(response.json) == {"status", "checks", "queues", "warnings"}
    assert response.content_type == "application/json"
    wait_until(lambda: client.get("/readyz").json["queues"] == {"shop": False}, what="the probe to be too long ago")


def test_an_application_without_a_name_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTKIT_APP", raising=False)
    with pytest.raises(ConfigurationError, match="AGENTKIT_APP"):
        create_app()


def test_a_run_handle_makes_a_response_in_any_flask_application(web: Web) -> None:
    other = Flask("other")

    @other.post("/ask")
    def ask() -> Any:
        return web.kit.start("hello", "x").to_response()

    events = frames(other.test_client().post("/ask").data)
    assert events[-1][1]["type"] == "agent_end"


def test_sync_workers_are_warned_of_once(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sync = type("SyncWorker", (), {"__module__": "gunicorn.workers.sync", "alive": True})()
    monkeypatch.setattr(web_server, "_worker", sync)
    client = create_app(web.kit).test_client()
    client.get("/healthz")
    client.get("/healthz")
    assert caplog.text.count("gthread") == 1


def test_no_cache_keeps_what_may_be_a_conversation(web: Web) -> None:
    run_id = web.start("shop")
    answers = [
        *(web.client.get(path) for path in ("/runs", f"/runs/{run_id}", "/agents", "/healthz", "/readyz")),
        *(web.client.get(path) for path in ("/nowhere", "/runs/unknown", "/runs?limit=x")),
        web.client.post("/runs", json={"agent": "hello", "input": "x"}),
        web.client.post(f"/runs/{run_id}/messages", json={"message": "x", "when": "steer"}),
        web.resume(run_id, {"decision": {"approved": "perhaps"}}),
        web.resume(run_id, {"decision": {"approved": True}}),
        web.client.post(f"/runs/{run_id}/abort"),
    ]
    assert all("no-store" in response.headers["Cache-Control"] for response in answers)
    with web.client.get(f"/runs/{run_id}/events") as stream:
        assert stream.headers["Cache-Control"] == "no-cache"

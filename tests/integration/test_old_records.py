"""Records that an older agentkit left in a real server: their runs go on here; what cannot be read stays as it is.

The keys are laid down byte for byte as they were frozen (tests/golden/records/*/keys), not by today's encoder.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.core.messages import text_of_json as text_of
from agentkit.core.record import SCHEMA_VERSION
from agentkit.queue.protocol import InlineQueue
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.event_rules import check_log
from tests.golden.make_records import FOLDER, locate, pay, refund

VERSIONS = sorted(FOLDER.parent.glob("v*"))
FILES = [path for folder in VERSIONS for path in sorted((folder / "keys").glob("*.json"))]
ENDED = ("completed", "failed", "aborted")
FROZEN_EXPIRY = "1700003600000"


class Place:
    """A server with one old run in it, and today's kit in front of it."""

    def __init__(self, url: str, tools: tuple[Any, ...]) -> None:
        self.queue = InlineQueue()
        self.client = redis.Redis.from_url(url)
        self.store = RedisStore(url)
        agent = Agent("tester", ScriptedModel(["unused", "done"], name="script"), tools=tools, max_turns=9)
        self.kit = AgentKit([agent], settings=Settings(), store=self.store, queue=self.queue)
        self.web = create_app(self.kit).test_client()
        self.run_id = ""

    def lay(self, path: Path, *, expires_at: int | None = None) -> dict[str, Any]:
        """Put the frozen keys into the server. `expires_at` (ms) takes the place of the frozen expiry."""
        text = path.read_text()
        if expires_at is not None:
            text = text.replace(FROZEN_EXPIRY, str(expires_at))
        body: dict[str, Any] = json.loads(text)
        self.run_id = json.loads(body["hash"]["fixed"])["id"]
        key = f"agentkit:{{{self.run_id}}}"
        self.client.hset(key, mapping=body["hash"])
        self.client.rpush(f"{key}:m", *body["messages"])
        if body.get("queued"):
            self.client.rpush(f"{key}:q", *body["queued"])
        for entry, data in body["events"]:
            self.client.xadd(f"{key}:e", {"d": data}, id=entry)
        if body["resolutions"]:
            self.client.hset(f"{key}:r", mapping=body["resolutions"])
        self.client.zadd("agentkit:runs", {self.run_id: 0})
        self.client.zadd("agentkit:due", {self.run_id: 0})
        return body

    def bytes(self) -> dict[bytes, Any]:
        """The run's keys, as they lie in the server, their time to live with them."""
        reader: Any = self.client
        read = {
            b"hash": reader.hgetall,
            b"list": lambda key: reader.lrange(key, 0, -1),
            b"stream": reader.xrange,
            b"string": reader.get,
        }
        found = sorted(reader.scan_iter(f"agentkit:{{{self.run_id}}}*"))
        return {key: (read[reader.type(key)](key), reader.pttl(key)) for key in found}

    def work(self) -> None:
        """What a worker does, until nothing is due."""
        recovery = self.kit.recovery()
        recovery.sweep()
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.store.events(self.run_id, 0, 1000).events]

    def close(self) -> None:
        self.store.close()
        self.client.close()


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    made = Place(redis_url, (refund, locate, pay))
    yield made
    made.close()


def expanded(event: str, messages: list[str]) -> str:
    """The event with messages in place of its references to them."""
    return re.sub(r"\x01(\d+) (\d+)\x01", lambda at: ",".join(messages[int(at[1]) :][: int(at[2])]), event)


def soon() -> int:
    return time.time_ns() // 1_000_000 + 3_600_000


# -- older ones are read ---------------------------------------------------------------------------


def test_every_frozen_record_has_its_keys() -> None:
    for folder in VERSIONS:
        assert {path.stem for path in (folder / "keys").glob("*.json")} == {path.stem for path in folder.glob("*.json")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_an_old_run_goes_on_to_its_end(path: Path, place: Place) -> None:
    frozen = place.lay(path, expires_at=soon())
    before = place.bytes()
    place.work()
    if path.stem in ENDED:
        assert place.bytes() == before
    for item in place.kit.get(place.run_id).pending:
        answer = {
            "decision": {"decision": {"approved": True}},
            "client_execute": {"result": "here"},
            "in_doubt": {"decision": {"verdict": "retry"}},
        }[item["kind"]]
        response = place.web.post(f"/runs/{place.run_id}/resume", json={"decisionId": item["decisionId"], **answer})
        assert response.status_code == 202, response.text
    place.work()
    run = place.kit.get(place.run_id)
    wanted = {"completed": "completed", "failed": "failed", "aborted": "aborted", "running": "aborted"}
    assert run.status == wanted.get(path.stem, "completed")
    check_log(place.events(), run.messages, str(run.status))
    old = [json.loads(expanded(data, frozen["messages"])) for _, data in frozen["events"]]
    assert place.events()[: len(old)] == old
    listed = place.web.get("/runs").json
    assert [each["id"] for each in listed["runs"]] == [place.run_id]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem in ENDED],
    ids=lambda path: f"{path.parent.parent.name}-{path.stem}",
)
def test_an_old_run_is_started_from(path: Path, place: Place) -> None:
    place.lay(path)
    before, source = place.bytes(), place.kit.get(place.run_id)
    place.client.delete("agentkit:due")
    origin = {"runId": source.id, "turn": 1 if path.stem == "completed" else 0}
    taken = 3 if path.stem == "completed" else 1
    response = place.web.post("/runs", json={"from": origin})
    assert response.status_code == 202, response.text
    place.work()
    run = place.kit.get(response.json["id"])
    assert (run.status, run.origin, run.schema_version) == ("completed", origin, SCHEMA_VERSION)
    assert (run.messages or [])[:taken] == (source.messages or [])[:taken]
    assert place.bytes() == before


QUEUED = [
    {"message": "hurry", "when": "steer"},
    {"message": [{"type": "text", "text": "and then"}], "when": "followUp"},
]
"""What waits in the frozen records of a running run."""


def lay_running(place: Place, version: Path) -> str:
    """Put the frozen run that executes a tool into the server; its worker's lease is over. Returns the run's key."""
    place.lay(version / "keys" / "running.json")
    key = f"agentkit:{{{place.run_id}}}"
    token, _, rest = place.client.hget(key, "s:2").decode().split(" ", 2)
    place.client.hset(key, "s:2", f"{token} 1 {rest}")
    return key


@pytest.mark.parametrize("version", VERSIONS, ids=lambda folder: folder.name)
def test_an_old_abort_and_what_was_queued_outlast_another_change(version: Path, place: Place) -> None:
    key = lay_running(place, version)
    assert place.kit.get(place.run_id).queued == QUEUED
    place.kit.send(place.run_id, "are you there?", "steer")
    state = place.store.load(place.run_id)
    assert state.record.schema_version == SCHEMA_VERSION
    assert state.record.abort is not None
    assert state.record.abort.reason == "enough"
    sent = [*QUEUED, {"message": "are you there?", "when": "steer"}]
    assert place.kit.get(place.run_id).queued == sent
    assert place.client.llen(f"{key}:q") == 3
    assert b"and then" not in place.client.hget(key, "state")
    place.work()
    assert place.kit.get(place.run_id).status == "aborted"
    assert place.events()[-1]["unsent"] == sent
    assert not place.client.exists(f"{key}:q")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda folder: folder.name)
def test_what_an_old_run_has_queued_comes_into_its_turns(version: Path, place: Place) -> None:
    key = lay_running(place, version)
    if version.name == "v1":  # the abort that was asked for stands in the state
        state = json.loads(place.client.hget(key, "state"))
        del state["abort"]
        place.client.hset(key, "state", json.dumps(state))
    place.client.hdel(key, "abort")
    place.work()
    for item in place.kit.get(place.run_id).pending:
        place.kit.resume(place.run_id, {"verdict": "retry"}, decision_id=item["decisionId"])
        place.work()
    run = place.kit.get(place.run_id)
    assert (run.status, run.queued) == ("completed", [])
    users = [message["content"] for message in run.messages or [] if message["role"] == "user"]
    assert users[1:] == [each["message"] for each in QUEUED]
    check_log(place.events(), run.messages or [], run.status)


def test_an_old_item_whose_time_is_over_expires_as_its_tool_declared(place: Place) -> None:
    place.lay(FOLDER / "keys" / "paused_one_decision.json")
    place.work()
    place.work()
    run = place.kit.get(place.run_id)
    assert run.status == "completed"
    [resolved] = [event for event in place.events() if event["type"] == "tool_decision_resolved"]
    assert (resolved["outcome"], resolved["decision"]) == ("expired", {"approved": False})


def test_an_old_answer_is_known_again(place: Place) -> None:
    place.lay(FOLDER / "keys" / "completed.json")
    [answered] = place.kit.decisions(place.run_id)
    url = f"/runs/{place.run_id}/resume"
    same = {"decisionId": answered.decision_id, "decision": {"approved": True}}
    assert place.web.post(url, json=same).status_code == 202
    other = place.web.post(url, json={**same, "decision": {"approved": False}})
    assert (other.status_code, other.json["code"]) == (409, "decision_conflict")


# -- what changed while the run was paused ---------------------------------------------------------


@tool(name="refund", decision={"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]})
def asks_otherwise(cents: int, decision: Any = None) -> str:
    """Refund."""
    return f"{cents} {decision}"


@tool(name="refund", decision={"type": "object"})
def takes_otherwise(cents: int, currency: str, decision: Any = None) -> str:
    """Refund."""
    raise AssertionError("it must not be called without a currency")


def resumed(url: str, tools: tuple[Any, ...], body: dict[str, Any]) -> tuple[Place, Any]:
    place = Place(url, tools)
    place.lay(FOLDER / "keys" / "paused_one_decision.json", expires_at=soon())
    return place, place.web.post(f"/runs/{place.run_id}/resume", json=body)


def test_a_decision_is_checked_against_the_schema_that_was_shown(redis_url: str) -> None:
    place, refused = resumed(redis_url, (asks_otherwise,), {"decision": {"note": "fine"}})
    assert (refused.status_code, refused.json["code"]) == (422, "decision_invalid")
    accepted = place.web.post(f"/runs/{place.run_id}/resume", json={"decision": {"approved": True}})
    assert accepted.status_code == 202
    place.work()
    results = [text_of(m) for m in place.kit.get(place.run_id).messages if m["role"] == "toolResult"]
    assert results == ["5 {'approved': True}"]
    place.close()


def test_arguments_that_the_tool_takes_no_longer_are_an_error_result_and_execute_nothing(redis_url: str) -> None:
    place, accepted = resumed(redis_url, (takes_otherwise,), {"decision": {"approved": True}})
    assert accepted.status_code == 202
    place.work()
    run = place.kit.get(place.run_id)
    [message] = [m for m in run.messages if m["role"] == "toolResult"]
    assert message["isError"]
    assert 'the required property "currency" is missing' in text_of(message)
    assert run.status == "completed"
    check_log(place.events(), run.messages, "completed")
    place.close()


def test_replaced_arguments_are_checked_against_the_parameters_of_today(redis_url: str) -> None:
    body = {"decision": {"approved": True}, "input": {"cents": 4}}
    place, refused = resumed(redis_url, (takes_otherwise,), body)
    assert (refused.status_code, refused.json["code"]) == (422, "input_invalid")
    assert place.kit.get(place.run_id).status == "paused"
    place.close()


@pytest.mark.parametrize("body", [{"decision": {"approved": True}}, {"reject": {"reason": "no"}}])
def test_a_tool_that_is_gone_leaves_the_run_paused_and_untouched(redis_url: str, body: dict[str, Any]) -> None:
    place, _ = resumed(redis_url, (locate,), {})
    before = place.bytes()
    refused = place.web.post(f"/runs/{place.run_id}/resume", json=body)
    assert (refused.status_code, refused.json["code"]) == (409, "tool_not_registered")
    assert "refund" in refused.json["detail"]
    assert place.bytes() == before
    place.close()


def test_a_worker_without_the_tool_puts_the_question_back(redis_url: str) -> None:
    web, accepted = resumed(redis_url, (refund,), {"decision": {"approved": True}})
    assert accepted.status_code == 202
    worker = Place(redis_url, (locate,))
    worker.run_id = web.run_id
    worker.work()
    run = web.kit.get(web.run_id)
    assert run.status == "paused"
    assert run.pending[0]["expiresAt"] > time.time_ns() // 1_000_000 + 3_000_000
    assert "no tool 'refund'" in web.events()[-1]["reason"]
    answer = {"decision": {"approved": True}, "decisionId": run.pending[0]["decisionId"]}
    again = web.web.post(f"/runs/{web.run_id}/resume", json=answer)
    assert again.status_code == 202
    web.work()
    assert web.kit.get(web.run_id).status == "completed"
    for place in (web, worker):
        place.close()


# -- what cannot be read ---------------------------------------------------------------------------


def make_unreadable(place: Place, version: Any) -> None:
    """As a newer agentkit may write it, or nobody: with another version, or without one."""
    key = f"agentkit:{{{place.run_id}}}"
    stored = place.client.hget(key, "fixed")
    assert stored is not None
    fixed = json.loads(stored)
    if version is None:
        del fixed["schemaVersion"]
        place.client.hdel(key, "sv")
    else:
        fixed["schemaVersion"] = version
        place.client.hset(key, "sv", version)
        place.client.hset(key, "state", "a form that nobody knows yet")
    place.client.hset(key, "fixed", json.dumps(fixed))


REQUESTS = [
    ("GET", "", None),
    ("GET", "/events", None),
    ("GET", "/events?after=3", None),
    ("POST", "/resume", {"decision": {"approved": True}}),
    ("POST", "/resume", {"decision": {"approved": True}, "toolCallId": "refund"}),
    ("POST", "/resume", {"reject": {"reason": "no"}}),
    ("POST", "/extend", {"decisionId": "x", "by": 60}),
    ("POST", "/abort", {"reason": "enough"}),
    ("POST", "/messages", {"message": "hurry", "when": "steer"}),
    ("DELETE", "", None),
]


@pytest.mark.parametrize("name", ["queued", "running", "paused_one_decision", "completed"])
@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, None], ids=["newer", "missing"])
def test_what_cannot_be_read_is_refused_and_stays_as_it_is(
    name: str, version: int | None, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.lay(FOLDER / "keys" / f"{name}.json", expires_at=soon())
    make_unreadable(place, version)
    before = place.bytes()
    for method, path, body in REQUESTS:
        response = place.web.open(f"/runs/{place.run_id}{path}", method=method, json=body)
        assert response.content_type == "application/problem+json", (method, path)
        problem = json.loads(response.data)
        assert (response.status_code, problem["code"]) == (500, "unsupported_schema_version"), (method, path)
        assert re.search("untouched|not changed", problem["detail"])
    assert place.web.get("/runs").json == {"runs": []}
    assert place.kit.recovery().sweep() == 1
    for step in (1, 2):
        if place.client.hexists(f"agentkit:{{{place.run_id}}}", f"s:{step}"):
            caplog.clear()
            place.kit.execute(place.run_id, step)
            assert f"cannot execute step {step}, and gives it back to the queue" in caplog.text
    assert place.bytes() == before
    assert place.client.zscore("agentkit:runs", place.run_id) is not None
    assert place.client.zscore("agentkit:due", place.run_id) is not None

"""Whole stores that an older agentkit left: their runs go on here, and stand in all lists and in the inbox.

The keys are laid down as they were frozen (tests/golden/stores), not by today's encoder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agentkit import AgentKit, Settings
from agentkit.core.record import SCHEMA_VERSION
from agentkit.queue.protocol import InlineQueue
from agentkit.runtime import recovery
from agentkit.runtime.upgrade import index_items, index_runs
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.event_rules import check_log
from tests.golden.make_store import DONE, FOLDER, WIDE, agents, notified, notify_people, restore
from tests.tools import YES
from tests.waiting import wait_until

FILES = sorted(FOLDER.glob("v*.json"))


class Installation:
    """A server with an old store in it, and today's kit in front of it."""

    def __init__(self, url: str) -> None:
        self.queue = InlineQueue()
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.store = RedisStore(url)
        self.kit = AgentKit(agents(), settings=Settings(), store=self.store, queue=self.queue)
        self.kit.on("decision.pending", "decision.expiring", "run.completed")(notify_people)
        self.web = create_app(self.kit).test_client()
        self.names: dict[str, str] = {}

    def lay(self, path: Path) -> Installation:
        body = json.loads(path.read_text())
        self.names = body["names"]
        restore(self.client, body["keys"])
        return self

    def upgrade(self) -> None:
        """What the first worker does when it starts."""
        index_runs(self.store)
        index_items(self.store)

    def work(self) -> None:
        """What a worker does, until nothing is due."""
        self.kit.recovery().sweep()
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())
        while self.queue.notifications:
            self.kit.deliver(*self.queue.notifications.popleft())

    def inbox(self) -> list[dict[str, Any]]:
        """What GET /decisions lists."""
        found: list[dict[str, Any]] = self.web.get("/decisions?limit=100").json["decisions"]
        return found

    def run(self, name: str) -> Any:
        return self.kit.get(self.names[name])

    def close(self) -> None:
        self.store.close()
        self.client.close()


@pytest.fixture
def installation(redis_url: str) -> Iterator[Installation]:
    made = Installation(redis_url)
    yield made
    made.close()


def answer(installation: Installation, item: dict[str, Any], by: str) -> None:
    decision = {"verdict": "retry"} if item["kind"] == "in_doubt" else YES
    edited = {"cents": 4} if item.get("proposal") else None
    run_id, decision_id = item["runId"], item["decisionId"]
    installation.kit.resume(run_id, decision, decision_id=decision_id, input=edited, decided_by=by)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_that_waits_in_an_old_store_is_in_the_inbox_once_a_worker_has_started(
    path: Path, installation: Installation
) -> None:
    installation.lay(path).upgrade()
    pending = {
        (item.get("runId", run.id), item["decisionId"]) for run in installation.kit.runs() for item in run.pending
    }
    assert len(pending) >= 3 + WIDE - DONE
    assert {(item["runId"], item["decisionId"]) for item in installation.inbox()} == pending
    assert installation.web.get("/decisions/count").json["pending"] == len(pending)


def test_what_an_older_worker_made_wait_beside_a_newer_one_is_in_the_inbox_some_time_after_the_start(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.store.set_has_items()  # the newer worker has put in what there was, and then these came
    installation.lay(FOLDER / "v4.json")
    installation.client.delete("agentkit:due")  # the older one's recovery has let go of them
    assert installation.inbox() == []
    monkeypatch.setattr(recovery, "_OLDER_WORKERS_SECONDS", 0.1)
    worker = installation.kit.recovery()
    worker.start()
    waiting = 3 + WIDE - DONE
    wait_until(lambda: len(installation.inbox()) == waiting, what="what waits to be in the inbox")
    worker.stop()
    assert installation.web.get("/decisions/count").json["pending"] == waiting


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_runs_of_an_old_store_go_on_to_their_ends(path: Path, installation: Installation) -> None:
    installation.lay(path).upgrade()
    installation.work()
    while items := installation.inbox():
        for item in items:
            answer(installation, item, by="cleo")
        installation.work()
    for name, run_id in installation.names.items():
        run = installation.run(name)
        assert run.status == ("aborted" if name == "aborted" else "completed"), name
        log = [json.loads(event.data) for event in installation.store.events(run_id, 0, 10_000).events]
        check_log(log, run.messages or [], str(run.status))
        assert run.schema_version == SCHEMA_VERSION or name in ("completed", "aborted")
    results = [each for each in installation.run("wide_turn").messages or [] if each["role"] == "toolResult"]
    assert [each["content"][0]["text"] for each in results] == [f"refunded {cents}" for cents in range(WIDE)]
    users = [
        each["content"]
        for each in installation.run("paused_with_queued_message").messages or []
        if each["role"] == "user"
    ]
    assert users[1:] == ["and then"]
    assert installation.web.get("/runs?status=paused").json["runs"] == []
    assert installation.web.get("/decisions/count").json["pending"] == 0


def test_what_came_with_version_5_is_read(installation: Installation) -> None:
    installation.lay(FOLDER / "v5.json").upgrade()
    [item] = installation.run("voted").pending
    assert (item["approvals"], [vote["decidedBy"] for vote in item["votes"]]) == (2, ["bob"])
    assert item["proposal"] == {"decision": YES, "input": {"cents": 4}}
    [item] = installation.run("condition").pending
    assert item["reason"] == "decision_when says that this call needs the decision"
    assert installation.run("fork").origin["turn"] == 1
    first, second = installation.kit.decisions(installation.names["remembered"])
    assert (second.remembered, second.decided_by, second.answer) == (True, "bob", first.answer)
    notified.clear()
    installation.work()
    runs = {
        kind: {event["data"]["runId"] for event in notified if event["type"] == kind}
        for kind in ("decision.pending", "decision.expiring")
    }
    assert runs["decision.expiring"] == {installation.names["voted"]}
    assert runs["decision.pending"] >= {installation.names[name] for name in ("fork", "voted", "condition")}

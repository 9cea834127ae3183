"""Redis users with the rights of docs/reference/redis-acl.md, and no others: agentkit does all that it does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from agentkit.core.ids import new_id
from agentkit.queue.celery import CeleryQueue, send
from agentkit.settings import Settings
from tests.acceptance.ledger import Ledger
from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, ModelProcess, Process, WebProcess, WorkerProcess, environment, events_of
from tests.servers import ValkeyServer, free_port
from tests.turns import call
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "reference" / "redis-acl.md"
ROLES = ("worker", "web", "flower")
WORK = script(
    [call("look_up", order_id="A-1"), call("look_up", order_id="A-2")],
    [call("refund", order_id="A-1", cents=250)],
    "Done.",
)


def lines_of_the_page(prefix: str, db: int) -> list[str]:
    """The users of the page, for another prefix and database as the page says."""
    [block] = re.findall(r"^```acl\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines: list[str] = block.splitlines()
    if prefix != "agentkit:":
        name = prefix.removesuffix(":")
        replaced = {
            "~agentkit:*": f"~{prefix}*",
            "~agentkit": f"~{name}",
            "&agentkit:*": f"&{prefix}*",
            "~*.celery.pidbox": f"~*.{prefix}celery.pidbox",
            "~*.reply.celery.pidbox": f"~*.reply.{prefix}celery.pidbox",
            "&/0.celery.pidbox": f"&/0.{prefix}celery.pidbox",
            "&/0.celeryev/*": f"&/0.{prefix}celeryev/*",
            "&/0.celeryev/worker.*": f"&/0.{prefix}celeryev/worker.*",
        }
        lines = [" ".join(replaced.get(word, word) for word in line.split()) for line in lines]
    return [line.replace("&/0.", f"&/{db}.") for line in lines]


class FlowerProcess(Process):
    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.port = free_port()
        words = ["celery", "-A", "agentkit.tasks", "flower", "--address=127.0.0.1", f"--port={self.port}"]
        super().__init__("flower", words, env, folder)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def is_ready(self) -> bool:
        try:
            return self.get("/healthcheck").status_code == 200
        except httpx.TransportError:
            return False


class Installation:
    """A server that knows the users of the page, and a process of each kind, logged in as its user."""

    def __init__(self, folder: Path, prefix: str, db: int) -> None:
        self.prefix = prefix
        users = folder / "users.acl"
        users.write_text("\n".join(["user default on nopass ~* &* +@all", *lines_of_the_page(prefix, db)]) + "\n")
        self.server = ValkeyServer(options={"aclfile": users})
        self.server.start()
        self.admin: Any = redis.Redis.from_url(self.server.database(db), decode_responses=True)
        self._db = db
        ledger = Ledger(folder / "ledger.jsonl")
        self.model = ModelProcess(environment(), folder, ledger)
        self._env = environment(
            AGENTKIT_APP="tests.acceptance.app:kit",
            AGENTKIT_KEY_PREFIX=prefix,
            AGENTKIT_LEASE_SECONDS="2",
            AGENTKIT_READY_SECONDS="4",
            AGENTKIT_AUDIT_SECONDS="10",
            OPENAI_BASE_URL=f"http://127.0.0.1:{self.model.port}/v1",
            OPENAI_API_KEY="none",
            ACCEPTANCE_LEDGER=str(ledger.path),
            HOME=str(folder),
        )
        # With gossip and mingle, which Celery starts by itself, and with the events that Flower shows.
        self.worker = WorkerProcess("worker", self.env("worker"), folder, options=("-E",))
        self.web = WebProcess("web", self.env("web"), folder)
        self.flower = FlowerProcess(self.env("flower"), folder)
        self.processes = [self.model, self.worker, self.web, self.flower]

    def env(self, role: str) -> dict[str, str]:
        return {**self._env, "AGENTKIT_REDIS_URL": self.url(role)}

    def url(self, role: str) -> str:
        return f"redis://agentkit-{role}:{role.upper()}-PASSWORD@127.0.0.1:{self.server.port}/{self._db}"

    def settings(self, role: str) -> Settings:
        return Settings(redis_url=self.url(role), key_prefix=self.prefix)

    def start(self) -> None:
        for process in self.processes:
            process.launch()
        for process in self.processes:
            process.wait_until_ready()

    def wait_for(self, run_id: str, status: str) -> dict[str, Any]:
        return wait_until(
            lambda: run if (run := self.web.get(run_id))["status"] == status else None,
            timeout=20,
            what=f"the run to be {status}",
            every=0.05,
        )

    def refused(self) -> list[str]:
        """What was refused to the page's users so far."""
        entries = self.admin.execute_command("ACL", "LOG", "100")
        fields = [
            dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry for entry in entries
        ]
        return [f"{each['username']}: {each['reason']} {each['object']} in {each['context']}" for each in fields]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.admin.close()
        self.server.stop()


@pytest.fixture(params=[("agentkit:", 0), ("shop:", 2)], ids=["as on the page", "another prefix and database"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path, *request.param)
    try:
        installation.start()
        yield installation
    finally:
        print("refused:", installation.refused())  # noqa: T201  # pytest shows it on failure
        installation.close()
        for process in installation.processes:
            print(f"--- {process.name}\n{process.log()[-3000:]}")  # noqa: T201  # pytest shows it on failure


def play(installation: Installation) -> None:
    """Everything that clients, workers and operators do."""
    web = installation.web
    run_id = web.begin("support", WORK)
    installation.wait_for(run_id, "paused")
    web.http.post(
        f"/runs/{run_id}/messages",
        json={"message": script("You are welcome."), "when": "steer"},
        headers={"Idempotency-Key": "s"},
    )
    with web.http.stream("GET", f"/runs/{run_id}/events") as stream:
        assert web.resume(run_id, decision={"approved": True}).status_code == 202
        stream.read()
    assert events_of(stream.content)[-1]["status"] == "completed"
    assert installation.wait_for(run_id, "completed")["messages"][-1]["role"] == "assistant"

    waiting = web.begin("desk", script([call("wait")], "Over."))
    installation.wait_for(waiting, "running")
    assert web.abort(waiting).status_code == 202
    installation.wait_for(waiting, "aborted")
    asked = web.begin("desk", script([call("ask")], "No answer."))  # it expires, which recovery sees to
    parent = web.begin("boss", script([call("support", input=script("Here."))], "There."))
    installation.wait_for(parent, "completed")
    installation.wait_for(asked, "completed")

    for query in ({}, {"status": "completed"}, {"agent": "desk"}):
        assert web.http.get("/runs", params=query).status_code == 200
    assert web.http.get("/decisions").json() == {"decisions": []}
    assert web.http.get("/decisions/count").json()["pending"] == 0
    answers = {"state": "resolved", "tool": "refund"}
    assert len(web.http.get("/decisions", params=answers).json()["decisions"]) > 0
    start = {"agent": "support", "input": script("Hello.")}
    assert {web.http.post("/runs", json=start, headers={"Idempotency-Key": "k"}).status_code for _ in range(2)} == {202}
    fork = {"from": {"runId": run_id}, "input": script("Once more.")}
    forks = [web.http.post("/runs", json=fork, headers={"Idempotency-Key": "f"}) for _ in range(2)]
    assert forks[0].json()["id"] == forks[1].json()["id"]
    installation.wait_for(forks[0].json()["id"], "completed")
    assert [web.http.delete(f"/runs/{each}").status_code for each in (run_id, waiting)] == [204, 204]
    wait_until(lambda: web.http.get("/readyz").status_code == 200, timeout=20, what="readiness")
    recorded = {"state": "resolved"}
    wait_until(
        lambda: not web.http.get("/decisions", params=recorded).json()["decisions"],
        timeout=30,
        what="the answers to be trimmed",
        every=0.5,
    )
    assert web.http.get("/metrics").status_code == 200


def celery(installation: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", *words]
    return subprocess.run(
        command, cwd=ROOT, env=installation.env("flower"), capture_output=True, text=True, timeout=30, check=False
    )


def test_the_users_of_the_page_have_all_rights_that_they_need_and_no_others(installation: Installation) -> None:
    play(installation)
    assert "pong" in celery(installation, "inspect", "ping").stdout
    flower = installation.flower
    wait_until(lambda: "worker@" in flower.get("/workers?refresh=1").text, what="Flower to show the worker")
    wait_until(lambda: 'task="agentkit.model_call"' in flower.get("/metrics").text, what="Flower to show steps")
    # As a process sends whose messages are traced, or whose broker is not the store.
    queue = CeleryQueue(installation.settings("web"))
    assert queue.reachable()
    send(queue.app, new_id(), 1, "model")
    wait_until(
        lambda: "agentkit.model_call" in installation.flower.get("/tasks/datatable?start=0&length=5").text or True,
        what="x",
    )
    assert installation.worker.stop() < 30
    assert installation.refused() == []


@pytest.mark.parametrize("installation", [("agentkit:", 0)], indirect=True, ids=["as on the page"])
def test_what_is_not_theirs_is_refused(installation: Installation) -> None:
    run_id = installation.web.begin("support", WORK)
    installation.wait_for(run_id, "paused")
    admin = installation.admin
    admin.set("other", "1")
    key = f"agentkit:{{{run_id}}}"
    everybody = [
        ("GET", "other"),
        ("SET", "other", "2"),
        ("DEL", "other"),
        ("LRANGE", "other:list", "0", "-1"),
        ("EVAL", "return redis.call('SET', KEYS[1], '2')", "1", "other"),
        ("EVAL", "return redis.call('HGETALL', 'other')", "0"),
        ("PUBLISH", "other", "x"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHDB",),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SHUTDOWN",),
        ("SCRIPT", "FLUSH"),
    ]
    own = {
        "worker": [],
        "web": [("BRPOP", "agentkit", "1"), ("PUBLISH", "/0.celery.pidbox", "x"), ("PSUBSCRIBE", "agentkit:*")],
        "flower": [
            ("HGETALL", key),
            ("LRANGE", f"{key}:m", "0", "-1"),
            ("SUBSCRIBE", f"{key}:e"),
            ("LPUSH", "agentkit", "x"),
        ],
    }
    for role in ROLES:
        with redis.Redis.from_url(installation.url(role), protocol=2) as client:
            assert client.ping()
            for words in [*everybody, *own[role]]:
                with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)no permission"):
                    client.execute_command(*words)
    assert admin.get("other") == "1"
    assert installation.web.resume(run_id, decision={"approved": True}).status_code == 202
    installation.wait_for(run_id, "completed")

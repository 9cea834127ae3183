"""Notifications over real processes: workers and web processes that die wherever they can lose none."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.acceptance.ledger import Ledger
from tests.acceptance.stack import Process, WebProcess, WorkerProcess, environment
from tests.servers import ValkeyServer
from tests.tools import YES
from tests.waiting import wait_until
from tests.webhook_receiver import Receiver

LEASE_SECONDS = 0.5
POOLS = {
    "threads": ("-P", "threads", "-c", "4"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "20"),
}
SECRETS = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]


class Place:
    """A store that is the broker, a web process and two workers, which die where a failpoint says so."""

    def __init__(self, folder: Path, pool: str = "threads", **settings: str) -> None:
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.worker_fault, self.web_fault = folder / "worker.fault", folder / "web.fault"
        self.store = ValkeyServer(folder / "valkey")
        self.store.start()
        self.redis = redis.Redis.from_url(self.store.url)
        env = environment(
            AGENTKIT_APP="tests.acceptance.notified:kit",
            AGENTKIT_REDIS_URL=self.store.url,
            AGENTKIT_LEASE_SECONDS=f"{LEASE_SECONDS:g}",
            ACCEPTANCE_LEDGER=str(self.ledger.path),
            HOME=str(folder),
            **settings,
        )
        worker_env = {**env, "AGENTKIT_FAILPOINT": str(self.worker_fault)}
        self.web = WebProcess("web", {**env, "AGENTKIT_FAILPOINT": str(self.web_fault)}, folder)
        self.workers = [WorkerProcess(f"worker-{n}", worker_env, folder, POOLS[pool]) for n in (1, 2)]

    @property
    def processes(self) -> list[Process]:
        return [self.web, *self.workers]

    def start(self) -> None:
        self.revive()
        for process in self.processes:
            process.wait_until_ready()

    def revive(self) -> None:
        """Start again what has died."""
        for process in self.processes:
            if process.process is not None and process.process.poll() is not None:
                process.kill()
            if process.process is None:
                process.launch()

    def close(self) -> None:
        self.redis.close()
        for process in self.processes:
            process.kill()
        self.store.stop()

    def begin(self, agent: str = "desk", title: str = "") -> str:
        body = {"agent": agent, "input": "go", "metadata": {"title": title} if title else {}}
        response = self.web.http.post("/runs", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def paused(self, **options: str) -> str:
        run_id = self.begin(**options)
        self.wait_for(run_id, "paused")
        return run_id

    def wait_for(self, run_id: str, status: str) -> None:
        wait_until(lambda: self.web.get(run_id)["status"] == status, timeout=20, what=f"the run to be {status}")

    def told(self, run_id: str, handler: str = "tell") -> list[Any]:
        """What a handler was called with, in that order, each event once; a repeated one is the same."""
        events: dict[str, Any] = {}
        for entry in self.ledger.entries(handler=handler, run=run_id):
            assert events.setdefault(entry["id"], entry.get("event")) == entry.get("event")
        return list(events.values())

    def wait_until_told(self, run_id: str, *types: str, revive: bool = False) -> list[Any]:
        def told() -> bool:
            if revive:
                self.revive()
            return sorted(event["type"] for event in self.told(run_id)) == sorted(types)

        wait_until(told, timeout=25, what=f"{types} of {self.ledger.entries(run=run_id)}", every=0.05)
        return self.told(run_id)

    def wait_until_empty(self, run_id: str) -> None:
        """Until nothing of a run waits to be sent."""
        key = f"agentkit:{{{run_id}}}:o"
        wait_until(lambda: not self.redis.exists(key), timeout=25, what="the outbox to be empty", every=0.05)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("notified"))
    try:
        place.start()
        yield place
    finally:
        place.close()


@pytest.fixture
def place(threads: Place) -> Place:
    threads.start()
    return threads


@pytest.fixture(params=["prefork", "gevent"])
def other_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, request.param)
    try:
        place.start()
        yield place
    finally:
        place.close()


def check_main_job(place: Place) -> None:
    """A run pauses and completes: each handler is called in a worker, and one that kills its worker is called again."""
    run_id = place.paused(title="fatal")
    place.wait_until_told(run_id, "decision.pending", "run.paused")
    assert place.web.resume(run_id, decision=YES).status_code == 202
    place.wait_until_told(run_id, "decision.pending", "run.paused", "run.completed", revive=True)
    for handler in ("fatal", "notify_later"):
        wait_until(
            lambda handler=handler: (place.revive(), len(place.ledger.entries(handler=handler, run=run_id)) >= 2)[1],  # type: ignore[misc]
            timeout=25,
            what=f"{handler} to be called again",
            every=0.05,
        )
        assert len(place.told(run_id, handler)) == 1
    place.wait_until_empty(run_id)
    pids = {entry["pid"] for entry in place.ledger.entries(run=run_id)}
    assert place.web.pid not in pids
    assert len(pids) >= 2, "the one that was killed, and another"


def test_handlers_are_called_in_workers_and_one_that_kills_its_worker_is_called_again(place: Place) -> None:
    check_main_job(place)


def test_so_they_are_in_other_pools(other_pool: Place) -> None:
    check_main_job(other_pool)


@pytest.mark.parametrize(
    "point",
    [
        "after commit 1",
        "before outbox 1",
        "after outbox 1",
        "after notify 1",
        "after take_entry 1",
        "before delivery 1",
        "after delivery 1",
        "after remove_entries 1",
    ],
)
def test_a_worker_that_dies_between_commit_and_delivery_loses_nothing(place: Place, point: str) -> None:
    place.worker_fault.write_text(point)
    run_id = place.begin()
    place.wait_until_told(run_id, "decision.pending", "run.paused", revive=True)
    wait_until(lambda: place.worker_fault.read_text() == "", what="the worker to have died")
    place.wait_until_empty(run_id)
    place.wait_for(run_id, "paused")


def test_a_web_process_that_dies_after_its_commit_loses_nothing(place: Place) -> None:
    run_id = place.paused()
    place.wait_until_told(run_id, "decision.pending", "run.paused")
    place.web_fault.write_text("before outbox 1")
    with pytest.raises(Exception, match=r"disconnected|reset|closed"):
        place.web.abort(run_id)
    events = place.wait_until_told(run_id, "decision.pending", "run.paused", "run.aborted", revive=True)
    assert events[-1]["data"]["error"]["code"] == "aborted"
    place.wait_until_empty(run_id)


def test_what_the_broker_forgets_and_whose_run_is_deleted_is_sent(place: Place) -> None:
    run_id = place.paused()
    place.wait_until_told(run_id, "decision.pending", "run.paused")
    for worker in place.workers:
        worker.kill()
    assert place.web.http.delete(f"/runs/{run_id}", params={"force": "1"}).status_code == 204
    assert place.redis.delete("agentkit") == 1, "the queue, with the message"
    place.start()
    place.wait_until_told(run_id, "decision.pending", "run.paused", "run.aborted")
    place.wait_until_empty(run_id)
    wait_until(lambda: place.redis.zscore("agentkit:due", run_id) is None, what="the run to leave the due index")


def test_people_are_reminded_before_an_item_expires(place: Place) -> None:
    run_id = place.begin("hurried")
    events = place.wait_until_told(
        run_id, "decision.pending", "run.paused", "decision.expiring", "run.completed", revive=True
    )
    by_type = {event["type"]: event for event in events}
    expiring = by_type["decision.expiring"]
    left = expiring["data"]["expiresAt"] - expiring["timestamp"]
    assert 500 <= left <= 2500
    assert expiring["data"]["decisionId"] == by_type["decision.pending"]["data"]["decisionId"]


def test_a_webhook_gets_what_handlers_get_and_again_where_it_failed(tmp_path: Path) -> None:
    def answer(request: Any, number: int) -> int:
        return 500 if number < 3 else 200

    with Receiver(SECRETS[1], answer) as receiver:
        url = receiver.url(login="ann:hunter2@")
        place = Place(tmp_path, AGENTKIT_WEBHOOKS=url, AGENTKIT_WEBHOOK_SECRET=" ".join(SECRETS))
        try:
            place.start()
            run_id = place.paused()
            assert place.web.resume(run_id, decision=YES).status_code == 202
            events = place.wait_until_told(run_id, "decision.pending", "run.paused", "run.completed")
            place.wait_until_empty(run_id)
            got = {event["id"]: event for event in receiver.events}
            assert got == {event["id"]: event for event in events}
            assert len(receiver.requests) >= 6
            for process in place.processes:
                assert "hunter2" not in process.log()
        finally:
            place.close()

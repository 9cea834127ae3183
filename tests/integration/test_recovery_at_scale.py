"""A thousand stuck runs, several workers, a real queue: each is enqueued once per period, and no flood comes of it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.queue.celery import CeleryQueue
from agentkit.settings import Settings
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import new_run
from tests.servers import ValkeyServer
from tests.waiting import wait_until

RUNS = 1000
WORKERS = 3
LEASE_SECONDS = 20.0


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def worker(url: str) -> AgentKit:
    settings = Settings(redis_url=url, broker_url=url, lease_seconds=LEASE_SECONDS)
    agent = Agent("a", ScriptedModel(["hello"]))
    return AgentKit([agent], settings=settings, store=RedisStore(url), queue=CeleryQueue(settings))


def test_a_thousand_stuck_runs_are_enqueued_once_each_and_never_crowd_the_queue(server: ValkeyServer) -> None:
    kits = [worker(server.url) for _ in range(WORKERS)]
    store = kits[0].store
    runs = {new_run(store) for _ in range(RUNS)}
    for run_id in runs:
        store.schedule(run_id, 0)
    broker = redis.Redis.from_url(server.url)
    enqueued: Counter[str] = Counter()

    def consume() -> bool:
        """Take what waits in the queue, as workers would, and lose it."""
        for message in broker.lpop(Settings().queue, 10_000) or []:
            args = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
            enqueued[args[0]] += 1
        return set(enqueued) == runs

    recoveries = [kit.recovery() for kit in kits]
    try:
        for recovery in recoveries:
            recovery.start()
        wait_until(lambda: store.backlog()[1] == 0, timeout=20, what="every run to be looked at")
        assert 200 <= broker.llen(Settings().queue) < 600, "nobody consumes, so most runs are put off"
        wait_until(consume, timeout=20, what="every run to be enqueued")
    finally:
        for recovery in recoveries:
            recovery.stop()
        for kit in kits:
            kit.store.close()
        broker.close()
    assert set(enqueued.values()) == {1}

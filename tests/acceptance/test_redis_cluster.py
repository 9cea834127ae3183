"""A Redis Cluster under many runs with watchers: a master is killed and slots move; nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.crc import key_slot

from agentkit.core.ids import new_id
from agentkit.core.inbox import ItemFilter
from agentkit.store.redis import RedisStore
from agentkit.testing.store_audit_contract import check_chain
from tests.acceptance.model import script
from tests.acceptance.stack import UVICORN, Stack, WebProcess
from tests.brokers import ValkeyBroker
from tests.servers import ClusterServers, ValkeyServer
from tests.turns import call
from tests.waiting import wait_until

RUNS = int(os.environ.get("CLUSTER_RUNS", "30"))
"""200 by hand: CLUSTER_RUNS=200."""
WORK = script(
    [{"type": "text", "text": "First I look the order up."}, call("look_up", order_id="A-1")],
    [call("pay", cents=5)],
    [call("approve")],
    "All of it is done: looked up, paid for and approved, as you can read in these many words.",
    delay=0.03,
)
RESULTS = ["A-1 was delivered", "paid 5", "approved: True"]


class Watchers:
    """Follow runs through one web process, each in a stream of its own, as browsers do: in one event loop."""

    def __init__(self, port: int) -> None:
        self.seen: dict[str, list[dict[str, Any]]] = {}
        self._url = f"http://127.0.0.1:{port}"
        self._loop = asyncio.new_event_loop()
        self._following: list[Any] = []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def follow(self, run_id: str) -> None:
        self.seen[run_id] = []
        self._following.append(asyncio.run_coroutine_threadsafe(self._follow(run_id), self._loop))

    async def _follow(self, run_id: str) -> None:
        seen = self.seen[run_id]
        async with httpx.AsyncClient(timeout=60) as http:
            while not seen or seen[-1]["type"] != "agent_end":
                headers = {"Last-Event-ID": str(seen[-1]["seq"])} if seen else {}
                try:
                    async with http.stream("GET", f"{self._url}/runs/{run_id}/events", headers=headers) as response:
                        async for line in response.aiter_lines():
                            if line.startswith("data: "):
                                seen.append(json.loads(line.removeprefix("data: ")))
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for each in self._following:
            each.result(max(0.1, until - time.monotonic()))


class Desk:
    """Starts runs, answers what they ask, and waits for their end, whatever becomes of the store meanwhile."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.retried: Counter[str] = Counter()
        """How often somebody said of a run that its `pay` is to be done again, since it had not been done by then."""
        self._until = time.monotonic() + 60 + 2 * RUNS

    def begin(self) -> str:
        body, headers = {"agent": "till", "input": WORK}, {"Idempotency-Key": new_id()}
        return str(self._asked("POST", "/runs", json=body, headers=headers)["id"])

    def finish(self, run_id: str) -> dict[str, Any]:
        while True:
            run = self._asked("GET", f"/runs/{run_id}")
            for item in run["pending"] if run["status"] == "paused" else ():
                answer = {"decision": self._decision(run_id, item), "decisionId": item["decisionId"]}
                self._asked("POST", f"/runs/{run_id}/resume", json=answer, headers={"Idempotency-Key": new_id()})
            if "endedAt" in run:
                return run
            time.sleep(0.3)

    def _decision(self, run_id: str, item: dict[str, Any]) -> dict[str, Any]:
        if item["kind"] == "decision":
            return {"approved": True}
        if self._stack.ledger.entries(run=run_id, tool="pay"):
            return {"verdict": "done", "result": "paid 5"}
        self.retried[run_id] += 1
        return {"verdict": "retry"}

    def _asked(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Ask until the store is there. An answer that was accepted though its reply was lost is a 409 of the same."""
        while True:
            assert time.monotonic() < self._until, f"{method} {path}"
            response = self._stack.web_a.http.request(method, path, **more)
            if response.status_code != 503:
                assert response.status_code in (200, 202, 409), response.text
                found: dict[str, Any] = response.json()
                return found
            assert response.json()["code"] == "store_unavailable", response.text
            time.sleep(0.2)


@pytest.fixture
def shared_stack(other_redis: ValkeyServer, tmp_path: Path) -> Iterator[Stack]:
    """Under this name a failed test shows how the logs of the processes end (conftest)."""
    lease = {"AGENTKIT_LEASE_SECONDS": "5"}  # longer than a failover takes, so that hardly any tool call is in doubt
    stack = Stack(tmp_path, lease, broker=ValkeyBroker(other_redis), store=ClusterServers(tmp_path / "store"))
    try:
        stack.start(*stack.processes)
        yield stack
    finally:
        stack.close()


@pytest.mark.timeout(120 + 3 * RUNS)
def test_nothing_is_lost_or_done_twice_where_a_master_is_killed_and_slots_move(
    shared_stack: Stack, tmp_path: Path
) -> None:
    stack, cluster = shared_stack, shared_stack.store
    assert isinstance(cluster, ClusterServers)
    web = WebProcess("web-watched", stack.env, tmp_path, UVICORN)
    web.start()
    desk, watchers = Desk(stack), Watchers(web.port)
    runs: list[str] = []

    def begin() -> str:
        run_id = desk.begin()
        watchers.follow(run_id)
        runs.append(run_id)
        return run_id

    def move(run_id: str) -> None:
        """Take a run's slot to another master."""
        slot = key_slot(f"agentkit:{{{run_id}}}".encode())
        source = cluster.owner(slot)
        cluster.move_slot(slot, next(node for node in cluster.masters() if node is not source))

    try:
        with ThreadPoolExecutor(16) as threads:
            ended = [threads.submit(desk.finish, begin()) for _ in range(RUNS // 3)]
            move(runs[-1])
            dead = cluster.owner(key_slot(f"agentkit:{{{runs[-1]}}}".encode()))
            failing_over = threads.submit(cluster.fail_over, dead)
            ended += [threads.submit(desk.finish, begin()) for _ in range(RUNS // 3)]
            failing_over.result()
            for run_id in runs[-3:]:
                move(run_id)
            ended += [threads.submit(desk.finish, begin()) for _ in range(RUNS - len(runs))]
            dead.start()
            finished = [each.result() for each in ended]
            cluster.wait_until_whole()
        watchers.wait(60)
        for run in finished:
            assert run["status"] == "completed", run
            results = [m["content"][0]["text"] for m in run["messages"] if m["role"] == "toolResult"]
            assert results == RESULTS
            paid = len(stack.ledger.entries(run=run["id"], tool="pay"))
            assert 1 <= paid <= 1 + desk.retried[run["id"]], "a once tool is repeated after a verdict alone"
            assert watchers.seen[run["id"]] == stack.checked(run["id"]), "every event once, in order"
        assert len(finished) == RUNS
        with closing(RedisStore(cluster.url)) as store:
            assert set(store.listing(None, 2 * RUNS)) == set(runs), "all are listed, and no others are there"
            wait_until(lambda: store.count_items(ItemFilter()) == [0], timeout=60, what="the inbox to be empty")
            wait_until(lambda: check_chain(store) >= RUNS, timeout=60, what="every answer to be recorded")
    finally:
        web.kill()

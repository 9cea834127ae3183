"""The store is away, full or read-only for a while, under runs that stream, execute, wait and begin.

Each trouble outlasts the lease time, and each story is the same: requests are refused and can be made again,
steps hold on to what they have done, and nobody starts anything anew when the store is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.acceptance.model import script
from tests.acceptance.stack import LEASE_SECONDS, Stack
from tests.servers import SentinelServer, ValkeyServer, free_port
from tests.turns import call
from tests.waiting import wait_until

ANSWER = "It takes a while to say all this, longer than the store is away, and all of it is said once."


@contextmanager
def killed(store: ValkeyServer) -> Iterator[None]:
    store.kill()
    try:
        yield
    finally:
        store.start()


@contextmanager
def suspended(store: ValkeyServer) -> Iterator[None]:
    store.suspend()
    try:
        yield
    finally:
        store.resume()


@contextmanager
def configured(store: ValkeyServer, name: str, value: str) -> Iterator[None]:
    assert store.command("CONFIG", "SET", name, value) == "+OK"
    try:
        yield
    finally:
        assert store.command("CONFIG", "SET", name, "0") == "+OK"


@contextmanager
def read_only(store: ValkeyServer) -> Iterator[None]:
    """A replica of nobody: it keeps its data and takes no writes, as a demoted master does."""
    assert store.command("REPLICAOF", "127.0.0.1", str(free_port())) == "+OK"
    try:
        yield
    finally:
        assert store.command("REPLICAOF", "NO", "ONE") == "+OK"


REFUSALS: dict[str, Callable[[ValkeyServer], AbstractContextManager[None]]] = {
    "full": lambda store: configured(store, "maxmemory", "1"),
    "read-only": read_only,
    "without replicas": lambda store: configured(store, "min-replicas-to-write", "1"),
}


class Story:
    """Runs in every state, which meet a trouble and get over it."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self._name = name
        self._key = f"key of {name}"
        self._decision = {"decision": {"approved": True}}
        self.paused = stack.web_a.begin("support", script([call("refund", order_id="A-1", cents=5)], "Refunded."))
        self.holding = stack.web_a.begin("till", script([call("hold")], "Held."))
        stack.wait_for(self.paused, "paused")
        wait_until(lambda: stack.ledger.entries(run=self.holding, tool="hold"), what="the tool to execute")
        self.streaming = stack.web_a.begin("support", script(ANSWER, name=name, delay=0.4))
        self.seen: list[dict[str, Any]] = []
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        wait_until(lambda: any(event["type"] == "message_update" for event in self.seen), what="the first words")

    def _watch(self) -> None:
        with closing(self.stack.web_b.follow(self.streaming)) as events:
            self.seen += events

    def _start(self) -> httpx.Response:
        body = {"agent": "support", "input": script("Here I am.")}
        return self.stack.web_a.http.post("/runs", json=body, headers={"Idempotency-Key": self._key})

    def _resume(self) -> httpx.Response:
        return self.stack.web_b.resume(self.paused, **self._decision)

    def is_refused(self) -> None:
        """Starting and answering get a 503 that says when to come again; meanwhile a tool finishes."""
        self.stack.ledger.add(let_go=self.holding)
        with ThreadPoolExecutor(3) as pool:
            ready = pool.submit(self.stack.web_a.http.get, "/readyz")
            for response in [pool.submit(self._start), pool.submit(self._resume)]:
                answer = response.result()
                assert answer.status_code == 503, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "store_unavailable"
                assert int(answer.headers["retry-after"]) >= 1
            assert ready.result().status_code == 503
            assert ready.result().json()["checks"]["store"] is False

    def outlives_its_leases(self) -> None:
        due = time.monotonic() + LEASE_SECONDS
        wait_until(lambda: time.monotonic() > due, what="the leases to run out")

    def goes_on(self) -> None:
        """What was refused is accepted, once; every run ends as if nothing had been."""
        stack = self.stack
        wait_until(lambda: self._resume().status_code == 202, timeout=20, what="the answer to be taken", every=0.1)
        begun = {self._start().json()["id"] for _ in range(2)}
        assert len(begun) == 1
        for run_id in (self.streaming, self.holding, self.paused, *begun):
            stack.wait_for(run_id, "completed", timeout=20)
            events = stack.checked(run_id)
            assert "message_discard" not in [event["type"] for event in events]
        self._watcher.join(10)
        assert self.seen == stack.checked(self.streaming)
        assert len(stack.ledger.entries(model=self._name)) == 1
        for run_id, tool in ((self.holding, "hold"), (self.paused, "refund")):
            assert [entry["attempt"] for entry in stack.ledger.entries(run=run_id, tool=tool)] == [1]
        assert all(process.process and process.process.poll() is None for process in stack.processes)


@pytest.mark.parametrize("trouble", [killed, suspended])
def test_runs_outlast_a_store_that_is_away(
    stack: Stack, trouble: Callable[[ValkeyServer], AbstractContextManager[None]]
) -> None:
    story = Story(stack, trouble.__name__)
    with trouble(stack.store):
        story.is_refused()
        story.outlives_its_leases()
    story.goes_on()


def test_runs_outlast_a_store_that_takes_no_writes(stack: Stack) -> None:
    story = Story(stack, "refusing")
    with ExitStack() as troubles:
        for refusal in REFUSALS.values():  # one on top of the other: there is no moment between them
            troubles.enter_context(refusal(stack.store))
            story.is_refused()
        story.outlives_its_leases()
    story.goes_on()


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[Stack, redis.Redis]]:
    """A stack of its own, which finds its store through Sentinel alone, and a client of the store's replica."""
    with SentinelServer() as sentinel, ValkeyServer() as replica, redis.Redis(port=replica.port) as client:
        stack = Stack(tmp_path, {"AGENTKIT_REDIS_URL": sentinel.service_url})
        try:
            stack.store.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
            replica.command("REPLICAOF", "127.0.0.1", str(stack.store.port))
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica")
            sentinel.watch(stack.store)
            stack.repair()
            yield stack, client
        finally:
            stack.close()


def test_runs_outlast_a_failover_behind_sentinel(replicated: tuple[Stack, redis.Redis]) -> None:
    stack, replica = replicated
    story = Story(stack, "failing over")

    def caught_up() -> bool:
        with redis.Redis.from_url(stack.store.url) as master:
            sent = master.info("replication")["master_repl_offset"]
        return bool(replica.info("replication")["slave_repl_offset"] == sent)

    wait_until(caught_up, what="the replica to catch up")  # what it has not got is lost with its master
    stack.store.kill()
    stack.ledger.add(let_go=story.holding)
    wait_until(lambda: replica.info("replication")["role"] == "master", timeout=15, what="the failover")
    story.goes_on()


def test_scripts_that_the_server_forgets_all_the_time_are_sent_again(stack: Stack) -> None:
    over = threading.Event()

    def flush() -> None:
        while not over.wait(0.005):
            stack.store.command("SCRIPT", "FLUSH")

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        message = script([call("look_up", order_id="A-1"), call("look_up", order_id="A-2")], ANSWER, delay=0.02)
        runs = [stack.web_a.begin("support", message) for _ in range(4)]
        for run_id in runs:
            stack.wait_for(run_id, "completed")
            stack.checked(run_id)
    finally:
        over.set()
        flushing.join()

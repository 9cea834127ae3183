"""Runs on a store and a broker that speak TLS alone, with passwords and client certificates, and by Sentinel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.stack import Stack
from tests.acceptance.test_store_trouble import Story
from tests.tls_servers import Authority, TlsSentinel, TlsServer
from tests.waiting import wait_until


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[Stack, TlsServer]]:
    """A stack that finds its store through a Sentinel of TLS alone, and the store's replica."""
    authority = Authority(tmp_path)
    sentinel, replica, master = (
        TlsSentinel(authority, tmp_path, "sentinel"),
        TlsServer(authority, tmp_path, "replica"),
        TlsServer(authority, tmp_path, "master"),
    )
    with sentinel, replica:
        stack = Stack(tmp_path, {"AGENTKIT_REDIS_URL": sentinel.service_url}, store=master)
        try:
            stack.store.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
            replica.command("REPLICAOF", "127.0.0.1", str(stack.store.port))
            with redis.Redis.from_url(replica.url) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", 30, "the replica")
            sentinel.watch(stack.store)
            stack.repair()
            yield stack, replica
        finally:
            stack.close()


@pytest.mark.timeout(240)
def test_runs_outlast_a_failover_behind_a_sentinel_of_tls_with_passwords(replicated: tuple[Stack, TlsServer]) -> None:
    stack, replica = replicated
    story = Story(stack, "failing over by TLS")
    with redis.Redis.from_url(stack.store.url) as master, redis.Redis.from_url(replica.url) as client:

        def caught_up() -> bool:
            sent = master.info("replication")["master_repl_offset"]
            return bool(client.info("replication")["slave_repl_offset"] == sent)

        wait_until(caught_up, 30, "the replica to catch up")  # what it has not got is lost with its master
        stack.store.kill()
        stack.ledger.add(let_go=story.holding)
        wait_until(lambda: client.info("replication")["role"] == "master", timeout=60, what="the failover")
        story.goes_on()
        assert any(key.startswith(b"agentkit:{") for key in client.scan_iter(count=1000)), "they are where it is said"


@pytest.mark.timeout(180)
def test_runs_are_executed_by_tls_with_client_certificates(tmp_path: Path) -> None:
    stack = Stack(tmp_path, store=TlsServer(Authority(tmp_path), tmp_path, "server"))
    try:
        stack.start(*stack.processes)
        assert stack.env["AGENTKIT_REDIS_URL"].startswith("rediss://")
        story = Story(stack, "by TLS")
        stack.ledger.add(let_go=story.holding)
        story.goes_on()
        doctor = stack.web_a.http.get("/doctor").json()
        [store] = [finding for finding in doctor["findings"] if finding["name"] == "store"]
        assert "The connection is encrypted" in store["text"] or "ms to answer" in store["text"], store
        shown = "".join(process.log() for process in stack.processes)
        assert "s3cret" not in shown
        assert "s3cret%20of" not in shown
    finally:
        stack.close()

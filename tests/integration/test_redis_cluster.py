"""The store on a real cluster of three masters and three replicas."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis.crc import key_slot

from agentkit.core.urls import ClusterUrl
from agentkit.errors import ConfigurationError, StoreError, StoreUnavailableError
from agentkit.settings import Settings
from agentkit.store.cluster import ClusterClient
from agentkit.store.lua import RunKeys
from agentkit.store.protocol import Append, Appended, LeaseStatus, Push, Store
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import LEASE_MS, MakeStore, claimed, event, new_run, step_done
from tests.redis_contract import ITEM, PREFIX, RedisStoreContract, echoing, ttls_of
from tests.servers import ClusterServers
from tests.waiting import wait_until

T = TypeVar("T")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    """One for all that leave it whole."""
    with ClusterServers() as servers:
        yield servers


@pytest.fixture
def client(cluster: ClusterServers) -> Iterator[Any]:
    url = ClusterUrl.read(cluster.url)
    assert url is not None
    with echoing(ClusterClient).of(url, {"protocol": 2}) as client:
        client.flushall()
        yield client


class TestClusterStore(RedisStoreContract):
    @pytest.fixture
    def client(self, client: Any) -> Any:
        return client

    test_pushed_messages_go_into_their_queues_with_the_commit_or_not_at_all = None  # type: ignore[assignment]
    test_what_the_last_call_pushes_goes_into_its_queue_when_that_ends = None  # type: ignore[assignment]
    test_a_commit_that_pushes_leaves_its_slot_for_the_queues_alone = None  # type: ignore[assignment]

    def test_what_spans_two_slots_is_refused_before_anything_is_done(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        with pytest.raises(StoreError) as caught:
            store.commit(step_done(claim), claim.state.version, claim.lease, [Push("queue", "message")])
        assert not isinstance(caught.value, StoreUnavailableError)
        assert store.load(run_id).version == claim.state.version

    def test_the_due_index_is_spread_over_all_masters(self, store: Store, client: Any) -> None:
        for number in range(100):
            store.schedule(f"run-{number}", 1 + number)
        parts = {key for key in ttls_of(client, f"{PREFIX}*") if "due" in key}
        assert len(parts) == 16
        assert len({client.get_node_from_key(part).name for part in parts}) == 3
        assert store.backlog() == (100, 100)
        assert store.next_check() == store.next_check("run-0")
        found = [run.run_id for run in (*store.due(30, 60_000), *store.due(100, 60_000))]
        assert found == [f"run-{number}" for number in range(100)], "those that wait longest come first, each once"

    def test_it_says_what_it_is_connected_to(self, make_store: MakeStore) -> None:
        health = make_store().check()
        assert health.version.startswith("a cluster of 3 masters of Valkey ")
        assert sum("appendonly is off" in warning for warning in health.warnings) == 3
        assert not any("no replica" in warning for warning in health.warnings)


# -- a cluster that changes


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[ClusterServers]:
    """One of the test's own."""
    with ClusterServers(tmp_path / "cluster") as servers:
        yield servers


class Writer:
    """Appends events to a run for ever, each until the store has taken it, as a worker does; and reads along."""

    def __init__(self, url: str) -> None:
        self.store = RedisStore(url, prefix=PREFIX)
        self.run_id = new_run(self.store)
        self.slot = key_slot(RunKeys.of(PREFIX, self.run_id).run.encode())
        self._lease = claimed(self.store, self.run_id, lease_ms=3_600_000).lease
        self._first = self.store.load(self.run_id).last_seq + 1
        self._subscription = self.store.subscribe(self.run_id)
        self._over = threading.Event()
        self.written = self.receivers = 0
        self.pushed: list[int] = []
        """What came by the subscription, without the log being read."""
        self.seen: list[int] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        while not self._over.is_set():
            appends = [Append(self._lease, [event("x")], self.written + 1)]
            (appended,) = repeated(lambda appends=appends: self.store.append(appends))
            assert isinstance(appended, Appended)
            self.receivers = appended.receivers
            self.written += 1
            time.sleep(0.005)

    def _read(self) -> None:
        while not self._over.is_set() or len(self.seen) < self.written:
            got = self._subscription.get(0.5)
            self.pushed += [each.seq for each in got or ()]
            if not got:  # the log must be read, or nothing has come for long
                last = self.seen[-1] if self.seen else self._first - 1
                got = repeated(lambda last=last: self.store.events(self.run_id, last, 1000)).events
            self.seen += [each.seq for each in got if each.seq > (self.seen[-1] if self.seen else self._first - 1)]

    def comes_on(self, *, pushed: bool = False) -> None:
        """Wait until more was written and read; with `pushed` by the subscription."""
        count, read = self.written, self.pushed if pushed else self.seen
        have = len(read)
        wait_until(lambda: self.written > count + 5 and len(read) > have + 5, timeout=60, what="more events")

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert self.seen == list(range(self._first, self._first + self.written)), "each once, in order"
        assert repeated(lambda: self.store.load(self.run_id)).last_seq == self.seen[-1]
        self._subscription.close()
        self.store.close()


def repeated(call: Callable[[], T]) -> T:
    """Call until the store can be used, as everybody does who writes to it."""
    until = time.monotonic() + 60
    while True:
        try:
            return call()
        except StoreUnavailableError:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_slot_that_moves_takes_its_run_along_with_those_who_follow_it(changing: ClusterServers) -> None:
    writer = Writer(changing.url)
    writer.comes_on(pushed=True)
    source = changing.owner(writer.slot)
    target = next(node for node in changing.masters() if node is not source)
    count = changing.move_slot(writer.slot, target, pause=writer.comes_on)
    assert count >= 3
    assert changing.owner(writer.slot) is target
    writer.comes_on(pushed=True)
    assert writer.receivers == 1, "who publishes knows of the follower"
    changing.move_slot(writer.slot, source)
    writer.comes_on(pushed=True)
    writer.end()


def test_after_a_master_has_died_its_runs_go_on_with_those_who_follow_them(changing: ClusterServers) -> None:
    writer = Writer(changing.url)
    writer.comes_on(pushed=True)
    dead = changing.owner(writer.slot)
    changing.fail_over(dead)
    writer.comes_on(pushed=True)
    dead.start()
    changing.wait_until_whole()
    writer.comes_on(pushed=True)
    writer.end()


def test_scripts_are_sent_to_a_master_that_has_none(changing: ClusterServers) -> None:
    store = RedisStore(changing.url, prefix=PREFIX)
    runs = [new_run(store) for _ in range(30)]
    leases = [claimed(store, run_id).lease for run_id in runs]
    store.renew(leases, LEASE_MS)
    for node in changing.masters()[1:]:
        node.command("SCRIPT", "FLUSH")
    assert store.renew(leases, LEASE_MS) == [LeaseStatus.HELD] * 30
    for node in changing.masters()[1:]:
        node.command("SCRIPT", "FLUSH")
    assert all(store.events(run_id, 0, 10).last_seq == 4 for run_id in runs)
    store.close()


def test_what_has_lost_its_master_waits_and_the_rest_goes_on(tmp_path: Path) -> None:
    with ClusterServers(tmp_path / "cluster", replicas=0) as servers:
        store = RedisStore(servers.url, prefix=PREFIX)
        runs = [new_run(store) for _ in range(30)]
        assert sum("has no replica" in warning for warning in store.check().warnings) == 3
        dead = servers.masters()[1]
        dead.kill()

        def is_there(run_id: str) -> bool:
            try:
                return store.load(run_id).record.id == run_id
            except StoreUnavailableError:
                return False

        there = {run_id: is_there(run_id) for run_id in runs}
        assert set(there.values()) == {True, False}
        with pytest.raises(StoreUnavailableError):
            store.check()
        dead.start()
        wait_until(lambda: all(map(is_there, runs)), timeout=60, what="the cluster to be whole")
        store.close()


def test_a_master_that_hangs_is_waited_for_once_whatever_is_asked_of_it() -> None:
    """As many waits as leases would take minutes, over the timeout of this test."""
    with ClusterServers(replicas=0) as servers:
        store = RedisStore(servers.url, prefix=PREFIX)
        leases = [claimed(store, new_run(store), lease_ms=60_000).lease for _ in range(60)]
        hanging = servers.masters()[1]
        hanging.suspend()
        with pytest.raises(StoreUnavailableError):
            store.renew(leases, 3_600_000)
        hanging.resume()
        far = 120_000
        until = {lease.run_id: repeated(lambda lease=lease: store.load(lease.run_id)).live[1] for lease in leases}
        assert sum(at > store.now() + far for at in until.values()) > 20, "those of the other masters were renewed"
        store.close()


def test_a_master_that_hangs_is_replaced_and_its_runs_go_on(changing: ClusterServers) -> None:
    writer = Writer(changing.url)
    writer.comes_on(pushed=True)
    hanging = changing.owner(writer.slot)
    hanging.suspend()
    writer.comes_on(pushed=True)
    hanging.kill()
    hanging.start()
    changing.wait_until_whole()
    writer.comes_on(pushed=True)
    writer.end()


def test_a_cluster_that_is_not_there_is_unavailable_and_is_used_once_it_is() -> None:
    servers = ClusterServers()
    with servers:
        url = servers.url
    store = RedisStore(url, prefix=PREFIX)
    with pytest.raises(StoreUnavailableError) as caught:
        store.load("r")
    assert caught.value.retry_after >= 1
    subscription = store.subscribe("r")
    assert wait_until(lambda: subscription.get(1) == [], what="word to read the log")
    with ClusterServers() as others:
        store = RedisStore(url.replace("redis+cluster://", f"redis+cluster://127.0.0.1:{others.nodes[4].port},"))
        assert store.load(new_run(store)).last_seq == 2, "one node that answers is enough"
        store.close()
    subscription.close()


def test_users_with_the_rights_of_the_pages_and_no_others_do_all_that_is_the_clusters() -> None:
    """What is a server's, too, is tried in tests/acceptance/test_redis_acl.py."""
    docs = Path(__file__).parents[2] / "docs"
    [line] = re.findall(r"^user (agentkit-web .*)$", (docs / "reference" / "redis-acl.md").read_text(), re.MULTILINE)
    [more] = re.findall(r"need\s+`(.*?)` beside", (docs / "how-to" / "redis-cluster.md").read_text(), re.DOTALL)
    rules = [*line.split()[1:], *more.split()]
    with ClusterServers() as servers:
        for node in servers.nodes:
            assert node.command("ACL", "SETUSER", "agentkit-web", *rules) == "+OK"
        url = servers.url.replace("://", "://agentkit-web:WEB-PASSWORD@")
        store = RedisStore(url)
        runs = [new_run(store) for _ in range(9)]
        leases = [claimed(store, run_id).lease for run_id in runs]
        subscriptions = [store.subscribe(run_id) for run_id in runs]
        assert store.renew(leases, LEASE_MS) == [LeaseStatus.HELD] * 9
        for appended in store.append([Append(lease, [event("x")], 1) for lease in leases]):
            assert isinstance(appended, Appended)
            assert appended.receivers == 1
        assert all(wait_until(lambda each=each: each.get(1), what="the event") for each in subscriptions)
        slot = key_slot(RunKeys.of("agentkit:", runs[0]).run.encode())
        target = next(node for node in servers.masters() if node is not servers.owner(slot))
        met: list[object] = []
        servers.move_slot(slot, target, pause=lambda: met.append(store.receipt(runs[0], "k")))
        assert met, "what has moved is asked for at its new place"
        store.list_items([ITEM])
        assert store.check().version
        for subscription in subscriptions:
            subscription.close()
        store.close()


@pytest.mark.parametrize(
    ("given", "nodes", "server"),
    [
        ("redis+cluster://one", (("one", 6379),), "redis://one:6379"),
        ("redis+cluster://one:1,two,[::1]:3/", (("one", 1), ("two", 6379), ("::1", 3)), "redis://one:1"),
        (
            "rediss+cluster://ann:s%40e@one:1/0?ssl_ca_certs=/ca",
            (("one", 1),),
            "rediss://ann:s%40e@one:1?ssl_ca_certs=/ca",
        ),
    ],
)
def test_a_cluster_url_names_some_nodes_and_how_to_connect_to_all(given: str, nodes: Any, server: str) -> None:
    assert ClusterUrl.read(given) == ClusterUrl(nodes, server)
    assert ClusterUrl.read("redis://one") is None


@pytest.mark.parametrize("url", ["", "one:x", "a,,b", "one/1", "one:1/runs"])
def test_a_cluster_url_that_cannot_be_read_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Cluster") as caught:
        ClusterUrl.read(f"redis+cluster://ann:hunter2@{url}")
    assert "hunter2" not in str(caught.value)


def test_a_cluster_is_no_broker_and_the_error_says_what_to_set() -> None:
    url = "redis+cluster://one:1"
    with pytest.raises(ConfigurationError, match="AGENTKIT_BROKER_URL is not set, and the store is a Redis Cluster"):
        Settings(redis_url=url)
    with pytest.raises(ConfigurationError, match="AGENTKIT_BROKER_URL names a Redis Cluster"):
        Settings(redis_url=url, broker_url=url)
    assert Settings(redis_url=url, broker_url="amqp://rabbit").redis_url == url


def test_a_process_that_is_forked_connects_for_itself(cluster: ClusterServers) -> None:
    store = RedisStore(cluster.url, prefix=PREFIX)
    run_id = new_run(store)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest's may go on here
        try:
            os.write(writer, str(store.load(run_id).last_seq).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as result:
        assert result.read() == b"2"
    os.waitpid(child, 0)
    assert store.load(run_id).last_seq == 2
    store.close()

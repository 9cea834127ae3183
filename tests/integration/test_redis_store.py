"""The store on a real Valkey server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from agentkit import FernetCodec
from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.store.protocol import Append, Appended, LeaseStatus, Store
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import MakeStore, append, claimed, event, new_run
from tests.keys import new_key
from tests.redis_contract import PREFIX, RedisStoreContract, echoing
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until


class TestRedisStore(RedisStoreContract):
    @pytest.fixture
    def client(self, redis_url: str) -> Iterator[Any]:
        with echoing(redis.Redis).from_url(redis_url, protocol=2) as client:
            yield client

    def test_it_says_what_of_the_servers_settings_loses_runs(self, make_store: MakeStore) -> None:
        assert any("appendonly" in warning for warning in make_store().check().warnings)

    def test_an_append_that_the_server_refuses_is_refused_alone(self, store: Store, client: Any) -> None:
        runs = [new_run(store) for _ in range(3)]
        leases = [claimed(store, run_id).lease for run_id in runs]
        client.delete(f"{PREFIX}{{{runs[1]}}}:e")
        client.set(f"{PREFIX}{{{runs[1]}}}:e", "no stream")
        first, refused, last = store.append([Append(lease, [event("x")], 1) for lease in leases])
        assert (first, last) == (Appended(LeaseStatus.HELD), Appended(LeaseStatus.HELD))
        assert isinstance(refused, StoreError)
        assert "WRONGTYPE" in str(refused)
        assert [store.load(run_id).last_seq for run_id in (runs[0], runs[2])] == [5, 5]


class TestEncryptedRedisStore(TestRedisStore):
    codec = FernetCodec(new_key())
    page_share = 0.6


def test_a_store_that_is_not_there_is_unavailable() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnavailableError) as caught:
        store.load("r")
    assert caught.value.retry_after >= 1
    with pytest.raises(StoreUnavailableError):
        store.check()


def test_a_cluster_behind_the_url_of_one_server_is_appended_to_run_by_run() -> None:
    with ValkeyServer(options={"cluster-enabled": "yes"}) as server:
        client: Any = redis.Redis.from_url(server.url)
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok", what="the cluster")
        store = RedisStore(server.url)
        try:
            leases = [claimed(store, new_run(store)).lease for _ in range(3)]
            for flush in (1, 2):
                outcomes = store.append([Append(lease, [event("x")], flush) for lease in leases])
                assert outcomes == [Appended(LeaseStatus.HELD)] * 3
            assert [store.load(lease.run_id).last_seq for lease in leases] == [6, 6, 6]
        finally:
            store.close()


def test_a_subscriber_misses_nothing_when_the_server_is_killed_and_comes_back(tmp_path: Any) -> None:
    with ValkeyServer(tmp_path) as server:
        store = RedisStore(server.url)
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        subscription = store.subscribe(run_id)

        def read(last: int) -> bool:
            """Take what comes as a reader does; whether it has come to the event `last`."""
            got = subscription.get(0.5)
            if got == []:
                got = store.events(run_id, seen[-1], 10).events
            seen.extend(e.seq for e in got or () if e.seq > seen[-1])
            return seen[-1] == last

        try:
            wait_until(lambda: subscription.get(0.2) is None, what="a quiet subscription")
            server.restart(hard=True)
            seen = [4]  # the last seq of a new run whose step is claimed
            for flush in (1, 2):  # while there is no subscription, perhaps, and while there is one again
                append(store, lease, [event("x")], flush)
                wait_until(lambda last=4 + flush: read(last), timeout=20, what="the event, or word to read the log")
            assert seen == [4, 5, 6]
        finally:
            subscription.close()
            store.close()

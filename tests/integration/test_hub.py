"""One subscription for all who follow, on a real server: what it costs, and what it does when something goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from agentkit.runtime.follow import follow
from agentkit.store.connection import connect
from agentkit.store.protocol import StoredEvent
from agentkit.store.pubsub import Hub, HubSubscription, Server
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import append, claimed, event, new_run, step_done
from tests.apps import in_background
from tests.relay import Relay
from tests.servers import ValkeyServer
from tests.waiting import wait_until

FIRST = 4
"""The last seq of a new run whose step is claimed."""


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    """A client of a server of this test's own, so that all its subscribers are ours."""
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def store(client: redis.Redis) -> Iterator[RedisStore]:
    port = client.connection_pool.connection_kwargs["port"]
    store = RedisStore(f"redis://127.0.0.1:{port}/0")
    yield store
    store.close()


@pytest.fixture
def hub(store: RedisStore) -> Iterator[Hub]:
    hub = Hub(Server(connect(store.url)))
    yield hub
    hub.close()


def no_reset() -> StoredEvent:
    raise AssertionError("nothing was trimmed")


def subscribers(client: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = client.client_list(_type="pubsub")
    return found


def test_what_is_published_while_the_subscription_is_killed_is_read_from_the_log(
    store: RedisStore, client: redis.Redis
) -> None:
    run_id = new_run(store)
    claim = claimed(store, run_id)
    got: list[int] = []

    def watch() -> None:
        got.extend(e.seq for e in follow(store, run_id, 0, reset=no_reset) if e is not None)

    watcher = in_background(watch)
    wait_until(lambda: subscribers(client), what="the subscription")
    for flush in range(1, 11, 2):
        append(store, claim.lease, [event("x")], flush)
        [connection] = wait_until(lambda: subscribers(client), what="a subscription")
        client.client_kill_filter(_id=connection["id"])
        append(store, claim.lease, [event("lost to the killed one")], flush + 1)
    store.commit(step_done(claim, events=(event("agent_end"),)), claim.state.version, claim.lease)
    watcher.join(20)
    assert not watcher.is_alive()
    assert len(got) == FIRST + 10 + 1
    assert got == list(range(1, store.load(run_id).last_seq + 1))


def test_a_subscription_that_was_silent_for_longer_than_its_socket_waits_is_still_the_same(
    client: redis.Redis,
) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    store = RedisStore("", client=redis.Redis(port=port, protocol=2, socket_timeout=0.1))
    run_id = new_run(store)
    lease = claimed(store, run_id).lease
    subscription = store.subscribe(run_id)
    before = subscribers(client)
    for flush in (1, 2, 3):
        assert subscription.get(0.35) is None, "silence, and nobody is sent to the log"
        append(store, lease, [event("x")], flush)
        assert [e.seq for e in subscription.get(5) or ()] == [FIRST + flush]
    assert [each["id"] for each in subscribers(client)] == [each["id"] for each in before]
    subscription.close()
    store.close()


def test_a_connection_that_was_lost_without_a_word_is_noticed(client: redis.Redis) -> None:
    with Relay(client.connection_pool.connection_kwargs["port"]) as relay:
        store = RedisStore("", client=redis.Redis(port=relay.port, protocol=2, socket_timeout=0.2))
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        subscription = store.subscribe(run_id)
        [before] = subscribers(client)
        relay.lose_connections()
        got = wait_until(lambda: [e for e in [subscription.get(1)] if e is not None], what="the end of the silence")
        assert got == [[]], "the subscriber is sent to the log"
        wait_until(lambda: any(each["id"] != before["id"] for each in subscribers(client)), what="another subscription")
        append(store, lease, [event("x")], 1)
        assert [e.seq for e in subscription.get(5) or ()] == [FIRST + 1]
        subscription.close()
        store.close()


def test_watchers_who_come_and_go_while_the_subscription_is_killed_leave_no_connection_behind(
    hub: Hub, client: redis.Redis
) -> None:
    over = threading.Event()

    def come_and_go(name: str) -> None:
        visit = 0
        while not over.is_set():
            visit += 1
            hub.subscribe(f"{name}-{visit}").close()

    visitors = [in_background(lambda name=name: come_and_go(name)) for name in "abcd"]
    for _ in range(100):
        for each in subscribers(client):
            client.client_kill_filter(_id=each["id"])
    over.set()
    for visitor in visitors:
        visitor.join(20)
    subscription = hub.subscribe("run")
    assert len(subscribers(client)) == 1
    client.publish("run", b"1\n{}")
    wait_until(lambda: subscription.get(1), what="the event")
    subscription.close()
    hub.close()
    wait_until(lambda: not subscribers(client), what="the connection to be closed")


def test_a_subscriber_may_leave_while_its_thread_delivers_events_and_another_comes(hub: Hub) -> None:
    garbage = hub.subscribe("run")
    came: list[HubSubscription] = []
    comer = in_background(lambda: came.append(hub.subscribe("run")))
    with hub.guard:  # as by a thread that is interrupted here by the garbage collection
        wait_until(lambda: len(hub._followers["run"]) == 2, what="the other to be there")
        leaver = in_background(garbage.close)
        leaver.join(5)
        assert not leaver.is_alive()
    comer.join(5)
    assert came[0].confirmed


def test_a_thread_that_cannot_be_started_costs_one_watcher_and_not_those_who_come_after(
    hub: Hub, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            hub.subscribe("run")
    assert not hub._followers
    subscription = hub.subscribe("run")
    client.publish("run", b"1\n{}")
    assert subscription.get(5) == [StoredEvent(1, b"{}")]
    subscription.close()


def test_a_follower_may_leave_as_garbage_in_the_thread_that_is_being_started(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, begin = HubSubscription(hub, "gone"), threading.Thread._set_ident  # type: ignore[attr-defined]

    def collect_garbage(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name == "agentkit-hub":
            gone.close()

    monkeypatch.setattr(threading.Thread, "_set_ident", collect_garbage)
    subscribing = threading.Thread(target=lambda: hub.subscribe("run"), daemon=True)
    subscribing.start()
    subscribing.join(20)
    assert not subscribing.is_alive()


def test_a_url_that_asks_for_resp3_loses_no_events(store: RedisStore) -> None:
    resp3 = RedisStore(f"{store.url}?protocol=3")
    run_id = new_run(store)
    lease = claimed(store, run_id).lease
    subscription = resp3.subscribe(run_id)
    append(store, lease, [event("x")], 1)
    assert [e.seq for e in subscription.get(5) or ()] == [FIRST + 1]
    subscription.close()
    resp3.close()


def test_a_hundred_watchers_share_one_connection_which_lets_go_of_each_run_after_its_last(
    store: RedisStore, client: redis.Redis
) -> None:
    runs = [new_run(store) for _ in range(10)]
    subscriptions = [store.subscribe(run_id) for run_id in runs for _ in range(10)]
    [connection] = subscribers(client)
    assert connection["sub"] == "10"
    for each in subscriptions[:-1]:
        each.close()
    wait_until(lambda: subscribers(client)[0]["sub"] == "1", what="the others to be let go")
    claim = claimed(store, runs[-1])
    append(store, claim.lease, [event("x")], 1)
    got: list[int] = []
    wait_until(lambda: got.extend(e.seq for e in subscriptions[-1].get(1) or ()) or len(got) == 3, what="the events")
    assert got == [FIRST - 1, FIRST, FIRST + 1], "those of the claim, and that of the append"
    subscriptions[-1].close()


def test_a_follower_who_takes_nothing_is_sent_to_the_log_and_the_next_one_misses_nothing(store: RedisStore) -> None:
    run_id = new_run(store)
    claim = claimed(store, run_id)
    slow, quick = store.subscribe(run_id), store.subscribe(run_id)
    taken: list[int] = []
    for flush in range(1, 41):
        append(store, claim.lease, [event("x")] * 50, flush)
        while not taken or taken[-1] < FIRST + 50 * flush:
            taken += [e.seq for e in quick.get(5) or ()]
    assert taken == list(range(FIRST + 1, FIRST + 2001))
    assert len(slow._waiting) <= 512  # type: ignore[attr-defined]  # memory is what this is about
    assert slow.get(5) == []
    assert slow.get(0) is None
    append(store, claim.lease, [event("x")], 41)
    assert [e.seq for e in slow.get(5) or ()] == [FIRST + 2001]
    slow.close()
    quick.close()


def test_a_follower_who_takes_nothing_of_large_events_keeps_few_of_them(store: RedisStore) -> None:
    run_id = new_run(store)
    claim = claimed(store, run_id)
    slow, quick = store.subscribe(run_id), store.subscribe(run_id)
    for flush in range(1, 9):
        append(store, claim.lease, [event("x", text="y" * 200_000)], flush)
        assert [e.seq for e in quick.get(5) or ()] == [FIRST + flush]
    assert len(slow._waiting) <= 4  # type: ignore[attr-defined]  # memory is what this is about
    assert slow.get(5) == []
    append(store, claim.lease, [event("x", text="y" * 200_000)] * 4, 9)
    assert [e.seq for e in slow.get(5) or ()] == [FIRST + n for n in range(9, 13)]
    slow.close()
    quick.close()


def test_many_who_read_the_log_at_once_wait_for_a_connection(store: RedisStore, client: redis.Redis) -> None:
    run_id = new_run(store)
    pages: list[int] = []
    readers = [in_background(lambda: pages.append(store.events(run_id, 0, 10).last_seq)) for _ in range(200)]
    for reader in readers:
        reader.join(20)
    assert pages == [2] * 200
    assert len(client.client_list()) <= 40

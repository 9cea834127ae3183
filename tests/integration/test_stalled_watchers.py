"""What a follower that does not go on costs this process, on a real server."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

import pytest

from agentkit.core.record import Lease
from agentkit.runtime.follow import follow_batches
from agentkit.store.protocol import Append, StoredEvent
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import claimed, event, new_run
from tests.waiting import wait_until

WATCHERS = 2
LIMIT = 2_000_000
"""Bytes that a watcher may cost."""


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    store.close()


def write(store: RedisStore, lease: Lease, flushes: range, count: int = 50, text: str = "x" * 2000) -> None:
    """Append `count` events of 2 kB with each flush."""
    for flush in flushes:
        store.append([Append(lease, [event("x", text=f"{flush} {number} {text}") for number in range(count)], flush)])


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def follows(seq: int, batch: Sequence[StoredEvent]) -> int:
    """Check that a batch goes on after `seq`; return its last seq."""
    assert [entry.seq for entry in batch] == list(range(seq + 1, seq + 1 + len(batch)))
    return seq + len(batch)


def no_reset() -> StoredEvent:
    raise AssertionError("nothing was trimmed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what tests before have left
def test_a_watcher_that_does_not_go_on_holds_two_megabytes_gets_all_and_gives_them_back(store: RedisStore) -> None:
    run_id = new_run(store)
    lease = claimed(store, run_id).lease
    write(store, lease, range(1, 41))  # 4 MB that are there when they come
    with ExitStack() as watching:
        tracemalloc.start()
        watching.callback(tracemalloc.stop)
        before = held()
        watchers = [
            watching.enter_context(closing(follow_batches(store, run_id, 0, reset=no_reset))) for _ in range(WATCHERS)
        ]
        seen = [follows(0, next(watcher)) for watcher in watchers]
        write(store, lease, range(41, 121))  # 8 MB that come while they do not go on
        last = store.events(run_id, 0, 1).last_seq
        assert (held() - before) / WATCHERS < LIMIT
        for watcher, seq in zip(watchers, seen, strict=True):
            while seq < last:
                seq = follows(seq, next(watcher))
            watcher.close()
        wait_until(lambda: (held() - before) / WATCHERS < LIMIT / 10, what="the memory to be given back")

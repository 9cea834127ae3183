"""A log is the same bytes however it is read: all at once, in pages, in pages of a few bytes, and as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet

from agentkit import Agent, AgentKit, FernetCodec, RunHandle, ScriptedModel, Settings, tool
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.turns import call


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: {'paid ' * 200}"


TURNS = [[call("look_up", order_id="A1"), call("look_up", order_id="A2")], "All of it is paid. " * 20]


@pytest.fixture(params=["plain", "encrypted"])
def played(request: pytest.FixtureRequest, redis_url: str) -> Iterator[RunHandle]:
    """A run that has been played, with an answer in many deltas and events that show messages."""
    store, queue = RedisStore(redis_url), FakeQueue()
    codec = FernetCodec([Fernet.generate_key().decode()]) if request.param == "encrypted" else None
    agent = Agent("a", ScriptedModel(TURNS, chunk_size=10), "", [look_up])
    kit = AgentKit([agent], settings=Settings(), store=store, queue=queue, codec=codec)
    handle = kit.start("a", "What is paid?")
    while queue.enqueued:
        kit.execute(*queue.enqueued.pop(0))
    assert handle.run.status == "completed"
    yield handle
    store.close()


@pytest.mark.parametrize(("limit", "size"), [(3, None), (10_000, 1), (10_000, 700), (2, 5000), (10_000, 5000)])
def test_the_pages_of_a_log_are_the_log(played: RunHandle, limit: int, size: int | None) -> None:
    store, run_id = played._store, played.id
    whole = store.events(run_id, 0, 10_000)
    assert [event.seq for event in whole.events] == list(range(1, whole.last_seq + 1))
    assert all(json.loads(event.data)["seq"] == event.seq for event in whole.events)
    read = []
    while not read or read[-1].seq < whole.last_seq:
        page = store.events(run_id, read[-1].seq if read else 0, limit, size=size)
        assert 1 <= len(page.events) <= limit
        if size is not None and len(page.events) > 1:
            assert sum(len(event.data) for event in page.events) <= size
        read += page.events
    assert read == whole.events


def test_a_stream_has_the_bytes_of_the_log(played: RunHandle) -> None:
    whole = played._store.events(played.id, 0, 10_000)
    stream = b"".join(played.sse(0))
    frames = stream.partition(b"\n\n")[2]
    assert frames == b"".join(b"id: %d\ndata: %b\n\n" % event for event in whole.events)

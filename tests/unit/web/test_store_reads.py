"""What a request reads from the store: each thing once, and what a call has just written not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentkit.store.protocol import StoredEvent
from tests.flaky_store import FlakyStore
from tests.unit.web.conftest import Web, frames

READS = ("load", "loads", "messages", "events", "subscribe")


class Watched:
    """The reads that the store is asked for from now on, and how many subscriptions are open."""

    def __init__(self, store: FlakyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = 0
        self._store = store
        store.calls.clear()
        subscribe = store.store.subscribe
        monkeypatch.setattr(
            store.store, "subscribe", lambda *args, **named: _Subscription(self, subscribe(*args, **named))
        )

    @property
    def calls(self) -> list[str]:
        return [call.method for call in self._store.calls if call.method in READS]


class _Subscription:
    def __init__(self, watched: Watched, subscription: Any) -> None:
        self._watched = watched
        self._subscription = subscription
        self._closed = False
        watched.open += 1

    def get(self, timeout: float) -> Sequence[StoredEvent] | None:
        found: Sequence[StoredEvent] | None = self._subscription.get(timeout)
        return found

    def wake(self) -> None:
        self._subscription.wake()

    def on_ready(self, callback: Callable[[], None]) -> None:
        self._subscription.on_ready(callback)

    def close(self) -> None:
        self._watched.open -= not self._closed
        self._closed = True


def test_events_are_read_once_after_the_subscription(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = web.start("shop")
    watched = Watched(web.store, monkeypatch)
    events = frames(web.client.get(f"/runs/{run_id}/events?until=pause").data)
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert watched.calls == ["subscribe", "events"]
    assert watched.open == 0


def test_what_is_written_after_the_first_page_is_followed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = web.start("shop")
    watched = Watched(web.store, monkeypatch)
    response = web.client.get(f"/runs/{run_id}/events")  # the page has been read, and the stream not begun
    assert watched.calls == ["subscribe", "events"]
    web.resume(run_id, {"decision": {"approved": True}})
    web.kit.handle(run_id).wait(10)
    events = frames(response.data)
    assert events[-1][1]["type"] == "agent_end"
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/runs/{id}/events?after={last}", 204),
        ("GET", "/runs/{id}/events?after=x", 400),
        ("GET", "/runs/{id}/events?after=99999", 400),
        ("GET", "/runs/nobody/events", 404),
        ("HEAD", "/runs/{id}/events", 200),
    ],
)
def test_where_nothing_streams_the_subscription_is_closed(
    web: Web, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    run_id = web.start("hello")
    last = web.kit.get(run_id).last_seq
    watched = Watched(web.store, monkeypatch)
    response = web.client.open(path.format(id=run_id, last=last), method=method)
    assert response.status_code == status
    assert watched.calls == ["subscribe", "events"]
    assert watched.open == 0


def test_a_stream_that_nobody_begins_to_read_closes_its_subscription(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = web.start("hello")
    watched = Watched(web.store, monkeypatch)
    with web.app.test_request_context(f"/runs/{run_id}/events"):
        response = web.app.view_functions["agentkit.runs.run_events"](run_id)
        assert watched.open == 1
        response.close()
        del response
    assert watched.open == 0


def test_a_start_reads_nothing_back(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.queue.up = False
    watched = Watched(web.store, monkeypatch)
    history = [{"role": "user", "content": "x" * 20_000}]
    response = web.client.post("/runs", json={"agent": "hello", "messages": history})
    assert watched.calls == []
    assert response.json == web.client.get(f"/runs/{response.json['id']}").json


def test_a_store_that_fails_at_the_first_page_leaves_no_subscription(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = web.start("hello")
    web.store.fail["events"] = 1
    watched = Watched(web.store, monkeypatch)
    assert web.client.get(f"/runs/{run_id}/events").status_code == 503
    assert watched.open == 0

"""Following a log: wherever a reader left off, it gets exactly the rest."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any

import pytest

from agentkit.core.struct import dumps
from agentkit.runs import RunHandle
from agentkit.runtime.follow import Wakeup, follow_batches, follow_batches_async
from agentkit.runtime.follow import follow as follow_in_thread
from agentkit.runtime.threads import MAX_THREADS
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import EventPage, Store, StoredEvent
from agentkit.testing.store_changes import append, claimed, ended, event, new_run, step_done
from tests.apps import App, in_background
from tests.flaky_store import FlakyStore
from tests.tools import YES, refund
from tests.turns import call
from tests.waiting import wait_until


class Waiting(MemoryStore):
    """Its subscriptions note how many seconds they are to wait, call `meanwhile`, and have waited."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._meanwhile = meanwhile

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Any:
        subscription = super().subscribe(run_id)

        def get(timeout: float) -> None:
            self.seconds.append(timeout)
            self._meanwhile()

        subscription.get = get  # type: ignore[method-assign, assignment]
        return subscription


Follow = Callable[..., Iterator[Any]]
Seqs = Callable[..., list[int]]


def in_loop(steps: Callable[[], Any]) -> Iterator[Any]:
    """Iterate over an asynchronous iterator from outside, in an event loop of its own."""
    with asyncio.Runner() as runner:
        iterator = runner.run(called(steps))
        try:
            while True:
                try:
                    yield runner.run(anext(iterator))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(iterator.aclose())


async def called(steps: Callable[[], Any]) -> Any:
    return steps()


def follow_in_loop(*args: Any, **options: Any) -> Iterator[StoredEvent | None]:
    """What `follow` does, by `follow_batches_async`."""
    with closing(follow_batches_in_loop(*args, **options)) as batches:  # type: ignore[type-var]
        for batch in batches:
            yield from batch or [None]


def follow_batches_in_loop(*args: Any, **options: Any) -> Iterator[Any]:
    return in_loop(lambda: follow_batches_async(*args, **options))


@pytest.fixture(params=["thread", "event loop"])
def follow(request: pytest.FixtureRequest) -> Follow:
    """A follower event by event: the one that holds a thread, and the one that holds none."""
    return {"thread": follow_in_thread, "event loop": follow_in_loop}[request.param]


@pytest.fixture(params=["thread", "event loop"])
def batches_of(request: pytest.FixtureRequest) -> Follow:
    return {"thread": follow_batches, "event loop": follow_batches_in_loop}[request.param]


@pytest.fixture
def seqs(follow: Follow) -> Callable[..., list[int]]:
    def seqs(store: Store, run_id: str, after: int, **options: Any) -> list[int]:
        return [e.seq for e in follow(store, run_id, after, reset=no_reset, **options) if e is not None]

    return seqs


def no_reset() -> StoredEvent:
    raise AssertionError("nothing was trimmed")


def test_a_reader_that_reconnects_after_any_seq_gets_exactly_the_rest(seqs: Seqs) -> None:
    app = App([call("refund")], "a text of some length", tools=[refund])
    run_id = app.run()
    app.kit.resume(run_id, YES)
    app.work()
    last = app.kit.get(run_id).last_seq
    assert last > 20
    for after in range(last + 1):
        assert seqs(app.store, run_id, after) == list(range(after + 1, last + 1))


def test_readers_that_come_while_the_run_is_written_get_all_of_it_once(seqs: Seqs) -> None:
    app = App([call("refund")], "x" * 60, tools=[refund])
    run_id = app.start()
    got: dict[int, list[int]] = {}
    threads = []
    for reader in range(4):
        threads.append(in_background(lambda n=reader: got.update({n: seqs(app.store, run_id, 0)})))
        if app.queue.enqueued:
            app.execute_next()
    app.kit.resume(run_id, YES)
    app.work()
    for thread in threads:
        thread.join(10)
    last = app.kit.get(run_id).last_seq
    assert [got[n] for n in range(4)] == [list(range(1, last + 1))] * 4


def test_published_events_that_leave_a_gap_send_the_reader_to_the_log(seqs: Seqs) -> None:
    class Gaps(MemoryStore):
        """The log shows one event at first; then some are published twice and one not at all, and no more come."""

        def subscribe(self, run_id: str) -> Any:
            page = super().events(run_id, 0, 100).events
            batches = iter([[page[1]], [page[0], page[1]], [page[3]]])
            return type(
                "Batches",
                (),
                {"get": lambda _, timeout: next(batches), "on_ready": lambda _, call: call(), "close": lambda _: None},
            )()

        reads = 0

        def events(self, run_id: str, after: int, limit: int, **options: Any) -> Any:
            self.reads += 1
            page = super().events(run_id, after, limit, **options)
            return page if self.reads > 1 else replace(page, events=page.events[:1], last_seq=1)

    store = Gaps()
    run_id = new_run(store)
    claim = claimed(store, run_id)
    store.commit(step_done(claim, events=(event("agent_end"),)), claim.state.version, claim.lease)
    assert seqs(store, run_id, 0) == [1, 2, 3, 4, 5]


def test_a_reader_of_trimmed_events_gets_the_snapshot_in_their_place() -> None:
    app = App("x" * 60, store=MemoryStore(max_events=5))
    run_id = app.run()
    events = list(app.kit.handle(run_id).events())
    assert [e["type"] for e in events] == ["stream_reset"]
    assert events[0]["run"]["lastSeq"] == app.kit.get(run_id).last_seq
    assert events[0]["run"]["status"] == "completed"


def test_after_a_reset_come_the_events_after_the_snapshot(follow: Follow) -> None:
    store = MemoryStore(max_events=3)
    run_id = new_run(store)
    claim = claimed(store, run_id)
    append(store, claim.lease, [event("x")] * 5, 1)
    snapshot = StoredEvent(9, dumps({"type": "stream_reset", "run": {"id": run_id, "agent": "a"}}).encode())
    stream = follow(store, run_id, 2, reset=lambda: snapshot)
    assert next(stream) == snapshot
    store.commit(step_done(claim, events=(event("x"), event("agent_end"))), claim.state.version, claim.lease)
    assert [e and json.loads(e.data)["type"] for e in stream] == ["x", "agent_end"]


def test_what_is_still_kept_is_read_without_a_reset(seqs: Seqs) -> None:
    store = MemoryStore(max_events=3)
    run_id = ended(store)
    assert seqs(store, run_id, 2) == [3, 4, 5]
    assert seqs(store, run_id, 5) == []


def test_a_reader_until_the_pause_stops_there_and_a_reader_of_a_paused_run_too(seqs: Seqs) -> None:
    app = App([call("refund")], "done", tools=[refund])
    run_id = app.run()
    last = app.kit.get(run_id).last_seq
    assert seqs(app.store, run_id, 0, until_pause=True) == list(range(1, last + 1))
    assert seqs(app.store, run_id, last, until_pause=True) == []


def test_a_quiet_stream_gives_a_sign_of_life_and_can_be_stopped(follow: Follow) -> None:
    store = MemoryStore()
    run_id = new_run(store)
    stop = threading.Event()
    stream = follow(store, run_id, 2, reset=no_reset, tick=0.01, stopped=stop.is_set)
    assert [next(stream), next(stream)] == [None, None]
    stop.set()
    assert list(stream) in ([], [None])


def test_a_deleted_run_ends_its_streams(follow: Follow) -> None:
    store = MemoryStore()
    run_id = ended(store)
    stream = follow(store, run_id, 0, reset=no_reset)
    next(stream)
    store.delete(run_id)
    assert len(list(stream)) <= 4


def test_a_reader_outlasts_a_store_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch, seqs: Seqs) -> None:
    monkeypatch.setattr("agentkit.runtime.follow._PAGE", 3)
    store = FlakyStore()
    run_id = new_run(store)
    claim = claimed(store, run_id)
    store.commit(step_done(claim, events=(event("agent_end"),)), claim.state.version, claim.lease)
    store.fail["events"] = 2
    assert seqs(store, run_id, 0, tick=0.01) == [1, 2, 3, 4, 5]


def test_a_log_that_could_not_be_read_is_soon_read_again_without_a_notification() -> None:
    waiting = Waiting()
    store = FlakyStore(waiting, fail={"events": 1})
    run_id = new_run(store)
    with closing(follow_batches(store, run_id, 0, reset=no_reset, tick=14.0, asked_every=14.0)) as batches:
        assert [e.seq for e in next(batches)] == [1, 2]
    assert [seconds <= 1 for seconds in waiting.seconds] == [True]


def test_a_reader_of_large_events_has_few_of_them_in_hand_at_a_time(batches_of: Follow) -> None:
    store = MemoryStore()
    run_id = new_run(store)
    claim = claimed(store, run_id)
    large = tuple(event("x", text="y" * 200_000) for _ in range(50))
    store.commit(step_done(claim, events=(*large, event("agent_end"))), claim.state.version, claim.lease)
    batches = list(batches_of(store, run_id, 0, reset=no_reset))
    assert [e.seq for batch in batches for e in batch] == list(range(1, store.load(run_id).last_seq + 1))
    assert max(sum(len(e.data) for e in batch) for batch in batches) <= 1_000_000


def test_a_reader_of_large_events_has_the_store_read_few_in_vain(
    batches_of: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = MemoryStore(), []
    events = store.events

    def counted(run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        page = events(run_id, after, limit, size=size)
        asked.append((min(limit, page.last_seq - after), len(page.events)))
        return page

    monkeypatch.setattr(store, "events", counted)
    run_id = new_run(store)
    claim = claimed(store, run_id)
    large = tuple(event("x", text="y" * 20_000) for _ in range(1000))
    store.commit(step_done(claim, events=(*large, event("agent_end"))), claim.state.version, claim.lease)
    given = sum(len(batch) for batch in batches_of(store, run_id, 0, reset=no_reset))
    assert given > 1000
    assert sum(read for read, _ in asked[1:]) <= 2.5 * given
    assert len(asked) < 100


@pytest.mark.parametrize("after", [0, 3])
def test_a_handles_events_are_json_with_their_seq(after: int) -> None:
    app = App("hi")
    run_id = app.run()
    events = list(app.kit.handle(run_id).events(after))
    assert [e["seq"] for e in events] == list(range(after + 1, app.kit.get(run_id).last_seq + 1))


def test_a_wakeup_makes_a_waiting_reader_return_at_once(follow: Follow) -> None:
    app = App("x")
    wakeup = Wakeup()
    reader = follow(app.store, app.start(), 0, reset=no_reset, tick=3600, asked_every=3600, wakeup=wakeup)
    while True:
        event = next(reader)
        assert event is not None
        if event.seq == app.store.events(app.kit.page()[0][0].id, 0, 1).last_seq:
            break
    waking = threading.Timer(0.05, wakeup.wake)
    waking.start()
    assert next(reader) is None
    assert wakeup.requested
    waking.join()
    reader.close()


def test_a_reader_with_a_wakeup_waits_in_one_piece() -> None:
    wakeup = Wakeup()
    store = Waiting(lambda: wakeup.wake())
    handle = RunHandle(store, new_run(store))
    with closing(handle.stored(2, tick=9, wakeup=wakeup)) as events:
        assert next(events) is None
    wakeup.requested = False
    with closing(handle.sse(2, keepalive=9, wakeup=wakeup)) as chunks:  # type: ignore[type-var]
        assert [next(chunks), next(chunks)] == [b"retry: 1000\n\n", b": keepalive\n\n"]
    assert min(store.seconds) > 8


def test_a_delta_costs_the_same_however_long_its_message_has_grown(follow: Follow) -> None:
    app = App("0123456789" * 300)
    run_id = app.run()
    sizes = [
        len(e.data) for e in follow(app.store, run_id, 0, reset=no_reset) if e is not None and b'"text_delta"' in e.data
    ]
    assert len(sizes) == 1000
    assert max(sizes[-100:]) - min(sizes[:100]) <= 3  # digits of the seq


def test_keepalives_come_only_where_they_are_asked_for() -> None:
    app = App("Hello.")
    run_id = app.start()
    events = app.kit.handle(run_id).events(keepalive=0.01)
    seen = [next(events) for _ in range(len(app.log(run_id)) + 3)]
    assert seen[-3:] == [None] * 3
    assert seen[:-3] == app.log(run_id)
    worker = in_background(app.work)
    assert [each for each in (*seen, *events) if each is not None] == app.log(run_id)
    worker.join()
    assert None not in list(app.kit.handle(run_id).events())


def test_closing_the_events_closes_the_subscription() -> None:
    app = App("Hello.")
    closed: list[bool] = []
    subscribe = app.store.subscribe

    def watched(*args: Any, **options: Any) -> Any:
        subscription = subscribe(*args, **options)
        subscription.close = lambda: closed.append(True)
        return subscription

    app.store.subscribe = watched
    events: Any = app.kit.handle(app.start()).events(keepalive=0.01)
    while next(events) is not None:
        pass
    events.close()
    assert closed == [True]


def test_in_a_process_that_is_being_stopped_the_events_end(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("Hello.")
    handle = app.kit.handle(app.start())
    monkeypatch.setattr("agentkit.runs.stopping", lambda: True)
    assert list(handle.events()) == []


# -- in an event loop


def test_a_handles_events_are_the_same_in_an_event_loop() -> None:
    app = App([call("refund")], "done", tools=[refund])
    handle = app.kit.handle(app.run())
    assert list(in_loop(lambda: handle.aevents(until_pause=True))) == list(handle.events(until_pause=True))
    app.kit.resume(handle.id, YES)
    app.work()
    assert list(in_loop(lambda: handle.aevents(3))) == list(handle.events(3))
    assert b"".join(in_loop(lambda: handle.asse(2, names=True))) == b"".join(handle.sse(2, names=True))


def test_keepalives_come_in_an_event_loop_where_they_are_asked_for() -> None:
    app = App("Hello.")
    run_id = app.start()
    with closing(in_loop(lambda: app.kit.handle(run_id).aevents(keepalive=0.01))) as events:  # type: ignore[type-var]
        assert [next(events) for _ in range(len(app.log(run_id)) + 2)] == [*app.log(run_id), None, None]
        app.work()
        assert [each for each in events if each is not None] == app.log(run_id)[3:]


def test_in_a_process_that_is_being_stopped_the_events_end_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("Hello.")
    handle = app.kit.handle(app.start())
    monkeypatch.setattr("agentkit.runs.stopping", lambda: True)
    assert list(in_loop(handle.aevents)) == []


class Counting(MemoryStore):
    """Counts its open subscriptions. The first `held` of them are made when `release` is set."""

    def __init__(self, held: int = 0) -> None:
        super().__init__()
        self.open = 0
        self.held = held
        self.asked = threading.Event()
        self.release = threading.Event()

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Any:
        self.asked.set()
        if self.held:
            self.held -= 1
            assert self.release.wait(10)
        subscription: Any = super().subscribe(run_id)
        close = subscription.close

        def closed() -> None:
            self.open -= 1
            close()

        subscription.close = closed
        self.open += 1
        return subscription


def test_watchers_in_an_event_loop_hold_no_thread_and_leave_nothing_when_they_are_cancelled() -> None:
    app = App("Hello.", store=Counting())
    handle = app.kit.handle(app.start())
    before, watchers = threading.active_count(), 10 * MAX_THREADS

    async def watch(seen: list[Any], all_have_seen: asyncio.Event) -> None:
        async for each in handle.aevents():
            seen.append(each)
            if len(seen) == 3 * watchers:
                all_have_seen.set()

    async def run() -> None:
        seen: list[Any] = []
        all_have_seen = asyncio.Event()
        tasks = [asyncio.create_task(watch(seen, all_have_seen)) for _ in range(watchers)]
        async with asyncio.timeout(20):
            await all_have_seen.wait()
        assert threading.active_count() <= before + MAX_THREADS
        assert app.store.open == watchers
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert app.store.open == 0

    asyncio.run(run())


def test_a_subscription_that_comes_when_its_watcher_is_gone_is_closed() -> None:
    app = App("Hello.", store=Counting(held=1))
    handle = app.kit.handle(app.start())

    async def cancelled() -> None:
        task = asyncio.create_task(anext(handle.aevents()))  # type: ignore[arg-type]
        await asyncio.to_thread(app.store.asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        app.store.release.set()
        async with asyncio.timeout(10):
            await asyncio.to_thread(wait_until, lambda: app.store.held == 0 and app.store.open == 0)

    asyncio.run(cancelled())
    assert app.store.open == 0


def test_a_wakeup_from_another_thread_reaches_an_event_loop_at_once() -> None:
    app = App("x")
    run_id, wakeup = app.start(), Wakeup()

    async def woken() -> None:
        reader = app.kit.handle(run_id).astored(0, tick=3600, wakeup=wakeup)
        async with aclosing(reader), asyncio.timeout(10):
            assert len(await anext(reader)) == len(app.log(run_id))
            waking = threading.Timer(0.05, wakeup.wake)
            waking.start()
            assert await anext(reader) == ()
            waking.join()

    asyncio.run(woken())

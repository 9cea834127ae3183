"""Follows a run's log: replays what is there, then gives what comes, with no gap and no duplicate.

Subscribe first, then read the log, then follow; drop what was read already, and read the log again where a
seq is missing. The log is what is true; what is published only saves reading it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from operator import itemgetter
from typing import Any

from agentkit.core.sse import event_type
from agentkit.errors import RunNotFoundError, StoreUnavailableError
from agentkit.runtime.threads import in_thread
from agentkit.store.protocol import EventPage, Store, StoredEvent, Subscription

__all__ = ["Opening", "Wakeup", "follow", "follow_batches", "follow_batches_async"]

_PAGE = 200
"""How many events are read at once. Each is three objects for a moment, and 700 new objects have Python's collector
run: pages of 2,000 cost twice as much."""
_PAGE_BYTES = 500_000
"""A watcher who reads slowly has a page in hand, and there may be thousands of them."""
_WAKE_SECONDS = 1.0


class Wakeup:
    """Wakes a follower that waits for events, for what comes from elsewhere.

    `requested` is cleared by whoever follows.
    """

    def __init__(self) -> None:
        self.requested = False
        self._subscription: Subscription | None = None

    def attach(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def wake(self) -> None:
        """From any thread."""
        self.requested = True
        if self._subscription is not None:
            self._subscription.wake()


class Opening:
    """A subscription to a run's log, and the first page after the seq `after`, read when the subscription held.

    A follower can begin with it, and then closes it. So who wants to know something of the log first reads it only
    once. Raises RunNotFoundError and StoreUnavailableError.
    """

    def __init__(self, store: Store, run_id: str, after: int) -> None:
        self.after = after
        self.subscription = store.subscribe(run_id)
        try:
            self.page = _page(store, run_id, after, _PAGE)
        except BaseException:
            self.subscription.close()
            raise

    def close(self) -> None:
        """Close the subscription. Does nothing twice."""
        self.subscription.close()

    def __del__(self) -> None:  # of a stream that nobody ever began to read
        if hasattr(self, "page"):
            self.close()


def _page(store: Store, run_id: str, after: int, limit: int) -> EventPage:
    return store.events(run_id, after, limit, size=_PAGE_BYTES)


class _Log:
    """One reader's place in a log. `first`: the page after it, where that has been read already."""

    def __init__(
        self, store: Store, run_id: str, after: int, reset: Callable[[], StoredEvent], first: EventPage | None
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._reset = reset
        self._first = first
        self.after = after
        self.status = ""

    def read(self) -> Iterator[Sequence[StoredEvent]]:
        """Read everything that is in the log after this reader's place."""
        limit = _PAGE
        while True:
            page, self._first = self._first or _page(self._store, self._run_id, self.after, limit), None
            if page.first_seq > self.after + 1 and self.after < page.last_seq:
                snapshot = self._reset()
                self.after = snapshot.seq
                yield [snapshot]
                continue
            if page.events:
                self.after = page.events[-1].seq
                limit = min(_PAGE, 2 * len(page.events))  # of large ones the store would read many in vain
                yield page.events
            if not page.events or self.after >= page.last_seq:
                self.status = page.status
                return

    def skip_known(self, published: Sequence[StoredEvent]) -> tuple[Sequence[StoredEvent], bool]:
        """Return what is new of published events, and whether it leaves a gap after this reader's place."""
        new = [event for event in published if event.seq > self.after]
        return new, bool(new) and new[-1].seq != self.after + len(new)


class _Follower:
    """What a follower does between its waits, which is the same in a thread and in an event loop.

    Until `ended`: take the batches of `advance`, wait for `wait_seconds` at most, and pass what came to `receive`.
    """

    def __init__(self, log: _Log, *, until_pause: bool, pauses_after: int, tick: float, asked_every: float) -> None:
        self._log = log
        self._until_pause = until_pause
        self._pauses_after = pauses_after
        self._tick = tick
        self._asked_every = asked_every
        self._quiet_since = time.monotonic()
        self._published: Sequence[StoredEvent] = ()
        self.must_read = True
        """Whether `advance` reads the store; else it takes no time."""
        self.ended = False

    def advance(self) -> Iterator[Sequence[StoredEvent]]:
        """Give what is new, up to where the stream ends."""
        try:
            for batch in self._log.read() if self.must_read else self._take():
                last = _last(batch, self._until_pause, self._pauses_after)
                self.ended = last is not None
                yield batch if last is None else batch[: last + 1]
                if self.ended:
                    return
                self._quiet_since = time.monotonic()
            self.must_read = False
        except StoreUnavailableError:
            self.must_read = True  # the log is still there when the store is
        except RunNotFoundError:
            self.ended = True
        status = self._log.status
        self.ended |= status in ("completed", "failed", "aborted") or (self._until_pause and status == "paused")

    def _take(self) -> Iterator[Sequence[StoredEvent]]:
        """Give what was published."""
        if self._published:
            self._log.after = self._published[-1].seq
            yield self._published

    def wait_seconds(self) -> float:
        """Return how long to wait for a notification. Nobody will say when a log that could not be read can be."""
        soon = _WAKE_SECONDS if self.must_read else self._asked_every
        return max(0.0, min(soon, self._quiet_since + self._tick - time.monotonic()))

    def receive(self, notification: Sequence[StoredEvent] | None) -> bool:
        """Take what a subscription gave; return whether it is time for a sign of life."""
        self._published, has_gap = self._log.skip_known(notification or ())
        self.must_read |= has_gap or (notification is not None and not notification)
        if time.monotonic() - self._quiet_since < self._tick:
            return False
        self._quiet_since = time.monotonic()
        self.must_read = True  # should a message ever be lost, this notices
        return True


def follow(store: Store, run_id: str, after: int, **options: Any) -> Generator[StoredEvent | None, None, None]:
    """Follow a log as `follow_batches` does, event by event, with None for what is empty there."""
    with closing(follow_batches(store, run_id, after, **options)) as batches:
        for batch in batches:
            if not batch:
                yield None
            yield from batch


def follow_batches(
    store: Store,
    run_id: str,
    after: int,
    *,
    reset: Callable[[], StoredEvent],
    until_pause: bool = False,
    pauses_after: int = 0,
    tick: float = 15.0,
    stopped: Callable[[], bool] = lambda: False,
    wakeup: Wakeup | None = None,
    asked_every: float = _WAKE_SECONDS,
    opening: Opening | None = None,
) -> Generator[Sequence[StoredEvent], None, None]:
    """Give the events of a run after the seq `after`, as they come: those that are there together, together.

    An empty sequence at least every `tick` seconds without any, and as soon as the `wakeup` is requested.

    It ends after agent_end, when the run is deleted, or when `stopped`, which is asked after all that it gives
    and after `asked_every` seconds of silence; with `until_pause` also after
    agent_pause, and where the run is paused with nothing more in its log; an agent_pause up to the seq `pauses_after`
    is one that was over when the follower came. `reset` makes the stream_reset that
    stands for events which are no longer kept. `opening`: what was opened for this follower, after the same seq.
    """
    log = _Log(store, run_id, after, reset, opening.page if opening else None)
    follower = _Follower(log, until_pause=until_pause, pauses_after=pauses_after, tick=tick, asked_every=asked_every)
    subscription = opening.subscription if opening else store.subscribe(run_id)
    wakeup = wakeup or Wakeup()
    wakeup.attach(subscription)
    try:
        while not stopped():
            for batch in follower.advance():
                yield batch
                if stopped():
                    return
            if follower.ended:
                return
            is_quiet = follower.receive(subscription.get(0.0 if wakeup.requested else follower.wait_seconds()))
            if wakeup.requested:
                yield ()
            if is_quiet:
                yield ()
    finally:
        subscription.close()


async def follow_batches_async(
    store: Store,
    run_id: str,
    after: int,
    *,
    reset: Callable[[], StoredEvent],
    until_pause: bool = False,
    pauses_after: int = 0,
    tick: float = 15.0,
    stopped: Callable[[], bool] = lambda: False,
    wakeup: Wakeup | None = None,
    asked_every: float = _WAKE_SECONDS,
    opening: Opening | None = None,
) -> AsyncGenerator[Sequence[StoredEvent], None]:
    """Give what `follow_batches` gives, holding no thread: it has one only while it reads the store.

    Closing it, or cancelling the task that waits for it, closes the subscription.
    """
    log = _Log(store, run_id, after, reset, opening.page if opening else None)
    follower = _Follower(log, until_pause=until_pause, pauses_after=pauses_after, tick=tick, asked_every=asked_every)
    subscription = opening.subscription if opening else await _subscribe(store, run_id)
    ready = asyncio.Event()
    subscription.on_ready(_setter(ready))
    wakeup = wakeup or Wakeup()
    wakeup.attach(subscription)
    try:
        while not stopped():
            reads, batches = follower.must_read, follower.advance()
            while (batch := await in_thread(next, batches, None) if reads else next(batches, None)) is not None:
                yield batch
                if stopped():
                    return
            if follower.ended:
                return
            if not wakeup.requested:
                with suppress(TimeoutError):
                    async with asyncio.timeout(follower.wait_seconds()):
                        await ready.wait()
            ready.clear()
            is_quiet = follower.receive(subscription.get(0.0))
            if wakeup.requested:
                yield ()
            if is_quiet:
                yield ()
    finally:
        subscription.close()


async def _subscribe(store: Store, run_id: str) -> Subscription:
    """Subscribe in a thread. Where this task is cancelled meanwhile, the subscription is closed when it is there."""
    subscribing = asyncio.ensure_future(in_thread(store.subscribe, run_id))
    try:
        return await asyncio.shield(subscribing)
    except asyncio.CancelledError:
        subscribing.add_done_callback(lambda done: None if done.exception() else done.result().close())
        raise


def _setter(ready: asyncio.Event) -> Callable[[], None]:
    """Make what sets an event of this loop from any thread, also when the loop has ended."""
    loop = asyncio.get_running_loop()

    def set_ready() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(ready.set)

    return set_ready


def _last(batch: Sequence[StoredEvent], until_pause: bool, pauses_after: int) -> int | None:
    """Find where in the batch the stream ends."""
    if b'"agent_' not in b"".join(map(itemgetter(1), batch)):  # a replay is mostly deltas: they are looked at together
        return None
    for place, event in enumerate(batch):
        if event.data.find(b'"agent_', 0, 100) < 0:  # the type stands at the beginning, and almost all are deltas
            continue
        kind = event_type(event.data)
        if kind == "agent_end" or (kind == "agent_pause" and until_pause and event.seq > pauses_after):
            return place
    return None

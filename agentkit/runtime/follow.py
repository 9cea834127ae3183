"""Follows a run's log: replays what is there, then gives what comes, with no gap and no duplicate.

Subscribe first, then read the log, then follow; drop what was read already, and read the log again where a
seq is missing. The log is what is true; what is published only saves reading it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from agentkit.core.sse import event_type
from agentkit.errors import RunNotFoundError, StoreUnavailableError
from agentkit.store.protocol import EventPage, Store, StoredEvent, Subscription

__all__ = ["Opening", "Wakeup", "follow", "follow_batches"]

_PAGE = 500
_PAGE_BYTES = 1_000_000
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
            self.page = _page(store, run_id, after)
        except BaseException:
            self.subscription.close()
            raise

    def close(self) -> None:
        """Close the subscription. Does nothing twice."""
        self.subscription.close()

    def __del__(self) -> None:  # of a stream that nobody ever began to read
        if hasattr(self, "page"):
            self.close()


def _page(store: Store, run_id: str, after: int) -> EventPage:
    return store.events(run_id, after, _PAGE, size=_PAGE_BYTES)


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
        while True:
            page, self._first = self._first or _page(self._store, self._run_id, self.after), None
            if page.first_seq > self.after + 1 and self.after < page.last_seq:
                snapshot = self._reset()
                self.after = snapshot.seq
                yield [snapshot]
                continue
            if page.events:
                self.after = page.events[-1].seq
                yield page.events
            if not page.events or self.after >= page.last_seq:
                self.status = page.status
                return

    def take(self, published: Sequence[StoredEvent]) -> Iterator[Sequence[StoredEvent]]:
        """Give what is new of published events; the log where they leave a gap."""
        new = [event for event in published if event.seq > self.after]
        if new and new[-1].seq == self.after + len(new):
            self.after = new[-1].seq
            yield new
        elif new:
            yield from self.read()


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
    agent_pause, and where the run is paused with nothing more in its log. `reset` makes the stream_reset that
    stands for events which are no longer kept. `opening`: what was opened for this follower, after the same seq.
    """
    log = _Log(store, run_id, after, reset, opening.page if opening else None)
    subscription = opening.subscription if opening else store.subscribe(run_id)
    wakeup = wakeup or Wakeup()
    wakeup.attach(subscription)
    quiet_since = time.monotonic()
    published: Sequence[StoredEvent] = ()
    read_log = True
    try:
        while not stopped():
            try:
                for batch in log.read() if read_log else log.take(published):
                    last = _last(batch, until_pause)
                    yield batch if last is None else batch[: last + 1]
                    if last is not None or stopped():
                        return
                    quiet_since = time.monotonic()
                read_log = False
            except StoreUnavailableError:
                read_log = True  # the log is still there when the store is
            except RunNotFoundError:
                return
            if log.status in ("completed", "failed", "aborted") or (until_pause and log.status == "paused"):
                return
            # Where the log could not be read, nobody will say that it can be.
            soon = _WAKE_SECONDS if read_log else asked_every
            timeout = 0.0 if wakeup.requested else min(soon, quiet_since + tick - time.monotonic())
            got = subscription.get(max(0.0, timeout))
            published = got or ()
            read_log = read_log or got == []
            if wakeup.requested:
                yield ()
            if time.monotonic() - quiet_since >= tick:
                quiet_since = time.monotonic()
                read_log = True  # should a message ever be lost, this notices
                yield ()
    finally:
        subscription.close()


def _last(batch: Sequence[StoredEvent], until_pause: bool) -> int | None:
    """Find where in the batch the stream ends."""
    for place, event in enumerate(batch):
        if b'"agent_' not in event.data[:100]:  # the type stands at the beginning, and almost all are deltas
            continue
        kind = event_type(event.data)
        if kind == "agent_end" or (kind == "agent_pause" and until_pause):
            return place
    return None

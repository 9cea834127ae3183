"""A handle on one run: its state, its events as they come, and its stream for a browser."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, overload

from agentkit.core.messages import Json
from agentkit.core.record import Status
from agentkit.core.run import Run, StreamReset
from agentkit.core.sse import Encoder, Render, StreamEncoder
from agentkit.core.struct import encode
from agentkit.runtime.follow import Opening, Wakeup, follow, follow_batches, follow_batches_async
from agentkit.runtime.threads import in_thread
from agentkit.runtime.web_server import stopping
from agentkit.store.protocol import Store, StoredEvent

if TYPE_CHECKING:
    from flask import Response

__all__ = ["Run", "RunHandle"]

KEEPALIVE_SECONDS = 14.0
"""Streams promise a comment every 15 seconds at the latest, and each takes a moment."""
_CHECK_SECONDS = 5.0


class RunHandle:
    """One run.

    `since` is the seq before the first event that the call which gave this handle wrote; `written` the run as that call
    wrote it, where it made the run.
    """

    def __init__(self, store: Store, run_id: str, since: int = 0, *, written: Run | None = None) -> None:
        self._store = store
        self.id = run_id
        self.since = since
        self.written = written

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return Run.of(*self._store.messages(self.id))

    @overload
    def events(self, after: int = 0, *, until_pause: bool = False, keepalive: None = None) -> Iterator[Json]: ...
    @overload
    def events(self, after: int = 0, *, until_pause: bool = False, keepalive: float) -> Iterator[Json | None]: ...
    def events(
        self, after: int = 0, *, until_pause: bool = False, keepalive: float | None = None
    ) -> Iterator[Json | None]:
        """Give the run's events after the seq `after`, as they come, until it ends (or, asked for, pauses).

        With `keepalive`, also None after every so many seconds without an event. A route that streams them needs it: it
        holds its thread until it sends something, which fails where the browser has left
        (docs/how-to/stream-to-browsers.md). In a gunicorn or uvicorn process that is being stopped the iteration ends,
        too, within a second.
        """
        tick = KEEPALIVE_SECONDS if keepalive is None else keepalive
        with closing(self.stored(after, until_pause=until_pause, tick=tick, stopped=stopping)) as events:
            for event in events:
                if event is not None:
                    yield json.loads(event.data)
                elif keepalive is not None:
                    yield None

    def sse(
        self,
        after: int | None = None,
        *,
        until_pause: bool = False,
        keepalive: float = KEEPALIVE_SECONDS,
        stopped: Callable[[], bool] = stopping,
        wakeup: Wakeup | None = None,
        opening: Opening | None = None,
        render: Render | None = None,
        names: bool = False,
        encoder: StreamEncoder | None = None,
        pauses_after: int = 0,
    ) -> Generator[bytes, None, None]:
        """Give the run's events as server-sent events, from where the call that made this handle began.

        Or after the seq `after`. `render` makes each event into what is sent in place of its JSON, say HTML, or into
        None, which leaves it out; with `names` each frame has an `event:` field, the event's type.

        They end when `stopped` is true, by default in a gunicorn process that is being stopped. `wakeup` is requested
        when that has become so. Without one it is polled every second, which costs more than all else that an idle
        stream does. `opening`: from `open(after)`, which the stream closes. `encoder`: makes another wire of the events
        than server-sent events as they are. `pauses_after`: pauses up to this seq do not end the stream.
        """
        start = self.since if after is None else after
        options = {**self._options(until_pause, keepalive, stopped, wakeup, opening), "pauses_after": pauses_after}
        encoder = encoder or Encoder(keepalive, render=render, names=names)
        if beginning := encoder.begin():
            yield beginning
        with closing(follow_batches(self._store, self.id, start, **options)) as batches:
            for batch in batches:
                yield from encoder.encode(batch)
        if not stopped() and (ending := encoder.end()):
            yield ending

    @overload
    def aevents(self, after: int = 0, *, until_pause: bool = False, keepalive: None = None) -> AsyncIterator[Json]: ...
    @overload
    def aevents(self, after: int = 0, *, until_pause: bool = False, keepalive: float) -> AsyncIterator[Json | None]: ...
    async def aevents(
        self, after: int = 0, *, until_pause: bool = False, keepalive: float | None = None
    ) -> AsyncIterator[Json | None]:
        """Give what `events` gives, in an event loop: `async for event in handle.aevents()`.

        It holds no thread while it waits. It ends, too, when the task that iterates is cancelled, as a route's is when
        its client has left, and within a second in a uvicorn or gunicorn process that is being stopped.
        """
        tick = KEEPALIVE_SECONDS if keepalive is None else keepalive
        options = self._options(until_pause, tick, stopping, None, None)
        async with aclosing(follow_batches_async(self._store, self.id, after, **options)) as batches:
            async for batch in batches:
                for event in batch:
                    yield json.loads(event.data)
                if not batch and keepalive is not None:
                    yield None

    async def asse(
        self,
        after: int | None = None,
        *,
        until_pause: bool = False,
        keepalive: float = KEEPALIVE_SECONDS,
        stopped: Callable[[], bool] = stopping,
        wakeup: Wakeup | None = None,
        opening: Opening | None = None,
        render: Render | None = None,
        names: bool = False,
        encoder: StreamEncoder | None = None,
        pauses_after: int = 0,
    ) -> AsyncGenerator[bytes, None]:
        """Give what `sse` gives, in an event loop, holding no thread while it waits."""
        start = self.since if after is None else after
        options = {**self._options(until_pause, keepalive, stopped, wakeup, opening), "pauses_after": pauses_after}
        encoder = encoder or Encoder(keepalive, render=render, names=names)
        if beginning := encoder.begin():
            yield beginning
        async with aclosing(follow_batches_async(self._store, self.id, start, **options)) as batches:
            async for batch in batches:
                chunks: Iterable[bytes] = encoder.encode(batch)
                if encoder.reads(batch):
                    chunks = await in_thread(_listed, chunks)
                for chunk in chunks:
                    yield chunk
        if not stopped() and (ending := await in_thread(encoder.end)):
            yield ending

    async def astored(
        self,
        after: int,
        *,
        tick: float = KEEPALIVE_SECONDS,
        stopped: Callable[[], bool] = lambda: False,
        wakeup: Wakeup | None = None,
        opening: Opening | None = None,
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """Give the run's events as `stored` does, in an event loop: those that are there together, together."""
        options = self._options(False, tick, stopped, wakeup, opening)
        async with aclosing(follow_batches_async(self._store, self.id, after, **options)) as batches:
            async for batch in batches:
                yield batch

    def to_response(
        self,
        after: int | None = None,
        *,
        until_pause: bool = True,
        render: Render | None = None,
        names: bool = False,
    ) -> Response:
        """Make a Flask response that streams the run until it pauses or ends: `agentkit.web.sse_response`."""
        from agentkit.web import sse_response  # of the layer above: see the contract in pyproject.toml

        return sse_response(self, after=after, until_pause=until_pause, render=render, names=names)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run ends or pauses. Raises TimeoutError after `timeout` seconds."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        subscription = self._store.subscribe(self.id, stops_only=True)
        try:
            while True:
                status = self._store.load(self.id).record.status  # without the conversation, which may be long
                if status not in (Status.QUEUED, Status.RUNNING):
                    run = self.run
                    if run.ended or run.status == "paused":
                        return run
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"run {self.id} is still {status} after {timeout} seconds")
                subscription.get(min(left, _CHECK_SECONDS))
        finally:
            subscription.close()

    def open(self, after: int) -> Opening:
        """Subscribe to the run's log and read its first page after the seq `after`: what `sse` or `stored` go on from.

        Raises RunNotFoundError and StoreUnavailableError.
        """
        return Opening(self._store, self.id, after)

    def stored(
        self,
        after: int,
        *,
        until_pause: bool = False,
        tick: float = KEEPALIVE_SECONDS,
        stopped: Callable[[], bool] = lambda: False,
        wakeup: Wakeup | None = None,
        opening: Opening | None = None,
    ) -> Generator[StoredEvent | None, None, None]:
        """Give the run's events as they are stored, and None every `tick` seconds without one or at a `wakeup`.

        The wakeup and the opening are as for `sse`.
        """
        return follow(self._store, self.id, after, **self._options(until_pause, tick, stopped, wakeup, opening))

    def _options(
        self,
        until_pause: bool,
        tick: float,
        stopped: Callable[[], bool],
        wakeup: Wakeup | None,
        opening: Opening | None,
    ) -> dict[str, Any]:
        """Say how this run's log is followed. Where a wakeup comes at the end, `stopped` is not polled meanwhile."""
        asking = {} if wakeup is None else {"wakeup": wakeup, "asked_every": tick}
        following = {"until_pause": until_pause, "tick": tick, "stopped": stopped, "opening": opening}
        return {"reset": self._reset, **following, **asking}

    def _reset(self) -> StoredEvent:
        """Make the stream_reset that stands for events which are no longer kept."""
        run = self.run
        return StoredEvent(run.last_seq, encode(StreamReset(run)))


def _listed(chunks: Iterable[bytes]) -> list[bytes]:
    return list(chunks)

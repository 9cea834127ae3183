"""Buffers a step's events on their way into the log: adjacent deltas of one block merged, in few round trips.

The first text after a quiet time is written at once; what follows within the window is collected, and the flusher
writes it when the window ends, together with that of the process's other steps. What was
collected elsewhere came at its time, and waits for no second window. Pieces of a tool call's arguments
always wait for the window: nobody reads them letter by letter, and most calls end within it.

While the store is away, events are collected: the model's answer is paid for, and nobody else can take the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentkit.core.events import AssistantMessageEvent, Event, MessageUpdate
from agentkit.errors import LeaseLostError, StoreError, StoreUnavailableError
from agentkit.runtime.flusher import Flusher
from agentkit.runtime.leases import Held
from agentkit.runtime.store_retry import StoreRetry
from agentkit.store.protocol import Append, Appended, LeaseStatus, Store

__all__ = ["EventBuffer"]

_RETRY_SECONDS = 0.2
_SPACING = 0.7
"""Two writes of what is emitted are apart by so much of a window at least."""


class EventBuffer:
    """One step's way into the log. `on_written`: called after each write."""

    def __init__(
        self,
        store: Store,
        held: Held,
        flusher: Flusher,
        retry: StoreRetry | None = None,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._held = held
        self._flusher = flusher
        self._place = flusher.new_place()
        self._retry = retry or StoreRetry()
        self._on_written = on_written
        self._changed = threading.Condition()
        self._waiting: list[Event] = []
        self._sending: list[Event] = []
        self._flushes = 0
        self._last_begun = self._last_flush = float("-inf")
        self._is_followed = True
        """Whether the last write was received by somebody; before the first it is to reach whoever comes."""
        self._source: Callable[[], None] | None = None
        self._is_collected = False
        """Something came to the source during a write."""
        self._is_scheduled = False
        self._is_writing = False
        self._is_lost = False
        self._closed = False

    @property
    def window(self) -> float:
        """Seconds in which events are collected now: many where nobody follows the run."""
        return self._flusher.window(followed=self._is_followed)

    def collected_in(self) -> float:
        """Return for how many seconds what comes now may be collected before it is emitted; 0 for none."""
        return self._flusher.collected_in(self._place, followed=self._is_followed)

    def pull_from(self, source: Callable[[], None] | None) -> None:
        """Have `source` emit what was collected, before each write by the flusher; None for no more."""
        self._source = source

    def collected(self) -> None:
        """Note that there is something to be pulled."""
        with self._changed:
            if self._is_writing:
                self._is_collected = True
            elif not self._closed and not self._is_scheduled:
                self._flush_at(time.monotonic())  # it came at its time

    def emit(self, *events: Event) -> None:
        """Add events. Raises LeaseLostError when the step is no longer ours."""
        with self._changed:
            if self._closed:
                return
            for event in events:
                if not (self._waiting and _merge(self._waiting, event)):
                    self._waiting.append(event)
            if not self._waiting or self._is_scheduled or self._is_writing:
                return
            window, now = self.window, time.monotonic()
            if window and _only_arguments(self._waiting):
                self._flush_at(now + window)
                return
            if window and now < self._last_flush + 2 * window:
                self._schedule()
                return
            append = self._begin()
        self._write(append)

    def drain(self) -> tuple[Event, ...]:
        """Close the buffer; what is not in the log yet is for the step's commit to carry. Raises LeaseLostError."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._is_writing)
            if self._is_lost:
                raise LeaseLostError
            if not self._sending:
                events, self._waiting = tuple(self._waiting), []
                return events
            append = self._begin()
        self._write(append, self._retry)  # one whose outcome is unknown: only repeating it tells
        return self.drain()

    def begin(self) -> Append | None:
        """Return what is to be written now, until `end` says what became of it; None where there is nothing."""
        if (source := self._source) is not None:
            source()  # what it emits finds a write scheduled
        with self._changed:
            self._is_scheduled = False
            return None if self._closed or not (self._waiting or self._sending) else self._begin()

    def end(self, outcome: Appended | StoreError) -> None:
        """Note what became of a write. Where it failed, the same is written again."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            now = time.monotonic()
            if isinstance(outcome, StoreError):  # what will not pass shows at the next write of the step itself
                if not self._closed:
                    self._flush_at(now + max(self.window, _RETRY_SECONDS))
                return
            self._sending, self._last_flush = [], now
            self._is_followed = outcome.receivers > 0
            self._is_lost = outcome.status is LeaseStatus.LOST
            if (self._waiting or self._is_collected) and not self._closed and not self._is_lost:
                self._schedule()
            self._is_collected = False
        self._held.observe(outcome.status)
        self._on_written()

    def _begin(self) -> Append:
        if not self._sending:
            self._sending, self._waiting = self._waiting, []
            self._flushes += 1
        self._is_writing, self._last_begun = True, time.monotonic()
        return Append(self._held.lease, self._sending, self._flushes)

    def _write(self, append: Append, retry: StoreRetry | None = None) -> None:
        """Write by this thread. A store that is away is for later, where `retry` does not wait for it."""
        outcome: Appended | StoreError = StoreError("it was not written")
        try:
            (outcome,) = retry.call(lambda: self._store.append([append])) if retry else self._store.append([append])
        except StoreUnavailableError as error:
            outcome = error
            if retry:
                raise
        finally:
            self.end(outcome)
        if isinstance(outcome, StoreError):
            if not isinstance(outcome, StoreUnavailableError):
                raise outcome
        elif outcome.status is LeaseStatus.LOST:
            raise LeaseLostError

    def _schedule(self) -> None:
        """Have what is there written soon, but not too soon after the write before."""
        self._flush_at(max(time.monotonic(), self._last_begun + _SPACING * self.window))

    def _flush_at(self, at: float) -> None:
        self._is_scheduled = True
        self._flusher.flush_at(self, at)


def _only_arguments(events: list[Event]) -> bool:
    return all(
        isinstance(event, MessageUpdate) and event.assistant_message_event.type.startswith("toolcall")
        for event in events
    )


def _merge(waiting: list[Event], event: Event) -> bool:
    """Add a delta to the last one that waits, where both are of the same block; False where they are not."""
    last = waiting[-1]
    if not isinstance(last, MessageUpdate) or not isinstance(event, MessageUpdate):
        return False
    a, b = last.assistant_message_event, event.assistant_message_event
    if a.type != b.type or a.content_index != b.content_index or a.delta is None or b.delta is None:
        return False
    waiting[-1] = MessageUpdate(
        assistant_message_event=AssistantMessageEvent(a.type, a.content_index, a.delta + b.delta)
    )
    return True

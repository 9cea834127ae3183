"""Buffers a step's events on their way into the log: adjacent deltas of one block merged, in few round trips.

The first text after a quiet time is written at once; what follows within the window is collected and
written together when the window ends, by the timer, also while the provider is silent. Pieces of a tool
call's arguments always wait for the window: nobody reads them letter by letter, and most calls end within it.

While the store is away, events are collected: the model's answer is paid for, and nobody else can take the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentkit.core.events import AssistantMessageEvent, Event, MessageUpdate
from agentkit.errors import LeaseLostError, StoreError, StoreUnavailableError
from agentkit.runtime.leases import Held
from agentkit.runtime.store_retry import StoreRetry
from agentkit.runtime.timer import Timer
from agentkit.store.protocol import Store

__all__ = ["EventBuffer"]

_RETRY_SECONDS = 0.2


class EventBuffer:
    """One step's way into the log.

    `window`: seconds in which events are collected. `on_written`: called after each write.
    """

    def __init__(
        self,
        store: Store,
        held: Held,
        timer: Timer,
        window: float,
        retry: StoreRetry | None = None,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._held = held
        self._timer = timer
        self._window = window
        self._retry = retry or StoreRetry()
        self._on_written = on_written
        self._lock = threading.RLock()
        self._waiting: list[Event] = []
        self._sending: list[Event] = []
        self._flushes = 0
        self._last_flush = float("-inf")
        self._is_scheduled = False
        self._closed = False

    def emit(self, *events: Event) -> None:
        """Add events. Raises LeaseLostError when the step is no longer ours."""
        with self._lock:
            if self._closed:
                return
            for event in events:
                if not (self._waiting and _merge(self._waiting, event)):
                    self._waiting.append(event)
            if not self._waiting or self._is_scheduled:
                return
            wait = self._last_flush + self._window - time.monotonic()
            if wait <= 0 and _only_arguments(self._waiting):
                wait = self._window
            if wait > 0:
                self._flush_later(wait)
                return
            try:
                self._flush()
            except StoreUnavailableError:
                self._flush_later(_RETRY_SECONDS)

    def drain(self) -> tuple[Event, ...]:
        """Close the buffer; what is not in the log yet is for the step's commit to carry."""
        with self._lock:
            self._closed = True
            if self._sending:  # a write whose outcome is unknown: only repeating it tells
                self._retry.call(self._send)
            events, self._waiting = tuple(self._waiting), []
            return events

    def _flush_scheduled(self) -> None:
        with self._lock:
            self._is_scheduled = False
            if self._closed or not (self._waiting or self._sending):
                return
            try:
                self._flush()
            except LeaseLostError:
                self._held.cancel.cancel("lost")
            except StoreError:  # what will not pass shows at the next write of the step itself
                self._flush_later(max(self._window, _RETRY_SECONDS))

    def _flush_later(self, seconds: float) -> None:
        self._is_scheduled = True
        self._timer.call_later(seconds, self._flush_scheduled)

    def _flush(self) -> None:
        if self._sending:  # of a write that failed
            self._send()
        if self._waiting:
            self._sending, self._waiting = self._waiting, []
            self._flushes += 1
            self._send()

    def _send(self) -> None:
        status = self._store.append(self._held.lease, self._sending, self._flushes)
        self._sending = []
        self._last_flush = time.monotonic()
        self._held.observe(status)
        self._on_written()


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

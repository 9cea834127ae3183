"""Streams a step's events into the log: adjacent deltas of one block merged, in as few round trips as can be.

The first text after a quiet time is written at once; what follows within the window is collected and
written together when the window ends, by the timer, also while the provider is silent. Pieces of a tool
call's arguments always wait for the window: nobody reads them letter by letter, and most calls end within it.

While the store is away, what comes is collected: the model's answer is paid for, and nobody else can take the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentkit.core.events import Event
from agentkit.errors import LeaseLostError, StoreError, StoreUnavailableError
from agentkit.runtime.leases import Held
from agentkit.runtime.store_retry import StoreRetry
from agentkit.runtime.timer import Timer
from agentkit.store.protocol import Store

__all__ = ["EventBuffer"]

_AGAIN_SECONDS = 0.2


class EventBuffer:
    """One step's way into the log. `saw` is called with the version that each write brings back."""

    def __init__(
        self,
        store: Store,
        held: Held,
        timer: Timer,
        window: float,
        saw: Callable[[Held, int], None],
        retry: StoreRetry | None = None,
    ) -> None:
        self._store = store
        self._held = held
        self._timer_thread = timer
        self._window = window
        self._saw = saw
        self._retry = retry or StoreRetry()
        self._lock = threading.RLock()
        self._waiting: list[Event] = []
        self._sending: list[Event] = []
        self._flushes = 0
        self._last_flush = float("-inf")
        self._timer = False
        self._closed = False

    def emit(self, *events: Event) -> None:
        """Add events. Raises LeaseLostError when the step is no longer ours."""
        with self._lock:
            if self._closed:
                return
            for event in events:
                if not (self._waiting and _merge(self._waiting[-1], event)):
                    self._waiting.append(event)
            if not self._waiting or self._timer:
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
                self._flush_later(_AGAIN_SECONDS)

    def drain(self) -> tuple[Event, ...]:
        """What is not in the log yet, for the step's commit to carry. Nothing is written after this."""
        with self._lock:
            self._closed = True
            if self._sending:  # a write whose outcome is unknown: only repeating it tells
                self._retry.attempt(self._send)
            events, self._waiting = tuple(self._waiting), []
            return events

    def _flush_due(self) -> None:
        with self._lock:
            self._timer = False
            if self._closed or not (self._waiting or self._sending):
                return
            try:
                self._flush()
            except LeaseLostError:
                self._held.cancel.cancel("lost")
            except StoreError:  # what will not pass shows at the next write of the step itself
                self._flush_later(max(self._window, _AGAIN_SECONDS))

    def _flush_later(self, seconds: float) -> None:
        self._timer = True
        self._timer_thread.call_later(seconds, self._flush_due)

    def _flush(self) -> None:
        if self._sending:  # of a write that failed
            self._send()
        if self._waiting:
            self._sending, self._waiting = self._waiting, []
            self._flushes += 1
            self._send()

    def _send(self) -> None:
        version = self._store.append(self._held.lease, self._sending, self._flushes)
        self._sending = []
        self._last_flush = time.monotonic()
        self._saw(self._held, version)


def _only_arguments(events: list[Event]) -> bool:
    return all(
        event["type"] == "message_update" and event["assistantMessageEvent"]["type"].startswith("toolcall")
        for event in events
    )


def _merge(last: Event, event: Event) -> bool:
    """Add a delta to the one before it, where both are of the same block; False where they are not."""
    if last["type"] != "message_update" or event["type"] != "message_update":
        return False
    a, b = last["assistantMessageEvent"], event["assistantMessageEvent"]
    if a["type"] != b["type"] or a["contentIndex"] != b["contentIndex"] or "delta" not in a:
        return False
    last["assistantMessageEvent"] = {**a, "delta": a["delta"] + b["delta"]}
    return True

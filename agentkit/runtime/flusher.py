"""Writes the events of all steps of a process into their logs: those that are due at about one time in one round trip.

How long events are collected follows demand: long where nobody follows a run, short where somebody does, and longer as
soon as writing takes a larger part of the time, before whoever follows gets them late.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from typing import Protocol

from agentkit.errors import StoreError
from agentkit.store.protocol import Append, Appended, Store

__all__ = ["Flusher"]

log = logging.getLogger(__name__)

_IDLE_SECONDS = 2.0
"""How long the thread waits without anything to write before it ends; the next buffer starts another."""
_SHARE = 3
"""A round of writing is followed by a pause of so many times as long as it took."""
_SLACK = 0.5
"""What is due within this share of a window is written with what is due now."""


class Buffer(Protocol):
    """What the flusher asks of an event buffer."""

    def begin(self) -> Append | None:
        """Return what is to be written now; None where there is nothing."""
        ...

    def end(self, outcome: Appended | StoreError) -> None:
        """Note what became of it."""
        ...


class Flusher:
    """Of one process. `followed_seconds` and `unfollowed_seconds`: how long events are collected."""

    def __init__(self, store: Store, followed_seconds: float, unfollowed_seconds: float) -> None:
        self._store = store
        self._followed_seconds = followed_seconds
        self._unfollowed_seconds = max(followed_seconds, unfollowed_seconds) if followed_seconds else 0.0
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Buffer]] = []
        self._count = itertools.count()
        self._pause = 0.0
        self._running = False

    def window(self, *, followed: bool) -> float:
        """Return for how many seconds the events of a run are collected now."""
        seconds = self._followed_seconds if followed else self._unfollowed_seconds
        return max(seconds, self._pause) if seconds else 0.0

    def flush_at(self, buffer: Buffer, at: float) -> None:
        """Write what `buffer` has at the time `at` (`time.monotonic`), or soon after."""
        with self._changed:
            heapq.heappush(self._due, (at, next(self._count), buffer))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="agentkit-flusher", daemon=True).start()
            elif self._due[0][2] is buffer:
                self._changed.notify()

    def _run(self) -> None:
        not_before = 0.0
        while (buffers := self._wait(not_before)) is not None:
            began = time.monotonic()
            try:
                self._flush(buffers)
            except Exception:
                log.exception("the events of %d steps could not be written, which is tried again", len(buffers))
            took = time.monotonic() - began
            self._pause = 0.8 * self._pause + 0.2 * _SHARE * took
            not_before = began + took + self._pause

    def _wait(self, not_before: float) -> list[Buffer] | None:
        """Wait for what is due, and not until `not_before`; None where nothing came for long."""
        with self._changed:
            while True:
                now = time.monotonic()
                first = max(self._due[0][0], not_before) if self._due else now + _IDLE_SECONDS
                if self._due and first <= now:
                    until = now + _SLACK * self.window(followed=True)
                    found = []
                    while self._due and self._due[0][0] <= until:
                        found.append(heapq.heappop(self._due)[2])
                    return found
                if not self._changed.wait(first - now) and not self._due:
                    self._running = False
                    return None

    def _flush(self, buffers: list[Buffer]) -> None:
        writes = [(buffer, append) for buffer in buffers if (append := buffer.begin()) is not None]
        if not writes:
            return
        outcomes: list[Appended | StoreError]
        try:
            outcomes = self._store.append([append for _, append in writes])
        except StoreError as error:
            outcomes = [error] * len(writes)
        except Exception as error:
            log.exception("the events of %d steps could not be written, which is tried again", len(writes))
            outcomes = [StoreError(f"the events could not be written: {type(error).__name__}")] * len(writes)
        for (buffer, _), outcome in zip(writes, outcomes, strict=True):
            buffer.end(outcome)

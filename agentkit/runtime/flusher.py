"""Writes the events of all steps of a process into their logs: those that are due at about one time in one round trip.

How long events are collected follows demand: long where nobody follows a run, short where somebody does, and longer as
soon as writing takes a larger part of the time, before whoever follows gets them late.

What is collected before it comes here, as the bytes of models' answers are, is to come when `collected_in` says: that
of all runs of a group at the same times, so that it is written together and waits only once. There are more groups the
more runs there are: each waits only for its own to be read and written.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agentkit.errors import StoreError
from agentkit.store.protocol import Append, Appended, Store

__all__ = ["Flusher"]

log = logging.getLogger(__name__)

_IDLE_SECONDS = 2.0
"""How long the thread waits without anything to write before it ends; the next buffer starts another."""
_TIMES_CPU = 8
"""A window is at least so many times as long as the processor works for a round of reading and writing."""
_TIMES = 1.5
"""And so many times as long as a round takes, where others have the processor."""
_ROUNDS = 25
"""So many rounds say, by their median, what one takes: one that was held up says nothing."""
_CHANGE = 0.25
"""A window that would change by a smaller share stays as it is: the times of collecting hang on it."""
_GATHER = 0.06
"""After so large a part of a group's time without more that is due, a round begins, and at the latest after half."""
_GROUPS = 4
"""Runs are collected at so many times within their window at the most, and those that nobody follows always."""
_GROUP_RUNS = 32
"""So many runs that are written in a window make a group: a round costs as much by itself as writing some of them."""
_SOON = 0.25
"""A turn that comes within so large a part of a window is left out: there would be little to collect."""
_SLACK = 0.5
"""What is due within this share of a group's time is written with what is due now."""


class Buffer(Protocol):
    """What the flusher asks of an event buffer."""

    def begin(self) -> Append | None:
        """Return what is to be written now; None where there is nothing."""
        ...

    def end(self, outcome: Appended | StoreError) -> None:
        """Note what became of it."""
        ...


@dataclass(frozen=True, slots=True)
class _Clock:
    """When what somebody follows is collected: each `seconds` after `begun`, every group in its part of that time."""

    begun: float
    seconds: float
    groups: int

    @property
    def step(self) -> float:
        """Seconds from one group's time to the next one's."""
        return self.seconds / self.groups

    def next(self, place: int, now: float) -> float:
        """Return when it is the turn of the run with the number `place`: the next one that is not just after `now`."""
        begun = self.begun + place % self.groups * self.step
        return begun + math.ceil((now - begun) / self.seconds + _SOON) * self.seconds


class _Round(NamedTuple):
    """What one round of reading and writing was, for the runs in it that somebody follows."""

    began: float
    runs: int
    seconds: float
    cpu_seconds: float


class Flusher:
    """Of one process. `followed_seconds` and `unfollowed_seconds`: how long events are collected."""

    def __init__(self, store: Store, followed_seconds: float, unfollowed_seconds: float) -> None:
        self._store = store
        self._followed_seconds = followed_seconds
        self._unfollowed_seconds = max(followed_seconds, unfollowed_seconds) if followed_seconds else 0.0
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Buffer]] = []
        self._count = itertools.count()
        self._last_added = 0.0
        self._rounds: deque[_Round] = deque(maxlen=_ROUNDS)
        self._running = False
        self._clock = _Clock(0.0, followed_seconds, 1)
        self._places = itertools.count()

    def new_place(self) -> int:
        """Return a number for a run, by which it comes into a group."""
        return next(self._places)

    def window(self, *, followed: bool) -> float:
        """Return for how many seconds the events of a run are collected now."""
        if not self._followed_seconds:
            return 0.0
        seconds = self._clock.seconds
        return seconds if followed else max(seconds, self._unfollowed_seconds)

    def collected_in(self, place: int, *, followed: bool) -> float:
        """Return after how many seconds what comes from now on is to be here: at the end of a window."""
        if not self._followed_seconds:
            return 0.0
        clock = self._clock
        if not followed and self._unfollowed_seconds > clock.seconds:
            clock = _Clock(0.0, self._unfollowed_seconds, _GROUPS)
        now = time.monotonic()
        return clock.next(place, now) - now

    def flush_at(self, buffer: Buffer, at: float) -> None:
        """Write what `buffer` has at the time `at` (`time.monotonic`), or soon after."""
        with self._changed:
            self._last_added = time.monotonic()
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
            not_before = began + self._clock.step / 2

    def _adapt(self, last: _Round) -> None:
        """Set the clock by what the last rounds were."""
        self._rounds.append(last)
        clock = self._clock
        wanted = statistics.median(max(_TIMES * each.seconds, _TIMES_CPU * each.cpu_seconds) for each in self._rounds)
        seconds = max(self._followed_seconds, clock.groups * wanted)
        groups = self._wanted_groups(clock.groups)
        if groups != clock.groups:
            self._rounds.clear()  # they say nothing of the others
        elif abs(seconds / clock.seconds - 1) <= _CHANGE:
            return
        self._clock = _Clock(last.began, seconds, groups)

    def _wanted_groups(self, groups: int) -> int:
        if len(self._rounds) < _ROUNDS:
            return groups
        runs = groups * statistics.median(each.runs for each in self._rounds)
        wanted = min(max(1, runs / _GROUP_RUNS), _GROUPS)
        return int(wanted) if abs(wanted - groups) >= 1 else groups

    def _wait(self, not_before: float) -> list[Buffer] | None:
        """Wait for what is due, and not until `not_before`; None where nothing came for long."""
        with self._changed:
            while True:
                now, step = time.monotonic(), self._clock.step
                if self._due:
                    first = self._due[0][0]
                    gathered = min(max(first, self._last_added) + _GATHER * step, first + step / 2)
                    at = max(gathered, not_before)
                    if at <= now:
                        return self._take(now + _SLACK * step)
                else:
                    at = now + _IDLE_SECONDS
                if not self._changed.wait(at - now) and not self._due:
                    self._running = False
                    return None

    def _take(self, until: float) -> list[Buffer]:
        found = []
        while self._due and self._due[0][0] <= until:
            found.append(heapq.heappop(self._due)[2])
        return found

    def _flush(self, buffers: list[Buffer]) -> None:
        began, cpu = time.monotonic(), time.thread_time()
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
        followed = sum(isinstance(outcome, Appended) and outcome.receivers > 0 for outcome in outcomes)
        if followed and self._followed_seconds:
            share = followed / len(writes)
            self._adapt(_Round(began, followed, share * (time.monotonic() - began), share * (time.thread_time() - cpu)))

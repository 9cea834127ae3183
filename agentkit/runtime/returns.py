"""Gives messages that this process cannot use back to the queue, where another worker takes them.

While a new version is deployed, the old workers meet runs of agents and tools that they do not know. Each time that a
process meets the same step it waits twice as long before it gives the message back, up to the lease time: after that
the step is recovery's. What is counted is counted in this process, and is lost with it: messages carry no count.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from agentkit.core.forks import ForkSafeLock
from agentkit.runtime.timer import Timer

__all__ = ["Returns"]

_FIRST_SECONDS = 0.1
_MOST_STEPS = 10_000


class Returns:
    """Of one process. `lease_seconds`: the delay from which on a step is left to recovery."""

    def __init__(self, timer: Timer, lease_seconds: float) -> None:
        self._timer = timer
        self._lease_seconds = lease_seconds
        self._lock = ForkSafeLock()
        self._met: OrderedDict[tuple[str, int], tuple[int, float]] = OrderedDict()

    def next_delay(self, run_id: str, step: int, limit: int | None = None) -> float | None:
        """Compute the seconds after which the message of a step is to go back, and count it.

        None where it went back `limit` times, or for about a lease time.
        """
        key = (run_id, step)
        with self._lock:
            self._forget()
            times, _ = self._met.pop(key, (0, 0.0))
            self._met[key] = (times + 1, time.monotonic())
            is_crowded = len(self._met) > _MOST_STEPS
        delay = _FIRST_SECONDS * 2.0 ** min(times, 30)
        if is_crowded or delay >= self._lease_seconds or (limit is not None and times >= limit):
            return None
        return delay

    def enqueue_later(self, delay: float, enqueue: Callable[[], None]) -> None:
        """Call `enqueue` after `delay` seconds, in its own thread: a broker that hangs must not hold up the timer."""
        self._timer.call_later(delay, lambda: threading.Thread(target=enqueue, daemon=True).start())

    def _forget(self) -> None:
        """Drop the steps that were not met for two lease times: recovery would have enqueued them."""
        before = time.monotonic() - 2 * self._lease_seconds
        while self._met and next(iter(self._met.values()))[1] < before:
            self._met.popitem(last=False)

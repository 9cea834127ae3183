"""One thread per process for everything that happens later: lease renewals, flushes, deadlines."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

__all__ = ["Timer"]

log = logging.getLogger(__name__)


IDLE_SECONDS = 5.0
"""How long the thread waits without anything to call before it ends; the next call starts another."""


class Timer:
    """Calls functions at their time, one after the other. They must be short; what they raise is logged."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._running = False

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._calls, (time.monotonic() + seconds, next(self._count), function))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="agentkit-timer", daemon=True).start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._calls or self._calls[0][0] > time.monotonic():
                    # At most an hour: the clock of a lock cannot wait for any time that somebody may ask for.
                    seconds = min(3600.0, self._calls[0][0] - time.monotonic()) if self._calls else IDLE_SECONDS
                    if not self._changed.wait(seconds) and not self._calls:
                        self._running = False
                        return
                _, _, function = heapq.heappop(self._calls)
            try:
                function()
            except BaseException:  # whatever it is, the others that wait here are called
                log.exception("a timed call failed")
            del function

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


class Timer:
    """Calls functions at their time, one after the other. They must be short; what they raise is logged."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._running = False

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        with self._news:
            heapq.heappush(self._calls, (time.monotonic() + seconds, next(self._count), function))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="agentkit-timer", daemon=True).start()
            self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._calls or self._calls[0][0] > time.monotonic():
                    # At most an hour: the clock of a lock cannot wait for any time that somebody may ask for.
                    self._news.wait(min(3600.0, self._calls[0][0] - time.monotonic()) if self._calls else None)
                _, _, function = heapq.heappop(self._calls)
            try:
                function()
            except Exception:
                log.exception("a timed call failed")

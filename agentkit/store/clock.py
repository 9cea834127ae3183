"""The store's clock, as a process knows it between two replies: by it go all times that are kept.

Clocks of workers and web processes are minutes apart in practice, and each of them reads what others have written. So
none of them counts: a process measures how far the server's clock is ahead of its own monotonic one, which nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agentkit.errors import StoreUnavailableError

__all__ = ["StoreClock"]

_FRESH_MS = 10_000


class StoreClock:
    """Of one process; several threads may use it. `ask`: reads the server's clock, in ms since the Unix epoch.

    A reply that took long to come shows too early a time. So the latest time that replies have shown counts,
    until it is `_FRESH_MS` old: then whatever the server says, whose clock may have been set.
    """

    def __init__(self, ask: Callable[[], int], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._ask = ask
        self._monotonic_ns = monotonic_ns
        self._measured: tuple[int, int] | None = None
        """How many ms the server's clock is ahead of ours, and when that was measured (ours, ms)."""
        self._asked_at = 0

    def observe(self, server_ms: int) -> int:
        """Note the time that a reply of the server carries; returns it."""
        now = self._monotonic_ms()
        ahead = server_ms - now
        measured = self._measured
        if measured is None or ahead >= measured[0] or now - measured[1] > _FRESH_MS:
            self._measured = ahead, now
        return server_ms

    def now(self) -> int:
        """Return the server's time (ms), which it is asked for if no reply has shown it lately.

        Where it cannot be asked, what was known before counts. Raises StoreUnavailableError where nothing was.
        """
        measured, now = self._measured, self._monotonic_ms()
        if measured is None or now - max(measured[1], self._asked_at) > _FRESH_MS:
            self._asked_at = now
            try:
                self.observe(self._ask())
            except StoreUnavailableError:
                if measured is None:
                    raise
        assert self._measured is not None
        return self._measured[0] + self._monotonic_ms()

    def _monotonic_ms(self) -> int:
        return self._monotonic_ns() // 1_000_000

"""Lets the threads of a process change the same run one after the other.

Changes that are computed side by side from the same state refuse one another, and each but one is computed again: of 32
threads that end sub-agents of one run, nearly all. The store keeps that right; this only keeps it cheap. So a thread
waits for its turn a bounded time, and then goes on without.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TurnTaking"]

MAX_WAIT_SECONDS = 1.0
"""Longer than a change takes, and short beside an outage of the store, in which nobody gets on."""


class _Turn:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        """Those that are in it or wait for it."""


class TurnTaking:
    """Of one process. Nobody may take a turn within another's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @contextmanager
    def turn(self, run_id: str) -> Iterator[None]:
        """Wait until no other thread is in the turn of this run, though at most `MAX_WAIT_SECONDS`."""
        with self._lock:
            turn = self._turns.setdefault(run_id, _Turn())
            turn.threads += 1
        is_ours = turn.lock.acquire(timeout=MAX_WAIT_SECONDS)
        try:
            yield
        finally:
            if is_ours:
                turn.lock.release()
            with self._lock:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[run_id]

"""Knows which tool calls of a run this process executes: of those that end side by side, one says what follows.

What follows from the end of a turn goes to the store with the call that ends last, and any of them may be that. But of
the calls of one process it can only be the one that comes to its end after all others here, once theirs are in the
store. So that one alone says what follows, and waits for them; whichever process has the last one of all, what follows
goes with it. The store keeps that right; this only keeps it cheap. So who waits does that a bounded time, and goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentkit.core.record import Lease

__all__ = ["SideBySide"]

MAX_WAIT_SECONDS = 1.0
"""Longer than a commit takes, and short beside an outage of the store, in which nobody gets on."""


@dataclass
class _Calls:
    """Of one run. `ending`: those that have come to their end, in that order, and are not in the store yet."""

    executing: set[Lease] = field(default_factory=set)
    ending: list[Lease] = field(default_factory=list)


class SideBySide:
    """Of one process."""

    def __init__(self) -> None:
        self._left = threading.Condition()
        self._runs: dict[str, _Calls] = {}

    @contextmanager
    def executing(self, lease: Lease) -> Iterator[None]:
        """Execute a call, until its end is in the store or it has failed."""
        with self._left:
            calls = self._runs.setdefault(lease.run_id, _Calls())
            calls.executing.add(lease)
        try:
            yield
        finally:
            with self._left:
                calls.executing.discard(lease)
                if lease in calls.ending:
                    calls.ending.remove(lease)
                if not calls.executing and not calls.ending:
                    del self._runs[lease.run_id]
                self._left.notify_all()

    def ends_last(self, lease: Lease) -> bool:
        """Note that a call comes to its end; whether it is the last here: then after the ends of the others."""
        with self._left:
            calls = self._runs[lease.run_id]
            calls.executing.remove(lease)
            calls.ending.append(lease)
            if calls.executing:
                return False
            self._left.wait_for(lambda: calls.ending[0] == lease, MAX_WAIT_SECONDS)
            return True

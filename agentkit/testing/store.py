"""The store of a test: in memory, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.core.ids import now_ms
from agentkit.core.record import Lease
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Claim, LeaseStatus

__all__ = ["Clock", "TestingStore"]

_ENDLESS_MS = 10**14
"""Longer than a clock is moved: no step is taken from a tool that moves it."""


class Clock:
    """Milliseconds since the Unix epoch, from now on, as far as it is moved."""

    def __init__(self) -> None:
        self.ms = now_ms()

    def now(self) -> int:
        return self.ms


class TestingStore(MemoryStore):
    """A store whose leases do not run out: what executes a step is this process."""

    __test__ = False  # it is no test case, whatever pytest takes its name for

    def claim(self, run_id: str, step: int, lease_ms: int, *, request_id: str = "") -> Claim | None:
        return super().claim(run_id, step, _ENDLESS_MS, request_id=request_id)

    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[LeaseStatus]:
        return super().renew(leases, _ENDLESS_MS)

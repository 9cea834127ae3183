"""What processes report of themselves, in the store in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from agentkit.store.memory_audit import MemoryAudit
from agentkit.store.protocol import Totals

__all__ = ["MemoryMetrics"]


class MemoryMetrics(MemoryAudit):
    """The part of `MemoryStore` that adds up what processes report."""

    def __init__(self, retention_seconds: int, clock: Callable[[], int]) -> None:
        super().__init__(retention_seconds, clock)
        self._counts: Counter[str] = Counter()
        self._reports: dict[str, int] = {}
        self._levels: dict[str, tuple[int, Mapping[str, float]]] = {}

    def report(
        self, process: str, number: int, counts: Mapping[str, float], levels: Mapping[str, float], ttl_ms: int
    ) -> None:
        with self.changed:
            if self._reports.get(process, 0) >= number:
                return
            self._reports[process] = number
            self._counts.update(counts)
            self._levels[process] = (self.now() + ttl_ms, dict(levels))

    def totals(self) -> Totals:
        with self.changed:
            levels: Counter[str] = Counter()
            for until, noted in self._levels.values():
                if until > self.now():
                    levels.update(noted)
            return Totals(dict(self._counts), dict(levels))

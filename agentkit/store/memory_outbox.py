"""What commits have caused outside their runs, in the store in memory. It outlives the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentkit.core.outbox import OutboxEntry
from agentkit.store.encoding import decode_entry
from agentkit.store.memory_index import MemoryIndex

__all__ = ["MemoryOutbox"]


class MemoryOutbox(MemoryIndex):
    """The part of `MemoryStore` that has the outboxes: bytes by entry id, and none is empty."""

    def __init__(self, retention_seconds: int, clock: Callable[[], int]) -> None:
        super().__init__(retention_seconds, clock)
        self._outboxes: dict[str, dict[str, bytes]] = {}

    def outbox(self, run_id: str) -> list[OutboxEntry]:
        with self.changed:
            stored = self._outboxes.get(run_id, {})
            return [self._entry(run_id, entry_id) for entry_id in sorted(stored)]

    def take_entry(self, run_id: str, entry_id: str, hold_ms: int) -> OutboxEntry | None:
        with self.changed:
            stored = self._outboxes.get(run_id, {}).get(entry_id)
            if stored is None:
                return None
            at, tries, body = stored.split(b" ", 2)
            if int(at) > self.now():
                return None
            self._outboxes[run_id][entry_id] = b"%d %d %b" % (self.now() + hold_ms, int(tries) + 1, body)
            return self._entry(run_id, entry_id)

    def postpone_entry(self, run_id: str, entry: OutboxEntry, at: int) -> bool:
        with self.changed:
            stored = self._outboxes.get(run_id, {}).get(entry.id)
            if stored is None:
                return False
            _, tries, body = stored.split(b" ", 2)
            if int(tries) != entry.tries:
                return False
            self._outboxes[run_id][entry.id] = b"%d %d %b" % (at, entry.tries, body)
            return True

    def remove_entries(self, run_id: str, entry_ids: Sequence[str]) -> None:
        with self.changed:
            stored = self._outboxes.get(run_id, {})
            for entry_id in entry_ids:
                stored.pop(entry_id, None)
            if not stored:
                self._outboxes.pop(run_id, None)

    def unlist(self, run_id: str) -> None:
        with self.changed:
            due = self._due.get(run_id)
            super().unlist(run_id)
            if due is not None and run_id in self._outboxes:
                self._due[run_id] = due

    def _write_entries(self, run_id: str, entries: Sequence[tuple[str, bytes]]) -> None:
        if entries:
            self._outboxes.setdefault(run_id, {}).update({entry_id: b"0 0 " + body for entry_id, body in entries})

    def _entry(self, run_id: str, entry_id: str) -> OutboxEntry:
        return decode_entry(entry_id, self._bodies.decrypt(self._outboxes[run_id][entry_id], run_id))

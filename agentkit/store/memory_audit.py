"""The record of answers in the store in memory: the lines of the chain, oldest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentkit.core.audit import AnswerEntry, Chain, ChainedAnswer, link
from agentkit.core.inbox import ItemFilter
from agentkit.core.struct import decode
from agentkit.store.memory_outbox import MemoryOutbox

__all__ = ["MemoryAudit"]


@dataclass(frozen=True)
class _Line:
    number: int
    at: int
    decision_id: str
    hash: str
    text: bytes


class MemoryAudit(MemoryOutbox):
    """The part of `MemoryStore` that has the record of answers."""

    def __init__(self, retention_seconds: int, clock: Callable[[], int]) -> None:
        super().__init__(retention_seconds, clock)
        self._chain = Chain()
        self._lines: list[_Line] = []

    def record_answer(self, entry: AnswerEntry) -> None:
        with self.changed:
            if any(line.decision_id == entry.decision_id for line in self._lines):
                return
            chain = self._chain
            text, own_hash = link(entry, chain)
            stored = self._bodies.encrypt(text.encode())
            self._lines.append(_Line(chain.last + 1, self.now(), entry.decision_id, own_hash, stored))
            self._chain = Chain(first=chain.first, last=chain.last + 1, anchor=chain.anchor, head=own_hash)

    def answers(self, before: int | None, limit: int, wanted: ItemFilter) -> list[ChainedAnswer]:
        with self.changed:
            found: list[ChainedAnswer] = []
            for line in reversed(self._lines):
                if before is None or line.number < before:
                    entry = decode(self._read(line), ChainedAnswer)
                    if entry.satisfies(wanted):
                        found.append(entry)
                if len(found) == limit:
                    break
            return found

    def chain(self) -> Chain:
        with self.changed:
            return self._chain

    def chain_lines(self, after: int, limit: int) -> list[str]:
        with self.changed:
            return [self._read(line).decode() for line in self._lines if line.number > after][:limit]

    def trim_answers(self, before: int, limit: int) -> int:
        with self.changed:
            old = [line for line in self._lines if line.at < before][:limit]
            if old:
                last, chain = old[-1], self._chain
                self._lines = self._lines[len(old) :]
                self._chain = Chain(first=last.number + 1, last=chain.last, anchor=last.hash, head=chain.head)
            return len(old)

    def _read(self, line: _Line) -> bytes:
        return self._bodies.decrypt(line.text, f"of the answer {line.decision_id}")

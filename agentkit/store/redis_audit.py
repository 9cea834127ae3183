"""The record of answers of the store on Redis or Valkey: a stream whose entries are chained, and lists of them.

A hash needs what comes before it, and the server computes none: so a process makes the next entry after the last that
it knows of, and the script appends it if that still is the last (scripts/record_answer.lua). All its keys share a
cluster slot.
"""

from __future__ import annotations

from typing import Any, cast

import redis

from agentkit.core.audit import GENESIS, AnswerEntry, Chain, ChainedAnswer, link
from agentkit.core.forks import ForkSafeLock
from agentkit.core.inbox import ItemFilter
from agentkit.core.struct import decode
from agentkit.store.audit import answer_list, answer_lists
from agentkit.store.bodies import Bodies
from agentkit.store.cluster import stream_fields
from agentkit.store.connection import translated
from agentkit.store.lua import AuditKeys, Scripts

__all__ = ["RedisAudit"]


class RedisAudit:
    """The part of `RedisStore` that has the record of answers."""

    _client: redis.Redis
    _bodies: Bodies
    _scripts: Scripts

    def __init__(self, prefix: str) -> None:
        self._audit = AuditKeys.of(prefix)
        self._append_lock = ForkSafeLock()  # the threads of a process would refuse one another's entries
        self._last: tuple[int, bytes] = (0, b"")
        """The number and the stored hash of the last entry, as far as this process knows."""

    @translated
    def record_answer(self, entry: AnswerEntry) -> None:
        lists = answer_lists(entry)
        with self._append_lock:
            while True:
                number, stored_head = self._last
                text, own_hash = link(entry, Chain(last=number, head=self._hash_of(stored_head)))
                stored_hash, line = (self._bodies.encrypt(each.encode()) for each in (own_hash, text))
                reply = self._scripts.record_answer(
                    self._audit, number, stored_head, entry.decision_id, stored_hash, line, lists
                )
                if reply == b"ok":
                    self._last = (number + 1, stored_hash)
                    return
                if reply == b"known":
                    return
                self._last = (int(reply[0]), reply[1])

    @translated
    def answers(self, before: int | None, limit: int, wanted: ItemFilter) -> list[ChainedAnswer]:
        newest = "+" if before is None else str(before - 1)
        name = answer_list(wanted)
        if before is not None and before <= 1:
            return []
        if name is None:
            lines = self._lines(self._client.xrevrange(self._audit.entries, newest, "-", count=limit))
        else:
            listed = cast(list[Any], self._client.xrevrange(f"{self._audit.chain}{name}", newest, "-", count=limit))
            pipe = self._client.pipeline(transaction=False)
            for number, _ in listed:
                pipe.xrange(self._audit.entries, number, number)
            lines = [line for found in pipe.execute() for line in self._lines(found)]
        return [decode(line, ChainedAnswer) for line in lines]

    @translated
    def chain(self) -> Chain:
        names = ["first", "last", "anchor", "head"]
        first, last, anchor, head = cast(list[bytes | None], self._client.hmget(self._audit.chain, names))
        return Chain(
            first=int(first or 1),
            last=int(last or 0),
            anchor=self._hash_of(anchor),
            head=self._hash_of(head),
        )

    @translated
    def chain_lines(self, after: int, limit: int) -> list[str]:
        return self._lines(self._client.xrange(self._audit.entries, str(after + 1), "+", count=limit))

    @translated
    def trim_answers(self, before: int, limit: int) -> int:
        return int(self._scripts.trim_answers(self._audit, before, limit))

    def _hash_of(self, stored: bytes | None) -> str:
        """Read a stored hash; where none is, that before the first entry of all."""
        return self._bodies.decrypt(stored, "of the record of answers").decode() if stored else GENESIS

    def _lines(self, entries: Any) -> list[str]:
        return [
            self._bodies.decrypt(fields[b"d"], f"of the answer {fields[b'i'].decode()}").decode()
            for fields in map(stream_fields, entries)
        ]

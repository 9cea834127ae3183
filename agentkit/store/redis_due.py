"""The due index of the store on Redis or Valkey: run ids, scored by the time at which each is to be checked.

Every step of every run writes to it. So in a cluster it has several parts, which have slots of their own, and a run is
in the one that its id says: no master is asked for every step. On one server it is one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import cast

import redis

from agentkit.store.clock import StoreClock
from agentkit.store.cluster import is_cluster
from agentkit.store.connection import translated
from agentkit.store.lua import Scripts
from agentkit.store.protocol import DueRun

__all__ = ["RedisDue"]

_PARTS = 16
"""In a cluster, whatever it has of masters: where a run is must not change with them."""


class RedisDue:
    """The part of `RedisStore` that knows when runs are to be checked."""

    _client: redis.Redis
    _scripts: Scripts
    _clock: StoreClock
    now: Callable[[], int]

    def __init__(self, prefix: str) -> None:
        parts = [f"{{due:{number}}}" for number in range(_PARTS)] if is_cluster(self._client) else ["due"]
        self._due_parts = [f"{prefix}{part}" for part in parts]

    def _due_part(self, run_id: str) -> str:
        """Name the part of the index that has a run. Raises UnicodeEncodeError for an id that is no text."""
        return self._due_parts[zlib.crc32(run_id.encode()) % len(self._due_parts)]

    @translated
    def schedule(self, run_id: str, at: int) -> None:
        self._scripts.schedule(self._due_part(run_id), run_id, at)

    @translated
    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        found: list[tuple[float, DueRun]] = []
        for part, count in self._overdue(limit).items():
            till, ids, scores, scheduled = self._scripts.take(part, count, hold_ms)
            self._clock.observe(int(till) - hold_ms)
            found += [
                (
                    float(score),
                    DueRun(run_id.decode(), int(till) + (0.25 if is_scheduled else 0.5), scheduled=bool(is_scheduled)),
                )
                for run_id, score, is_scheduled in zip(ids, scores, scheduled, strict=True)
            ]
        return [run for _, run in sorted(found, key=lambda each: each[0])]

    def _overdue(self, limit: int) -> dict[str, int]:
        """Say how many of those runs that are overdue longest, `limit` in all, each part has; of one part `limit`."""
        if len(self._due_parts) == 1:
            return {self._due_parts[0]: limit}
        pipe = self._client.pipeline(transaction=False)
        for part in self._due_parts:
            pipe.zrangebyscore(part, "-inf", self.now(), 0, limit, withscores=True)
        replies = cast(list[list[tuple[bytes, float]]], pipe.execute())
        oldest = sorted((score, number) for number, reply in enumerate(replies) for _, score in reply)[:limit]
        counts: dict[str, int] = {}
        for _, number in oldest:
            part = self._due_parts[number]
            counts[part] = counts.get(part, 0) + 1
        return counts

    @translated
    def reschedule(self, run: DueRun, at: int | None) -> None:
        self._scripts.reschedule(self._due_part(run.run_id), run.run_id, run.mark, at)

    @translated
    def backlog(self) -> tuple[int, int]:
        pipe = self._client.pipeline(transaction=False)
        for part in self._due_parts:
            pipe.zcard(part)
            pipe.zcount(part, "-inf", self.now())
        replies = cast(list[int], pipe.execute())
        return sum(replies[::2]), sum(replies[1::2])

    @translated
    def next_check(self, run_id: str | None = None) -> int | None:
        if run_id is not None:
            score = self._client.zscore(self._due_part(run_id), run_id)
            return None if score is None else int(score)
        pipe = self._client.pipeline(transaction=False)
        for part in self._due_parts:
            pipe.zrange(part, 0, 0, withscores=True)
        firsts = pipe.execute()
        return min((int(first[0][1]) for first in firsts if first), default=None)

    @translated
    def unscheduled(self, run_ids: Sequence[str]) -> list[str]:
        pipe = self._client.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.zscore(self._due_part(run_id), run_id)
        return [run_id for run_id, score in zip(run_ids, pipe.execute(), strict=True) if score is None]

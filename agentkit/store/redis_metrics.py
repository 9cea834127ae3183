"""What processes report of themselves, in the store on Redis or Valkey: a hash of counts, and one of levels.

All its keys share a cluster slot, so that a report is added whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

import redis

from agentkit.core.struct import decode, encode
from agentkit.store.clock import StoreClock
from agentkit.store.connection import translated
from agentkit.store.lua import MetricsKeys, Scripts
from agentkit.store.protocol import Totals

__all__ = ["RedisMetrics"]

_REMEMBERED_MS = 600_000
"""How long the number of a process's last report is kept: one whose reply was lost is made again within seconds."""


class RedisMetrics:
    """The part of `RedisStore` that adds up what processes report."""

    _client: redis.Redis
    _scripts: Scripts
    _clock: StoreClock

    def __init__(self, prefix: str) -> None:
        self._metrics = MetricsKeys.of(prefix)

    @translated
    def report(
        self, process: str, number: int, counts: Mapping[str, float], levels: Mapping[str, float], ttl_ms: int
    ) -> None:
        noted = encode(dict(levels)) if levels else b""
        self._scripts.report(self._metrics, process, number, _REMEMBERED_MS, ttl_ms, noted, counts)

    @translated
    def totals(self) -> Totals:
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(self._metrics.counts)
        pipe.hgetall(self._metrics.levels)
        counts, noted = cast(list[dict[bytes, bytes]], pipe.execute())
        now = self._clock.now()
        levels: Counter[str] = Counter()
        for stored in noted.values():
            until, _, text = stored.partition(b" ")
            if int(until) > now:
                levels.update(decode(text, dict[str, float]))
        return Totals({name.decode(): float(amount) for name, amount in counts.items()}, dict(levels))

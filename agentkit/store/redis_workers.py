"""The workers of a store on Redis: who is there, what they serve, and which of them holds a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import redis

from agentkit.core.record import Lease
from agentkit.core.struct import decode, encode
from agentkit.core.workers import Worker
from agentkit.store.connection import translated
from agentkit.store.lua import RunKeys
from agentkit.store.protocol import StepLease

__all__ = ["RedisWorkers"]


class RedisWorkers:
    """The part of `RedisStore` that knows of workers. `now`: reads the store's clock (ms)."""

    def __init__(self, client: redis.Redis, prefix: str, now: Callable[[], int]) -> None:
        self._server = client
        self._names = prefix
        self._store_now = now
        self._workers = f"{prefix}workers"

    @translated
    def heartbeat(self, worker: str, ttl_ms: int, about: Worker | None = None) -> None:
        now = self._store_now()
        pipe = self._server.pipeline(transaction=False)
        pipe.zremrangebyscore(self._workers, "-inf", now)
        pipe.zadd(self._workers, {worker: now + ttl_ms})
        pipe.pexpire(self._workers, ttl_ms, nx=True)
        pipe.pexpire(self._workers, ttl_ms, gt=True)  # never earlier than another worker said
        if about is not None:
            pipe.set(self._about(worker), encode(about), px=ttl_ms)
        pipe.execute()

    @translated
    def workers(self) -> list[str]:
        names = cast(list[bytes], self._server.zrangebyscore(self._workers, self._store_now(), "+inf"))
        return [name.decode() for name in names]

    @translated
    def about_workers(self) -> list[Worker]:
        names = self.workers()
        pipe = self._server.pipeline(transaction=False)
        for name in names:
            pipe.get(self._about(name))
        found = zip(names, pipe.execute(), strict=True)
        return [Worker(name) if stored is None else decode(stored, Worker) for name, stored in found]

    @translated
    def note_holders(self, leases: Sequence[Lease], worker: str, ttl_ms: int) -> None:
        pipe = self._server.pipeline(transaction=False)
        for lease in leases:
            pipe.set(self._holder(lease.run_id, lease.step), f"{lease.token} {worker}", px=ttl_ms)
        pipe.execute()

    @translated
    def step_leases(self, run_id: str, steps: Sequence[int]) -> list[StepLease]:
        pipe = self._server.pipeline(transaction=False)
        for number in steps:
            pipe.hget(RunKeys.of(self._names, run_id).run, f"s:{number}")
            pipe.get(self._holder(run_id, number))
        replies = cast(list[bytes | None], pipe.execute())
        now, found = self._store_now(), []
        for number, stored, holder in zip(steps, replies[::2], replies[1::2], strict=True):
            if stored is None:
                continue
            token, until, attempt, *_ = stored.split()
            of, _, worker = (holder or b"").partition(b" ")
            is_held = token != b"0" and int(until) > now
            name = worker.decode() if is_held and of == token else None
            found.append(StepLease(number, int(attempt), int(until) if is_held else None, name))
        return found

    def _about(self, worker: str) -> str:
        return f"{self._names}worker:{worker}"

    def _holder(self, run_id: str, step: int) -> str:
        return f"{RunKeys.of(self._names, run_id).run}:h:{step}"

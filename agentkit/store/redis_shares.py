"""What is divided between runs, in the store on Redis or Valkey.

The keys of all rates share a cluster slot, and so do those of one owner's quota.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import redis

from agentkit.core.quotas import Admission
from agentkit.core.rates import CallRequest, CallSlot, CallWait, Rate, RateBound, WaitingStep
from agentkit.core.ready import MOST_URGENT, ReadyStep
from agentkit.core.record import StepKind
from agentkit.core.struct import decode, encode
from agentkit.store.clock import StoreClock
from agentkit.store.connection import translated
from agentkit.store.lua import QuotaKeys, RateKeys, Scripts

__all__ = ["RedisShares"]

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


class RedisShares:
    """The part of `RedisStore` that divides what is scarce."""

    _client: redis.Redis
    _scripts: Scripts
    _clock: StoreClock

    def __init__(self, prefix: str) -> None:
        self._shares_prefix = prefix
        self._paused = f"{prefix}{{rates}}:paused"

    @translated
    def take_call(self, request: CallRequest, lease_ms: int, wake_ms: int) -> CallSlot | CallWait:
        reply, delay, rate, bound, *woken = self._scripts.take_call(
            self._rates(request.rates),
            request.id,
            _step_name(request.step),
            request.owner,
            request.tokens,
            lease_ms,
            wake_ms,
        )
        if reply == b"ok":
            return CallSlot(request.id, request.rates, _steps(woken))
        because = cast(RateBound, bound.decode())
        return CallWait(request.rates[int(rate) - 1], because, int(delay), _steps(woken))

    @translated
    def settle_call(self, slot: CallSlot, tokens: int | None, lease_ms: int, wake_ms: int) -> tuple[WaitingStep, ...]:
        used = "" if tokens is None else tokens
        return _steps(self._scripts.settle_call(self._rates(slot.rates), slot.id, used, wake_ms, lease_ms))

    @translated
    def renew_calls(self, slots: Sequence[CallSlot], lease_ms: int) -> None:
        until = self._clock.now() + lease_ms
        pipe = self._client.pipeline(transaction=False)
        for slot in slots:
            for keys in self._rates(slot.rates):
                _, _, shares, *_ = keys.names
                pipe.zadd(shares, {slot.id: until}, xx=True)
        pipe.execute()

    @translated
    def is_woken(self, request: CallRequest) -> bool:
        pipe = self._client.pipeline(transaction=False)
        for keys in self._rates(request.rates):
            *_, woken, _ = keys.names
            pipe.zscore(woken, _step_name(request.step))
        return any(score is not None for score in pipe.execute())

    @translated
    def leave_calls(self, request: CallRequest) -> None:
        self._scripts.leave_calls(self._rates(request.rates), _step_name(request.step))

    @translated
    def pause_model(self, model: str, until: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.zremrangebyscore(self._paused, "-inf", self._clock.now())
        pipe.zadd(self._paused, {model: until}, gt=True)
        pipe.pexpire(self._paused, _DAY_MS)
        pipe.execute()

    @translated
    def paused_models(self) -> Mapping[str, int]:
        found = self._client.zrangebyscore(self._paused, self._clock.now(), "+inf", withscores=True)
        return {model.decode(): int(until) for model, until in cast(list[tuple[bytes, float]], found)}

    @translated
    def admit_run(
        self, owner: str, run_id: str, day: int, active_runs: int | None, cost_per_day: int | None
    ) -> Admission:
        keys = self._quota_keys(owner, day)
        return cast(Admission, self._scripts.admit_run(keys, run_id, active_runs, cost_per_day).decode())

    @translated
    def leave_run(self, owner: str, run_id: str) -> None:
        self._client.zrem(self._quota_keys(owner, 0).active, run_id)

    @translated
    def active_runs(self, owner: str) -> list[tuple[str, int]]:
        active = self._quota_keys(owner, 0).active
        found = self._client.zrangebyscore(active, "-inf", "+inf", withscores=True)
        return [(run_id.decode(), int(since)) for run_id, since in cast(list[tuple[bytes, float]], found)]

    @translated
    def count_cost(self, owner: str, run_id: str, day: int, before: int, after: int) -> None:
        self._scripts.count_cost(self._quota_keys(owner, day), run_id, before, after, 2 * _DAY_MS)

    @translated
    def add_ready(self, queue: str, steps: Sequence[ReadyStep], owner: str, priority: int) -> None:
        names = [_ready_name(step) for step in steps]
        self._scripts.add_ready(self._ready_keys(queue), owner, MOST_URGENT - priority, _HOUR_MS, names)

    @translated
    def take_ready(
        self, queues: Sequence[str], step: ReadyStep | None
    ) -> tuple[ReadyStep, str] | Literal["absent"] | None:
        keys = [self._ready_keys(queue) for queue in queues]
        reply = self._scripts.take_ready(keys, b"" if step is None else _ready_name(step))
        if reply in (b"absent", b"none"):
            return "absent" if reply == b"absent" else None
        number, name = reply
        return ReadyStep(*decode(name, tuple[str, int, StepKind])), queues[int(number) - 1]

    @translated
    def has_ready(self, queues: Sequence[str]) -> bool:
        pipe = self._client.pipeline(transaction=False)
        for queue in queues:
            pipe.exists(self._ready_keys(queue)[-1])
        return any(pipe.execute())

    def _ready_keys(self, queue: str) -> tuple[str, str, str]:
        """Name the keys of a queue's ready set: the set, the places of owners, what was served. All share a slot."""
        name = f"{self._shares_prefix}{{ready}}{queue}"
        return f"{name}:s", f"{name}:f", f"{name}:v"

    def _quota_keys(self, owner: str, day: int) -> QuotaKeys:
        return QuotaKeys.of(self._shares_prefix, owner, day)

    def _rates(self, rates: Sequence[Rate]) -> list[RateKeys]:
        return [RateKeys.of(self._shares_prefix, rate) for rate in rates]


def _step_name(step: WaitingStep) -> bytes:
    return encode((step.run_id, step.number, step.queue))


def _ready_name(step: ReadyStep) -> bytes:
    return encode((step.run_id, step.number, step.kind))


def _steps(names: Sequence[bytes]) -> tuple[WaitingStep, ...]:
    return tuple(WaitingStep(*decode(name, tuple[str, int, str | None])) for name in names)

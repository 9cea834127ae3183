"""What is divided between runs, in the store in memory: the algorithm of scripts/rates.lua and take_call.lua."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from agentkit.core.quotas import Admission
from agentkit.core.rates import CallRequest, CallSlot, CallWait, Rate, RateBound, WaitingStep
from agentkit.core.ready import MOST_URGENT, ReadyStep
from agentkit.store.memory_metrics import MemoryMetrics

__all__ = ["MemoryShares"]

_MOST_WOKEN = 1000


@dataclass
class _Waiting:
    """A step in the queue of a rate. `woken_until`: it is its turn until then (ms)."""

    place: int
    number: int
    tokens: int
    woken_until: int | None = None


@dataclass
class _Counts:
    """What is counted of one rate."""

    slots: dict[str, int] = field(default_factory=dict)
    """Until when each call has its share of those at a time."""
    window: dict[str, tuple[int, int]] = field(default_factory=dict)
    """When each call began, and its tokens."""
    queue: dict[WaitingStep, _Waiting] = field(default_factory=dict)
    fair: dict[str, int] = field(default_factory=dict)
    """The place after the last one of each owner."""
    served: int = 0
    joined: int = 0

    def prune(self, rate: Rate, now: int) -> None:
        """Forget what no longer counts."""
        self.slots = {call: until for call, until in self.slots.items() if until > now}
        self.window = {call: (at, used) for call, (at, used) in self.window.items() if at > now - rate.per_ms}
        over = [step for step, each in self.queue.items() if each.woken_until is not None and each.woken_until <= now]
        for step in over:
            del self.queue[step]

    def join(self, request: CallRequest) -> None:
        if request.step in self.queue:
            return
        if not self.queue:
            self.fair.clear()
        place = max(self.served, self.fair.get(request.owner, 0))
        self.fair[request.owner] = place + 1
        self.joined += 1
        self.queue[request.step] = _Waiting(place, self.joined, request.tokens)

    @property
    def in_order(self) -> list[tuple[WaitingStep, _Waiting]]:
        return sorted(self.queue.items(), key=lambda each: (each[1].place, each[1].number))

    def is_woken(self, step: WaitingStep) -> bool:
        return step in self.queue and self.queue[step].woken_until is not None

    def wake(self, rate: Rate, now: int, wake_ms: int) -> list[WaitingStep]:
        """Wake the steps whose turn has come; returns them."""
        before = [each for each in self.queue.values() if each.woken_until is not None]
        room = _MOST_WOKEN
        if rate.concurrent is not None:
            room = min(room, rate.concurrent - len(self.slots))
        if rate.requests is not None:
            room = min(room, rate.requests - len(self.window))
        room -= len(before)
        used = self.used + sum(each.tokens for each in before)
        woken: list[WaitingStep] = []
        for step, each in self.in_order:
            if each.woken_until is not None:
                continue
            if room <= 0 or (rate.tokens is not None and used > 0 and used + each.tokens > rate.tokens):
                break
            used += each.tokens
            each.woken_until = now + wake_ms
            woken.append(step)
            room -= 1
        return woken

    @property
    def used(self) -> int:
        return sum(tokens for _, tokens in self.window.values())

    def when(self, rate: Rate, request: CallRequest, now: int, lease_ms: int) -> tuple[int, RateBound]:
        """Compute when a step that waits may ask again (ms), and for which bound it waits."""
        place = self.queue[request.step].place
        rank = sum(each.place < place for each in self.queue.values())
        woken = sum(each.woken_until is not None for each in self.queue.values())
        began = sorted(self.window.values())
        if rate.concurrent is not None and len(self.slots) + woken >= rate.concurrent:
            return min(self.slots.values(), default=now + lease_ms) + 100 + 20 * rank, "concurrent"
        if rate.requests is not None and len(began) + woken >= rate.requests:
            rounds, first = divmod(len(began) - rate.requests + rank, rate.requests)
            at = began[first][0] if first < len(began) else now
            return at + rate.per_ms * (1 + max(0, rounds)) + 1, "requests"
        if rate.tokens is not None and began:
            left = self.used + request.tokens - rate.tokens
            freed = accumulate(tokens for _, tokens in began)
            at = next((at for (at, _), sum_ in zip(began, freed, strict=True) if sum_ >= left), began[-1][0])
            return at + rate.per_ms + 1 + 20 * rank, "tokens"
        bound: RateBound = "tokens" if rate.tokens else "requests" if rate.requests else "concurrent"
        return now + 1000, bound


@dataclass
class _Ready:
    """The ready set of a queue: each step's class (0 is the most urgent), its place in that, and its number."""

    steps: dict[ReadyStep, tuple[int, int, int]] = field(default_factory=dict)
    fair: dict[tuple[int, str], int] = field(default_factory=dict)
    """The place after the last one of each owner."""
    served: dict[int, int] = field(default_factory=dict)
    added: int = 0

    def add(self, steps: Sequence[ReadyStep], owner: str, urgency: int) -> None:
        if not self.steps:
            self.fair.clear()
        for step in steps:
            if step not in self.steps:
                place = max(self.served.get(urgency, 0), self.fair.get((urgency, owner), 0))
                self.fair[urgency, owner] = place + 1
                self.added += 1
                self.steps[step] = urgency, place, self.added

    @property
    def first(self) -> tuple[int, int, int]:
        return min(self.steps.values())

    def take(self) -> ReadyStep:
        step = min(self.steps, key=self.steps.__getitem__)
        urgency, place, _ = self.steps.pop(step)
        self.served[urgency] = place
        self.fair = {key: after for key, after in self.fair.items() if key[0] != urgency or after > place}
        return step


class MemoryShares(MemoryMetrics):
    """The part of `MemoryStore` that divides what is scarce."""

    def __init__(self, retention_seconds: int, clock: Callable[[], int]) -> None:
        super().__init__(retention_seconds, clock)
        self._rates: dict[str, _Counts] = {}
        self._paused: dict[str, int] = {}
        self._ready: dict[str, _Ready] = {}
        self._active: dict[str, dict[str, int]] = {}
        self._costs: dict[tuple[str, int], dict[str, tuple[int, int]]] = {}
        """By owner and day: the least and the greatest total of each run."""

    def take_call(self, request: CallRequest, lease_ms: int, wake_ms: int) -> CallSlot | CallWait:
        with self.changed:
            now, counts = self.now(), self._of_rates(request.rates)
            for rate, count in counts:
                count.prune(rate, now)
                if request.id in count.slots or request.id in count.window:
                    return CallSlot(request.id, request.rates)
            woken: dict[WaitingStep, None] = {}
            for rate, count in counts:
                count.join(request)
                woken.update(dict.fromkeys(count.wake(rate, now, wake_ms)))
            waits_for = [(rate, count) for rate, count in counts if not count.is_woken(request.step)]
            if not waits_for:
                for rate, count in counts:
                    _take(rate, count, request, now, lease_ms)
                woken.pop(request.step, None)
                return CallSlot(request.id, request.rates, tuple(woken))
            for rate, count in counts:
                if count.is_woken(request.step):  # it must not keep from others what it cannot use yet
                    del count.queue[request.step]
                    woken.update(dict.fromkeys(count.wake(rate, now, wake_ms)))
            woken.pop(request.step, None)
            times = [(*count.when(rate, request, now, lease_ms), rate) for rate, count in waits_for]
            at, bound, rate = max(times, key=lambda each: each[0])
            return CallWait(rate, bound, max(50, at - now), tuple(woken))

    def settle_call(self, slot: CallSlot, tokens: int | None, lease_ms: int, wake_ms: int) -> tuple[WaitingStep, ...]:
        with self.changed:
            now, woken = self.now(), dict[WaitingStep, None]()
            for rate, count in self._of_rates(slot.rates):
                count.slots.pop(slot.id, None)
                if slot.id in count.window and tokens is not None:
                    count.window[slot.id] = (count.window[slot.id][0], tokens)
                count.prune(rate, now)
                woken.update(dict.fromkeys(count.wake(rate, now, wake_ms)))
            return tuple(woken)

    def renew_calls(self, slots: Sequence[CallSlot], lease_ms: int) -> None:
        with self.changed:
            for slot in slots:
                for _, count in self._of_rates(slot.rates):
                    if slot.id in count.slots:
                        count.slots[slot.id] = self.now() + lease_ms

    def is_woken(self, request: CallRequest) -> bool:
        with self.changed:
            return any(count.is_woken(request.step) for _, count in self._of_rates(request.rates))

    def leave_calls(self, request: CallRequest) -> None:
        with self.changed:
            for _, count in self._of_rates(request.rates):
                count.queue.pop(request.step, None)

    def pause_model(self, model: str, until: int) -> None:
        with self.changed:
            self._paused[model] = max(until, self._paused.get(model, 0))

    def paused_models(self) -> Mapping[str, int]:
        with self.changed:
            self._paused = {model: until for model, until in self._paused.items() if until > self.now()}
            return dict(self._paused)

    def admit_run(
        self, owner: str, run_id: str, day: int, active_runs: int | None, cost_per_day: int | None
    ) -> Admission:
        with self.changed:
            active = self._active.setdefault(owner, {})
            if run_id in active:
                return "admitted"
            if active_runs is not None and len(active) >= active_runs:
                return "active_runs"
            totals = self._costs.get((owner, day), {}).values()
            if cost_per_day is not None and sum(high - low for low, high in totals) >= cost_per_day:
                return "cost_per_day"
            active[run_id] = self.now()
            return "admitted"

    def leave_run(self, owner: str, run_id: str) -> None:
        with self.changed:
            self._active.get(owner, {}).pop(run_id, None)

    def active_runs(self, owner: str) -> list[tuple[str, int]]:
        with self.changed:
            return list(self._active.get(owner, {}).items())

    def count_cost(self, owner: str, run_id: str, day: int, before: int, after: int) -> None:
        with self.changed:
            totals = self._costs.setdefault((owner, day), {})
            low, high = totals.get(run_id, (before, after))
            totals[run_id] = min(low, before), max(high, after)
            self._costs = {key: costs for key, costs in self._costs.items() if key[1] >= day - 1}

    def add_ready(self, queue: str, steps: Sequence[ReadyStep], owner: str, priority: int) -> None:
        with self.changed:
            self._ready.setdefault(queue, _Ready()).add(steps, owner, MOST_URGENT - priority)

    def take_ready(
        self, queues: Sequence[str], step: ReadyStep | None
    ) -> tuple[ReadyStep, str] | Literal["absent"] | None:
        with self.changed:
            if step is not None and (queues[0] not in self._ready or step not in self._ready[queues[0]].steps):
                return "absent"
            found = [
                (ready.first[0], number, queue)
                for number, queue in enumerate(queues)
                if (ready := self._ready.get(queue)) is not None and ready.steps
            ]
            if not found:
                return None
            _, _, queue = min(found)
            return self._ready[queue].take(), queue

    def has_ready(self, queues: Sequence[str]) -> bool:
        with self.changed:
            return any(queue in self._ready for queue in queues)

    def _of_rates(self, rates: Sequence[Rate]) -> list[tuple[Rate, _Counts]]:
        return [(rate, self._rates.setdefault(rate.name, _Counts())) for rate in rates]


def _take(rate: Rate, count: _Counts, request: CallRequest, now: int, lease_ms: int) -> None:
    count.served = count.queue.pop(request.step).place
    count.fair = {owner: place for owner, place in count.fair.items() if place > count.served}
    if rate.concurrent is not None:
        count.slots[request.id] = now + lease_ms
    if rate.requests is not None or rate.tokens is not None:
        count.window[request.id] = (now, request.tokens if rate.tokens is not None else 0)

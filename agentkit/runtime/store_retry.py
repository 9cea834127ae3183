"""How the steps of a process outlast a store that is away.

What a step has done may have cost money or had effects: it is not thrown away because the store restarts or
fails over. While the store is away nobody else can take the step, and a call that is made again with the same
`request_id` answers as the first time. So the step waits, and goes on or learns that its lease is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeVar

from agentkit.codec import Codec
from agentkit.core.audit import AnswerEntry, Chain, ChainedAnswer
from agentkit.core.backoff import Backoff
from agentkit.core.calls import Call
from agentkit.core.events import Event, PendingItem
from agentkit.core.ids import random_id
from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.messages import Json, ToolResultMessage
from agentkit.core.outbox import OutboxEntry
from agentkit.core.quotas import Admission
from agentkit.core.rates import CallRequest, CallSlot, CallWait, WaitingStep
from agentkit.core.ready import ReadyStep
from agentkit.core.record import AbortRequest, Change, Lease, Receipt, RunState, StatusList
from agentkit.core.workers import Worker
from agentkit.errors import StoreError, StoreUnavailableError, UnreadableRunError
from agentkit.store.protocol import (
    Append,
    Appended,
    Claim,
    Commit,
    Conflict,
    DueRun,
    EventPage,
    Health,
    LastCall,
    LeaseStatus,
    NextClaim,
    Push,
    StepLease,
    Store,
    StoredResolution,
    StoredThread,
    Subscription,
    Totals,
)

__all__ = ["RetryingStore", "StoreRetry"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_BACKOFF = Backoff(base=0.1, cap=1.0)


class StoreRetry:
    """Repeats what an outage of the store has kept from being done, for `seconds` at most.

    `stopping`: whether the process is to stop, which leaves it `stopping_seconds` only.
    """

    def __init__(
        self, stopping: Callable[[], bool] = lambda: False, seconds: float = 600.0, stopping_seconds: float = 5.0
    ) -> None:
        self._stopping = stopping
        self._seconds = seconds
        self._stopping_seconds = stopping_seconds

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` does. Raises its StoreUnavailableError at the end, and every other error at once."""
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                return function()
            except StoreUnavailableError as error:
                if attempt == 1:
                    log.warning("a step waits for the store, and tries again: %s", error)
                if time.monotonic() - began > (self._stopping_seconds if self._stopping() else self._seconds):
                    raise
                threading.Event().wait(_BACKOFF.delay(attempt))


class RetryingStore:
    """A store each of whose methods is repeated as `retry` has it; see `agentkit.store.protocol.Store`."""

    def __init__(self, store: Store, retry: StoreRetry) -> None:
        self._store = store
        self._retry = retry

    def create(self, change: Change, pushes: Sequence[Push] = (), *, request_id: str = "") -> bool:
        request_id = request_id or random_id()
        return self._retry.call(lambda: self._store.create(change, pushes, request_id=request_id))

    def load(self, run_id: str, *, call: int | None = None, decision_id: str | None = None) -> RunState:
        return self._retry.call(lambda: self._store.load(run_id, call=call, decision_id=decision_id))

    def messages(self, run_id: str) -> tuple[RunState, list[Json]]:
        return self._retry.call(lambda: self._store.messages(run_id))

    def messages_from(self, run_id: str, first: int, size: int) -> list[bytes]:
        return self._retry.call(lambda: self._store.messages_from(run_id, first, size))

    def claim(self, run_id: str, step: int, lease_ms: int, *, request_id: str = "") -> Claim | None:
        request_id = request_id or random_id()
        return self._retry.call(lambda: self._store.claim(run_id, step, lease_ms, request_id=request_id))

    def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
        return self._retry.call(lambda: self._store.append(appends))

    def commit(
        self,
        change: Change,
        version: int,
        lease: Lease | None = None,
        pushes: Sequence[Push] = (),
        *,
        next_claim: NextClaim | None = None,
        request_id: str = "",
    ) -> Commit | Conflict:
        request_id = request_id or random_id()
        return self._retry.call(
            lambda: self._store.commit(change, version, lease, pushes, next_claim=next_claim, request_id=request_id)
        )

    def commit_call(
        self,
        lease: Lease,
        call: int,
        outcome: ToolResultMessage | Call,
        events: Sequence[Event] = (),
        *,
        last: LastCall | None = None,
        request_id: str = "",
    ) -> Commit | Conflict:
        request_id = request_id or random_id()
        return self._retry.call(
            lambda: self._store.commit_call(lease, call, outcome, events, last=last, request_id=request_id)
        )

    def request_abort(self, run_id: str, request: AbortRequest, version: int) -> bool:
        return self._retry.call(lambda: self._store.request_abort(run_id, request, version))

    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[LeaseStatus]:
        return self._retry.call(lambda: self._store.renew(leases, lease_ms))

    def release(self, lease: Lease, *, untouched: bool = False, failed: bool = False, until: int | None = None) -> None:
        self._retry.call(lambda: self._store.release(lease, untouched=untouched, failed=failed, until=until))

    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        return self._retry.call(
            lambda: self._store.resolution(run_id, decision_id=decision_id, tool_call_id=tool_call_id)
        )

    def resolutions(self, run_id: str) -> list[StoredResolution]:
        return self._retry.call(lambda: self._store.resolutions(run_id))

    def shown_items(self, answers: Sequence[tuple[str, str]]) -> list[PendingItem | None]:
        return self._retry.call(lambda: self._store.shown_items(answers))

    def receipt(self, run_id: str, name: str) -> Receipt | None:
        return self._retry.call(lambda: self._store.receipt(run_id, name))

    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        return self._retry.call(lambda: self._store.events(run_id, after, limit, size=size))

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        return self._store.subscribe(run_id, stops_only=stops_only)

    def delete(self, run_id: str) -> None:
        self._retry.call(lambda: self._store.delete(run_id))

    def forbid(self, run_id: str) -> bool:
        return self._retry.call(lambda: self._store.forbid(run_id))

    def was_deleted(self, run_id: str) -> bool:
        return self._retry.call(lambda: self._store.was_deleted(run_id))

    def outbox(self, run_id: str) -> list[OutboxEntry]:
        return self._retry.call(lambda: self._store.outbox(run_id))

    def take_entry(self, run_id: str, entry_id: str, hold_ms: int) -> OutboxEntry | None:
        return self._retry.call(lambda: self._store.take_entry(run_id, entry_id, hold_ms))

    def postpone_entry(self, run_id: str, entry: OutboxEntry, at: int) -> bool:
        return self._retry.call(lambda: self._store.postpone_entry(run_id, entry, at))

    def remove_entries(self, run_id: str, entry_ids: Sequence[str]) -> None:
        self._retry.call(lambda: self._store.remove_entries(run_id, entry_ids))

    def now(self) -> int:
        return self._retry.call(self._store.now)

    def schedule(self, run_id: str, at: int) -> None:
        self._retry.call(lambda: self._store.schedule(run_id, at))

    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        return self._retry.call(lambda: self._store.due(limit, hold_ms))

    def reschedule(self, run: DueRun, at: int | None) -> None:
        self._retry.call(lambda: self._store.reschedule(run, at))

    def refuse(self, recipient: str) -> None:
        self._retry.call(lambda: self._store.refuse(recipient))

    def is_refused(self, recipient: str) -> bool:
        return self._retry.call(lambda: self._store.is_refused(recipient))

    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        return self._retry.call(lambda: self._store.remember(key, digest, run_id))

    def remembered(self, key: str) -> tuple[str, str] | None:
        return self._retry.call(lambda: self._store.remembered(key))

    def thread(self, name: str, messages: Sequence[str] = ()) -> StoredThread | None:
        return self._retry.call(lambda: self._store.thread(name, messages))

    def extend_thread(self, name: str, run_id: str, after: str | None, messages: Mapping[str, str]) -> bool:
        return self._retry.call(lambda: self._store.extend_thread(name, run_id, after, messages))

    def index(
        self,
        run_id: str,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> None:
        self._retry.call(lambda: self._store.index(run_id, owner, agent=agent, status=status))

    def unindex(self, run_id: str, statuses: Collection[StatusList], owner: str | None = None) -> None:
        self._retry.call(lambda: self._store.unindex(run_id, statuses, owner))

    def unlist(self, run_id: str) -> None:
        self._retry.call(lambda: self._store.unlist(run_id))

    def listing(
        self,
        before: str | None,
        limit: int,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> list[str]:
        return self._retry.call(lambda: self._store.listing(before, limit, owner, agent=agent, status=status))

    def has_lists(self) -> bool:
        return self._retry.call(self._store.has_lists)

    def set_has_lists(self) -> None:
        self._retry.call(self._store.set_has_lists)

    def list_items(self, items: Sequence[ListedItem]) -> None:
        self._retry.call(lambda: self._store.list_items(items))

    def unlist_items(self, items: Sequence[ListedItem]) -> None:
        self._retry.call(lambda: self._store.unlist_items(items))

    def items(self, after: str | None, limit: int, wanted: ItemFilter) -> list[ListedItem]:
        return self._retry.call(lambda: self._store.items(after, limit, wanted))

    def count_items(self, *wanted: ItemFilter) -> list[int]:
        return self._retry.call(lambda: self._store.count_items(*wanted))

    def items_of(self, run_id: str) -> list[ListedItem]:
        return self._retry.call(lambda: self._store.items_of(run_id))

    def has_items(self) -> bool:
        return self._retry.call(self._store.has_items)

    def set_has_items(self) -> None:
        self._retry.call(self._store.set_has_items)

    def record_answer(self, entry: AnswerEntry) -> None:
        self._retry.call(lambda: self._store.record_answer(entry))

    def answers(self, before: int | None, limit: int, wanted: ItemFilter) -> list[ChainedAnswer]:
        return self._retry.call(lambda: self._store.answers(before, limit, wanted))

    def chain(self) -> Chain:
        return self._retry.call(self._store.chain)

    def chain_lines(self, after: int, limit: int) -> list[str]:
        return self._retry.call(lambda: self._store.chain_lines(after, limit))

    def trim_answers(self, before: int, limit: int) -> int:
        return self._retry.call(lambda: self._store.trim_answers(before, limit))

    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnreadableRunError | None]:
        return self._retry.call(lambda: self._store.loads(run_ids))

    def take_call(self, request: CallRequest, lease_ms: int, wake_ms: int) -> CallSlot | CallWait:
        return self._retry.call(lambda: self._store.take_call(request, lease_ms, wake_ms))

    def settle_call(self, slot: CallSlot, tokens: int | None, lease_ms: int, wake_ms: int) -> tuple[WaitingStep, ...]:
        return self._retry.call(lambda: self._store.settle_call(slot, tokens, lease_ms, wake_ms))

    def renew_calls(self, slots: Sequence[CallSlot], lease_ms: int) -> None:
        self._retry.call(lambda: self._store.renew_calls(slots, lease_ms))

    def is_woken(self, request: CallRequest) -> bool:
        return self._retry.call(lambda: self._store.is_woken(request))

    def leave_calls(self, request: CallRequest) -> None:
        self._retry.call(lambda: self._store.leave_calls(request))

    def pause_model(self, model: str, until: int) -> None:
        self._retry.call(lambda: self._store.pause_model(model, until))

    def paused_models(self) -> Mapping[str, int]:
        return self._retry.call(self._store.paused_models)

    def admit_run(
        self, owner: str, run_id: str, day: int, active_runs: int | None, cost_per_day: int | None
    ) -> Admission:
        return self._retry.call(lambda: self._store.admit_run(owner, run_id, day, active_runs, cost_per_day))

    def leave_run(self, owner: str, run_id: str) -> None:
        self._retry.call(lambda: self._store.leave_run(owner, run_id))

    def active_runs(self, owner: str) -> list[tuple[str, int]]:
        return self._retry.call(lambda: self._store.active_runs(owner))

    def count_cost(self, owner: str, run_id: str, day: int, before: int, after: int) -> None:
        self._retry.call(lambda: self._store.count_cost(owner, run_id, day, before, after))

    def add_ready(self, queue: str, steps: Sequence[ReadyStep], owner: str, priority: int) -> None:
        self._retry.call(lambda: self._store.add_ready(queue, steps, owner, priority))

    def take_ready(
        self, queues: Sequence[str], step: ReadyStep | None
    ) -> tuple[ReadyStep, str] | Literal["absent"] | None:
        return self._retry.call(lambda: self._store.take_ready(queues, step))

    def has_ready(self, queues: Sequence[str]) -> bool:
        return self._retry.call(lambda: self._store.has_ready(queues))

    def use_codec(self, codec: Codec) -> None:
        self._store.use_codec(codec)

    def heartbeat(self, worker: str, ttl_ms: int, about: Worker | None = None) -> None:
        self._retry.call(lambda: self._store.heartbeat(worker, ttl_ms, about))

    def workers(self) -> list[str]:
        return self._retry.call(self._store.workers)

    def about_workers(self) -> list[Worker]:
        return self._retry.call(self._store.about_workers)

    def note_holders(self, leases: Sequence[Lease], worker: str, ttl_ms: int) -> None:
        self._retry.call(lambda: self._store.note_holders(leases, worker, ttl_ms))

    def step_leases(self, run_id: str, steps: Sequence[int]) -> list[StepLease]:
        return self._retry.call(lambda: self._store.step_leases(run_id, steps))

    def next_check(self, run_id: str | None = None) -> int | None:
        return self._retry.call(lambda: self._store.next_check(run_id))

    def unscheduled(self, run_ids: Sequence[str]) -> list[str]:
        return self._retry.call(lambda: self._store.unscheduled(run_ids))

    def mark_served(self, queue: str, ttl_ms: int) -> None:
        self._retry.call(lambda: self._store.mark_served(queue, ttl_ms))

    def served(self, queues: Sequence[str]) -> list[str]:
        return self._retry.call(lambda: self._store.served(queues))

    def begin_probe(self, queue: str, ttl_ms: int) -> bool:
        return self._retry.call(lambda: self._store.begin_probe(queue, ttl_ms))

    def backlog(self) -> tuple[int, int]:
        return self._retry.call(self._store.backlog)

    def count_ended(self) -> int:
        return self._retry.call(self._store.count_ended)

    def report(
        self, process: str, number: int, counts: Mapping[str, float], levels: Mapping[str, float], ttl_ms: int
    ) -> None:
        self._retry.call(lambda: self._store.report(process, number, counts, levels, ttl_ms))

    def totals(self) -> Totals:
        return self._retry.call(self._store.totals)

    def check(self) -> Health:
        return self._retry.call(self._store.check)

    def close(self) -> None:
        self._store.close()

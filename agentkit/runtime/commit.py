"""Makes changes true: the one way in which a run is made and changed.

`Committer.update` loads a run, has a transition compute a change, commits it, and does so again from the newer state
where another commit came between. Around each commit it keeps the due index right and sends the messages of the steps
that became due. What follows for other runs (a parent, sub-agents) comes after the change is true and may be lost with
the process: recovery makes up for it. What a change causes outside of runs is written with it (`Outbox`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

from agentkit.agents import BoundAgent
from agentkit.core.calls import Call
from agentkit.core.events import Event
from agentkit.core.inbox import ListedItem, listed_items, own_items
from agentkit.core.message_list import MessageList
from agentkit.core.messages import ToolResultMessage
from agentkit.core.ready import ReadyStep
from agentkit.core.record import (
    SCHEMA_VERSION,
    Change,
    Lease,
    RunRecord,
    RunState,
    Step,
    WholeRecordNeededError,
)
from agentkit.errors import AgentKitError, LeaseLostError, RunNotFoundError, StoreUnavailableError
from agentkit.loop import next_reminder
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.outbox import Outbox
from agentkit.runtime.ready import ReadySteps
from agentkit.runtime.reports import Observers
from agentkit.runtime.store_retry import RetryingStore, StoreRetry
from agentkit.runtime.taps import Taps
from agentkit.runtime.turn_taking import TurnTaking
from agentkit.store.protocol import Commit, Conflict, LastCall, NextClaim, Push, Store

__all__ = ["Agents", "Committer", "Follow", "Transition"]

log = logging.getLogger(__name__)

Transition = Callable[[RunState], Change | None]
"""Computes a change from a run's state; None where there is nothing to change. It may be called more than once."""


class Agents(Protocol):
    def bind(self, name: str, model: str | None = None) -> BoundAgent:
        """Find the agent of this name with its provider; raises AgentNotFoundError."""
        ...

    def queue_of(self, agent: str, tool: str | None) -> str | None:
        """Return the queue that an agent's tool names, or else the agent; None where neither does, or is known."""
        ...

    def priority_of(self, agent: str) -> int | None:
        """Return the priority of an agent; None where no agent has one."""
        ...


def _next_expiry(record: RunRecord) -> int | None:
    items = (call.item for call in record.calls if call.state == "pending" and call.item)
    return min((item.expires_at for item in items if item.expires_at is not None), default=None)


def _due(change: Change) -> list[Step]:
    """List the opened steps that may be claimed at once; the due index has the others."""
    return [step for step in change.opened if step.at is None]


def _index(store: Store, record: RunRecord) -> None:
    store.index(record.id, record.owner, agent=record.agent, status=record.status_list)


def _item_changes(change: Change) -> tuple[list[ListedItem], list[ListedItem]]:
    """List the run's items that a change makes pending, and those that it makes pending no more."""
    before = {} if change.before is None else own_items(change.before)
    after = own_items(change.record)
    new = [item for decision_id, item in after.items() if decision_id not in before]
    gone = [item for decision_id, item in before.items() if decision_id not in after]
    return listed_items(change.record, new), listed_items(change.record, gone)


@dataclass(frozen=True, slots=True)
class Follow:
    """Where the worker that commits a step would execute the next one itself.

    `allows`: whether it would now, a step of the queue of that name. `lease_ms`: of the claim. `messages`: the run's
    first messages, as far as the worker has them.
    """

    allows: Callable[[str], bool]
    lease_ms: int
    messages: MessageList


class Committer:
    """A store, the queue of its workers, and the agents that this process knows. One per process.

    `lease_seconds`: the lease time of steps. `retry`: how a step outlasts an outage of the store; a change from outside
    a step fails at once. `consequences` is called with each change that has become true; `observers` are told of it,
    and `taps` of events. `outbox`: what changes cause outside of runs. `remind_ms`: how long before an item expires
    somebody is to be reminded of it; None for nobody.
    """

    def __init__(
        self, store: Store, queue: StepQueue, agents: Agents, lease_seconds: float, retry: StoreRetry | None = None
    ) -> None:
        self.store = store
        self.step_store: Store = RetryingStore(store, retry or StoreRetry())
        self.queue = queue
        self.agents = agents
        self.consequences: Callable[[Change], None] = lambda change: None
        self.observers = Observers()
        self.taps = Taps(store, ())
        self.outbox = Outbox(store, lease_seconds)
        self.remind_ms: Callable[[], int | None] = lambda: None
        self.ready = ReadySteps(store, queue)
        self._soon_ms = round(lease_seconds * 500)
        self._turns = TurnTaking()

    def now(self) -> int:
        """Read the store's clock (ms), by which all times of runs go."""
        return self.store.now()

    def create(self, change: Change, *, in_step: bool = False) -> bool:
        """Make the run of `change` and enqueue its first step; False if one of its id is there or was deleted."""
        store = self.step_store if in_step else self.store
        run_id = change.record.id
        change = self.outbox.fill(change)
        began = time.monotonic()
        store.schedule(run_id, store.now() + self._soon_ms)
        _index(store, change.record)
        due = _due(change)
        pushes = self._pushes(change.record, due)
        made = store.create(change, pushes)
        if self._is_late(began):
            store.schedule(run_id, store.now() + self._soon_ms)
            _index(store, change.record)
        if made:
            self._send(change.record, due, pushed=bool(pushes))
        if made and change.outbox:
            self.outbox.carry_out(run_id, change.outbox)
        if made:
            self.observers.changed(change, in_step=in_step)
            self.taps.written(change.record, 0)
        return made

    def update(
        self,
        run_id: str,
        transition: Transition,
        *,
        lease: Lease | None = None,
        state: RunState | None = None,
        call: int | None = None,
        decision_id: str | None = None,
        follow: Follow | None = None,
    ) -> Commit | None:
        """Change a run as `transition` has it; None where that has nothing to change.

        `lease`: of the step whose outcome this is, which waits for a store that is away. `state`: the run as the caller
        has just read it. `call`, `decision_id`: the call of the open turn that is changed, or the item that is pending
        for it: the others are read only if the change has consequences for them. `follow`: where the caller would
        execute one of the steps that become due; the commit has its claim then. What the transition raises is passed
        on, and changes nothing. Raises RunNotFoundError, and LeaseLostError where the step is no longer the caller's.
        """
        concerns_one = call is not None or decision_id is not None  # many of which may come at once
        with self._turns.turn(run_id) if concerns_one else nullcontext():
            done = self._change(run_id, transition, lease, state, call, decision_id, follow)
        if done is None:
            return None
        change, commit = done
        self._tell(change, commit, in_step=lease is not None)
        return commit

    def end_call(
        self,
        lease: Lease,
        call: int,
        outcome: ToolResultMessage | Call,
        events: Sequence[Event],
        *,
        state: RunState,
        follows: Change | None = None,
        follow: Follow | None = None,
    ) -> Commit | Conflict:
        """Give call number `call` of the open turn its outcome, and close its step, beside others that are open.

        `state`: what was read with that call alone. `follows`: what becomes of that if the call is the last of its turn
        to end, a turn more; None where this is not said. `follow`: where the caller would execute its step. A conflict
        has the whole state, from which `update` goes on.
        """
        if follows is None:
            done = self.step_store.commit_call(lease, call, outcome, events)
        else:
            follows = self.outbox.fill(follows)
            next_claim, due, pushes = self._due_messages(follows, state, follow)
            last = LastCall(follows, state.version, pushes, next_claim)
            done = self.step_store.commit_call(lease, call, outcome, events, last=last)
            if isinstance(done, Commit) and done.was_last:
                self._committed(follows, done, next_claim, due, pushed=bool(pushes))
                self._tell(follows, done, in_step=True)
                return done
        if isinstance(done, Commit):
            self.taps.written(state.record, done.first_seq - 1, done.last_seq)
        return done

    def _tell(self, change: Change, commit: Commit, *, in_step: bool) -> None:
        """Tell all who are to know of a change that has become true."""
        self.observers.changed(change, in_step=in_step)
        last = commit if commit.claim is None else commit.claim.state  # a claim appends events, too
        self.taps.written(change.record, commit.first_seq - 1, last.last_seq)
        self.consequences(change)

    def _change(
        self,
        run_id: str,
        transition: Transition,
        lease: Lease | None,
        state: RunState | None,
        call: int | None,
        decision_id: str | None,
        follow: Follow | None,
    ) -> tuple[Change, Commit] | None:
        store = self.step_store if lease else self.store
        while True:
            if state is None:
                state = store.load(run_id, call=call, decision_id=decision_id)
            try:
                change = transition(state)
            except WholeRecordNeededError:
                state, call, decision_id = None, None, None
                continue
            if change is None:
                return None
            outcome = self._commit(store, change, state, lease, follow)
            if isinstance(outcome, Commit):
                return change, outcome
            state = outcome.state

    def _commit(
        self, store: Store, change: Change, state: RunState, lease: Lease | None, follow: Follow | None
    ) -> Commit | Conflict:
        change = self.outbox.fill(change)
        record = change.record
        began = time.monotonic()
        checks = self.item_checks(record)
        checks += [step.at for step in change.opened if step.at is not None]
        if (change.opened or record.terminal or change.outbox) and lease is None:
            checks.append(store.now() + self._soon_ms)  # the run may not be in the index, or stand there for much later
        if checks:
            store.schedule(record.id, min(checks))
        before = change.before
        if before is None or before.status_list != record.status_list or before.schema_version < SCHEMA_VERSION:
            _index(store, record)  # of schemaVersion 1: made by a version that kept no lists
        for child in change.orphans:
            store.schedule(child, store.now() + self._soon_ms)  # should this process not come to abort it
        new_items, gone_items = _item_changes(change)
        if new_items:
            store.list_items(new_items)
        next_claim, due, pushes = self._due_messages(change, state, follow)
        try:
            outcome = store.commit(change, state.version, lease, pushes, next_claim=next_claim)
        except RunNotFoundError:
            store.unlist(record.id)  # it was deleted since it was read: what was just written of it must not stay
            raise
        except LeaseLostError:
            self._unlist_items(new_items)
            raise
        if isinstance(outcome, Conflict):
            self._unlist_items(new_items)  # computed again, they have other ids
            return outcome
        self._unlist_items(gone_items)
        if self._is_late(began):
            if checks:
                store.schedule(record.id, min(checks))
            if new_items:
                store.list_items(new_items)
        self._committed(change, outcome, next_claim, due, pushed=bool(pushes))
        return outcome

    def _due_messages(
        self, change: Change, state: RunState, follow: Follow | None
    ) -> tuple[NextClaim | None, list[Step], list[Push]]:
        """Say which step the committer is to claim, which others become due, and what the store pushes for these."""
        next_claim = None if follow is None else self._next_claim(change, state, follow)
        due = [step for step in _due(change) if next_claim is None or step is not next_claim.step]
        return next_claim, due, self._pushes(change.record, due)

    def _committed(
        self, change: Change, commit: Commit, next_claim: NextClaim | None, due: Sequence[Step], *, pushed: bool
    ) -> None:
        """Do what is left once a change is true: the messages that were not pushed, and what it causes outside."""
        record = change.record
        self._send(record, due, pushed=pushed)
        if next_claim is not None and commit.claim is None:  # it was lost again before a repeated commit was answered
            self._send(record, [next_claim.step])
        if change.outbox:
            self.outbox.carry_out(record.id, change.outbox)

    def _next_claim(self, change: Change, state: RunState, follow: Follow) -> NextClaim | None:
        """Ask for the first step that becomes due and that the committer may execute; None where none does."""
        record = change.record
        if record.others is None:
            for step in _due(change):
                if follow.allows(self.queue.name(step.kind, self.queue_of(record, step))):
                    return NextClaim(step, follow.lease_ms, state, follow.messages)
        return None

    def item_checks(self, record: RunRecord) -> list[int]:
        """List when something is next to happen by itself with a run's own pending items (ms)."""
        expiry, before = _next_expiry(record), self.remind_ms()
        if expiry is None:
            return []
        reminder = None if before is None else next_reminder(record, before)
        return [expiry] if reminder is None else [expiry, reminder]

    def _unlist_items(self, items: list[ListedItem]) -> None:
        """Take items out of the inbox. The run is as it is, whatever becomes of this: recovery makes up for it."""
        if not items:
            return
        try:
            self.store.unlist_items(items)
        except StoreUnavailableError as error:
            log.info("run %s: items stay in the inbox until its next check: %s", items[0].run_id, error)

    def enqueue(self, record: RunRecord, number: int) -> None:
        """Have a worker execute an open step of a run."""
        step = record.step(number)
        if step is not None:
            self._send(record, [step])

    def queue_of(self, record: RunRecord, step: Step) -> str | None:
        """Return the queue that the agent or the tool of a step names; None where they name none."""
        return self.agents.queue_of(record.agent, None if step.call is None else record.call(step.call).name)

    def bind(self, record: RunRecord) -> BoundAgent | None:
        """Find the agent of a run with its model; None where this process does not know it."""
        try:
            return self.agents.bind(record.agent, record.model)
        except AgentKitError:
            return None

    def _is_late(self, began: float) -> bool:
        """Whether recovery may have met the entry of the due index before the change that it is for, and dropped it.

        So it is where this process was stopped between the two, or the store was away.
        """
        return (time.monotonic() - began) * 1000 >= self._soon_ms / 2

    def _send(self, record: RunRecord, due: Sequence[Step], *, pushed: bool = False) -> None:
        """Have due steps take turns, and send their messages, unless the commit has pushed them."""
        self._take_turns(record, due)
        for step in () if pushed else due:
            self.queue.enqueue(record.id, step.number, step.kind, self.queue_of(record, step))

    def _take_turns(self, record: RunRecord, steps: Sequence[Step]) -> None:
        """Put due steps into the ready sets of their queues, where the run has an owner, or agents have priorities."""
        priority = self.agents.priority_of(record.agent)
        if record.owner is None and priority is None:
            return
        by_queue: dict[str, list[ReadyStep]] = {}
        for step in steps:
            name = self.queue.name(step.kind, self.queue_of(record, step))
            by_queue.setdefault(name, []).append(ReadyStep(record.id, step.number, step.kind))
        for name, ready in by_queue.items():
            self.ready.add(name, ready, record.owner, priority or 0)

    def _pushes(self, record: RunRecord, due: Sequence[Step]) -> list[Push]:
        """The messages of due steps for the store to push, where it can."""
        pushes = [self.queue.push(record.id, step.number, step.kind, self.queue_of(record, step)) for step in due]
        return [push for push in pushes if push is not None]

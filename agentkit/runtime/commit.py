"""Makes changes true: the one way in which a run is made and changed.

`Committer.update` loads a run, has a transition compute a change, commits it, and does so again from the newer state
where another commit came between. Around each commit it keeps the due index right and sends the messages of the steps
that became due. What follows for other runs (a parent, sub-agents) comes after the change is true and may be lost with
the process: recovery makes up for it. What a change causes outside of runs is written with it (`Outbox`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

from agentkit.agents import BoundAgent
from agentkit.core.inbox import ListedItem, listed_items, own_items
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
from agentkit.runtime.store_retry import RetryingStore, StoreRetry
from agentkit.runtime.turn_taking import TurnTaking
from agentkit.store.protocol import Commit, Conflict, Push, Store

__all__ = ["Agents", "Committer", "Transition"]

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


class Committer:
    """A store, the queue of its workers, and the agents that this process knows. One per process.

    `lease_seconds`: the lease time of steps. `retry`: how a step outlasts an outage of the store; a change from outside
    a step fails at once. `consequences` is called with each change that has become true. `outbox`: what changes cause
    outside of runs. `remind_ms`: how long before an item expires somebody is to be reminded of it; None for nobody.
    """

    def __init__(
        self, store: Store, queue: StepQueue, agents: Agents, lease_seconds: float, retry: StoreRetry | None = None
    ) -> None:
        self.store = store
        self.step_store: Store = RetryingStore(store, retry or StoreRetry())
        self.queue = queue
        self.agents = agents
        self.consequences: Callable[[Change], None] = lambda change: None
        self.outbox = Outbox(store, lease_seconds)
        self.remind_ms: Callable[[], int | None] = lambda: None
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
        pushes = self._pushes(change)
        made = store.create(change, pushes)
        if self._is_late(began):
            store.schedule(run_id, store.now() + self._soon_ms)
            _index(store, change.record)
        if made and not pushes:
            self._enqueue(change)
        if made and change.outbox:
            self.outbox.carry_out(run_id, change.outbox)
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
    ) -> Commit | None:
        """Change a run as `transition` has it; None where that has nothing to change.

        `lease`: of the step whose outcome this is, which waits for a store that is away. `state`: the run as the caller
        has just read it. `call`, `decision_id`: the call of the open turn that is changed, or the item that is pending
        for it: the others are read only if the change has consequences for them. What the transition raises is passed
        on, and changes nothing. Raises RunNotFoundError, and LeaseLostError where the step is no longer the caller's.
        """
        concerns_one = call is not None or decision_id is not None  # many of which may come at once
        with self._turns.turn(run_id) if concerns_one else nullcontext():
            done = self._change(run_id, transition, lease, state, call, decision_id)
        if done is None:
            return None
        change, commit = done
        self.consequences(change)
        return commit

    def _change(
        self,
        run_id: str,
        transition: Transition,
        lease: Lease | None,
        state: RunState | None,
        call: int | None,
        decision_id: str | None,
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
            outcome = self._commit(store, change, state.version, lease)
            if isinstance(outcome, Commit):
                return change, outcome
            state = outcome.state

    def _commit(self, store: Store, change: Change, version: int, lease: Lease | None) -> Commit | Conflict:
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
        store.list_items(new_items)
        pushes = self._pushes(change)
        try:
            outcome = store.commit(change, version, lease, pushes)
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
            store.list_items(new_items)
        if not pushes:
            self._enqueue(change)
        if change.outbox:
            self.outbox.carry_out(record.id, change.outbox)
        return outcome

    def item_checks(self, record: RunRecord) -> list[int]:
        """List when something is next to happen by itself with a run's own pending items (ms)."""
        expiry, before = _next_expiry(record), self.remind_ms()
        if expiry is None:
            return []
        reminder = None if before is None else next_reminder(record, before)
        return [expiry] if reminder is None else [expiry, reminder]

    def _unlist_items(self, items: list[ListedItem]) -> None:
        """Take items out of the inbox. The run is as it is, whatever becomes of this: recovery makes up for it."""
        try:
            self.store.unlist_items(items)
        except StoreUnavailableError as error:
            log.info("run %s: items stay in the inbox until its next check: %s", items[0].run_id, error)

    def enqueue(self, record: RunRecord, number: int) -> None:
        """Have a worker execute an open step of a run."""
        step = record.step(number)
        if step is not None:
            self.queue.enqueue(record.id, step.number, step.kind, self.queue_of(record, step))

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

    def _enqueue(self, change: Change) -> None:
        for step in _due(change):
            self.queue.enqueue(change.record.id, step.number, step.kind, self.queue_of(change.record, step))

    def _pushes(self, change: Change) -> list[Push]:
        """The messages of the change's due steps for the store to push, where it can."""
        record = change.record
        pushes = [
            self.queue.push(record.id, step.number, step.kind, self.queue_of(record, step)) for step in _due(change)
        ]
        return [push for push in pushes if push is not None]

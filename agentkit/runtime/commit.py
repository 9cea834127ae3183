"""Makes changes true and carries their consequences beyond the run: nudges, looks, and a run's family.

What a change makes due is told to a worker. A sub-agent's run tells its parent what it waits for and what
came of it, and is aborted when nobody waits for it any more. All of that comes after the change is true and
may be lost with the process: the due index makes up for it (agentkit.runtime.recovery).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from agentkit.agents import BoundAgent
from agentkit.core.ids import now_ms
from agentkit.core.messages import text_of
from agentkit.core.record import Call, Change, Lease, RunRecord, RunState, Step
from agentkit.errors import (
    AgentKitError,
    RunNotFoundError,
    StoreError,
    UnsupportedSchemaVersionError,
    VersionConflictError,
)
from agentkit.loop import MAX_DEPTH, abort, begin_run, fail_lost_child, update_from_child
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.failpoints import failpoint
from agentkit.store.protocol import Commit, Push, Store
from agentkit.tools import Tool

__all__ = ["Agents", "Committer", "next_expiry"]

log = logging.getLogger(__name__)


class Agents(Protocol):
    def bind(self, name: str, model: str | None = None) -> BoundAgent:
        """The agent of this name with its provider; raises AgentNotFoundError."""
        ...


def next_expiry(record: RunRecord) -> int | None:
    """When somebody must look at a run because an item of its own expires; None if none does."""
    items = (call.item for call in record.calls if call.state == "pending" and call.item)
    return min((item["expiresAt"] for item in items if "expiresAt" in item), default=None)


def _due(change: Change) -> list[Step]:
    """The opened steps that may be claimed at once; the due index has the others."""
    return [step for step in change.opened if step.at is None]


class Committer:
    """A store, the way to its workers, and the agents that this process knows."""

    def __init__(self, store: Store, queue: StepQueue, agents: Agents, lease_seconds: float) -> None:
        self.store = store
        self.queue = queue
        self.agents = agents
        self._soon_ms = round(lease_seconds * 500)

    def create(self, change: Change) -> bool:
        """Make the run of `change` and tell of its first step; False if one of its id is there or was deleted."""
        run_id = change.record.id
        began = time.monotonic()
        self.store.note(run_id, now_ms() + self._soon_ms)
        self.store.index(run_id)
        pushes = self._pushes(change)
        made = self.store.create(change, pushes)
        if self._late(began):
            self.store.note(run_id, now_ms() + self._soon_ms)
            self.store.index(run_id)
        if made and not pushes:
            self.enqueue_all(change)
        return made

    def commit(self, change: Change, version: int, lease: Lease | None = None) -> Commit:
        """Make a change true, within a step or from outside (no `lease`). Raises as `Store.commit` does."""
        record = change.record
        began = time.monotonic()
        looks = [expires] if (expires := next_expiry(record)) is not None else []
        looks += [step.at for step in change.opened if step.at is not None]
        if (change.opened or record.terminal) and lease is None:
            looks.append(now_ms() + self._soon_ms)  # the run may not be in the index, or stand there for much later
        if looks:
            self.store.note(record.id, min(looks))
        for child in change.orphans:
            self.store.note(child, now_ms() + self._soon_ms)  # should this process not come to abort it
        pushes = self._pushes(change)
        commit = self.store.commit(change, version, lease, pushes)
        if looks and self._late(began):
            self.store.note(record.id, min(looks))
        if not pushes:
            self.enqueue_all(change)
        for child in change.orphans:
            self._abort_orphan(child)
        if record.parent is not None:
            self.tell_parent(record.id, record.parent["runId"])
        return commit

    def _late(self, began: float) -> bool:
        """Whether recovery may have met the note before the change that it was for, and dropped it as stale.

        So it is where this process was stopped between the two, or the store was away.
        """
        return (time.monotonic() - began) * 1000 >= self._soon_ms / 2

    def enqueue_all(self, change: Change) -> None:
        """Tell of what a change has made due."""
        for step in _due(change):
            self.queue.enqueue(change.record.id, step.number, step.kind)

    def _pushes(self, change: Change) -> list[Push]:
        """The change's nudges for the store to push, where it can."""
        pushes = [self.queue.push(change.record.id, step.number, step.kind) for step in _due(change)]
        return [push for push in pushes if push is not None]

    def abort(self, run_id: str, reason: str | None) -> int:
        """Abort a run; the seq of its last event before that. Harmless when repeated."""
        while True:
            state = self.store.load(run_id)
            change = abort(state, reason, now_ms())
            if change is None:
                return state.last_seq
            try:
                self.commit(change, state.version)
            except VersionConflictError:
                continue
            for step in () if state.live else change.record.steps:
                self.queue.enqueue(run_id, step.number, step.kind)  # its worker is gone: another ends the run
            return state.last_seq

    # -- a run's family

    def start_child(self, record: RunRecord, call: Call, tool: Tool) -> str | None:
        """Start the run that answers a call, unless it is there; why not, if it cannot be."""
        depth = (record.parent or {}).get("depth", 0) + 1
        if depth > MAX_DEPTH:
            return f"sub-agents may be nested {MAX_DEPTH} deep, and this call would go deeper: answer without it"
        try:
            agent = self.agents.bind(tool.agent.name)
        except AgentKitError as error:
            return error.message
        assert call.child is not None
        parent = {"runId": record.id, "toolCallId": call.id, "depth": depth}
        change = begin_run(
            agent,
            call.child,
            call.args["input"],
            is_history=False,
            metadata=record.metadata,
            limits={},
            now=now_ms(),
            parent=parent,
            owner=record.owner,
        )
        self.create(change)
        return None

    def tell_parent(self, child: str, parent: str) -> None:
        """Let the parent of a run know what the run waits for, or what came of it."""
        failpoint("before tell parent")
        try:
            self._tell(child, parent)
        except AgentKitError as error:  # the child's own change is done, whatever becomes of the news
            log.info("run %s could not tell its parent; recovery will: %s", child, error)
        failpoint("after tell parent")

    def _tell(self, child: str, parent: str) -> None:
        def news(state: RunState, agent: BoundAgent | None) -> Change | None:
            record = self.store.load(child).record  # after the parent, or what was news once would be told again
            answer = ""
            if record.terminal:
                _, messages = self.store.messages(child)
                last = messages[-1] if messages else None
                answer = text_of(last) if last is not None and last["role"] == "assistant" else ""
            return update_from_child(state, agent, record, answer, now_ms())

        self._hear(parent, news)

    def _hear(self, run_id: str, news: Callable[[RunState, BoundAgent | None], Change | None]) -> None:
        """Commit what news mean for a run, if anything; asked once more where another commit came between."""
        while True:
            state = self.store.load(run_id)
            try:
                agent: BoundAgent | None = self.agents.bind(state.record.agent, state.record.model)
            except AgentKitError:
                agent = None
            change = news(state, agent)
            if change is None:
                return
            try:
                self.commit(change, state.version)
            except VersionConflictError:
                continue
            return

    def visit(self, record: RunRecord) -> bool:
        """Make up for what a run and its family did not hear of one another; whether it waits for a child."""
        if record.parent is not None and self._gone(record.parent["runId"]):
            self.abort(record.id, "nobody waits for its answer any more")
            return False
        children = [call.child for call in record.calls if call.state == "waiting" and call.child]
        for child in children:
            try:
                self._tell(child, record.id)
            except RunNotFoundError:
                self._lose(record.id, child)
            except UnsupportedSchemaVersionError as error:
                log.info("run %s waits for a run that a worker of its version will look at: %s", record.id, error)
        return bool(children)

    def _lose(self, run_id: str, child: str) -> None:
        log.warning("run %s waits for the run %s, which was deleted", run_id, child)
        self._hear(run_id, lambda state, agent: fail_lost_child(state, agent, child, now_ms()))

    def _gone(self, run_id: str) -> bool:
        try:
            return self.store.load(run_id).record.terminal
        except RunNotFoundError:
            return True
        except UnsupportedSchemaVersionError:
            return False

    def _abort_orphan(self, run_id: str) -> None:
        try:
            self.abort(run_id, "the run that asked for it has ended")
        except RunNotFoundError:
            pass  # its parent ended before it began
        except StoreError as error:
            log.info("run %s could not be aborted; recovery will: %s", run_id, error)

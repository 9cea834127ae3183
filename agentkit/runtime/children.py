"""What a run and the runs of its sub-agents do to one another.

A call of a sub-agent starts a run of its own. That run's parent learns what it waits for and what came of it, and it is
aborted when nobody waits for it any more. Each of these acts follows a commit and may be lost with the process that
was to do it: `reconcile`, which recovery calls, makes up for it.
"""

from __future__ import annotations

import logging

from agentkit.core.calls import Call
from agentkit.core.messages import AssistantMessage, Message, text_of
from agentkit.core.record import Change, ParentCall, RunRecord, RunState, Status
from agentkit.core.struct import decode
from agentkit.errors import AgentKitError, RunNotFoundError, StoreError, UnreadableRunError
from agentkit.loop import MAX_DEPTH, begin_run, fail_lost_child, update_from_child
from agentkit.runtime.commands import abort
from agentkit.runtime.commit import Committer
from agentkit.runtime.deadlines import time_left
from agentkit.runtime.failpoints import failpoint
from agentkit.tools import Tool

__all__ = ["Children"]

log = logging.getLogger(__name__)

MIN_SECONDS = 0.001
"""What a run gets whose parent's time is over: it ends at once, and so does its parent."""


class Children:
    """Of one process."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        committer.consequences = self._follow_up

    def start(self, record: RunRecord, index: int, call: Call, tool: Tool) -> str | None:
        """Start the run that answers the call number `index`, unless it is there; why not, if it cannot be."""
        depth = (record.parent.depth if record.parent else 0) + 1
        if depth > MAX_DEPTH:
            return f"sub-agents may be nested {MAX_DEPTH} deep, and this call would go deeper: answer without it"
        assert tool.agent is not None
        try:
            agent = self._committer.agents.bind(tool.agent.name)
        except AgentKitError as error:
            return error.message
        assert call.child is not None
        limits = {**(call.child_limits or {})}
        parent = self._committer.bind(record)
        left = None if parent is None else time_left(record, parent, self._committer.now())
        if left is not None:
            limits["timeout"] = max(left, MIN_SECONDS)
        change = begin_run(
            agent,
            call.child,
            call.args["input"],
            metadata=record.metadata,
            limits=agent.agent.limits.lowered(limits),
            now=self._committer.now(),
            parent=ParentCall(record.id, call.id, depth, index),
            owner=record.owner,
        )
        self._committer.create(change, in_step=True)
        return None

    def reconcile(self, record: RunRecord) -> bool:
        """Make up for what a run, its parent and its children did not learn; whether it waits for a child."""
        if record.parent is not None and self._is_gone(record.parent.run_id):
            abort(self._committer, record.id, "nobody waits for its answer any more")
            return False
        children = [(index, c.child) for index, c in record.indexed_calls if c.state == "waiting" and c.child]
        for index, child in children:
            self.reconcile_child(record.id, index, child)
        return bool(children)

    def reconcile_child(self, run_id: str, index: int | None, child: str) -> None:
        """Make up for what a run did not learn of the child that answers its call `index`, where that is known."""
        try:
            self._update_parent(child, run_id, index)
        except RunNotFoundError:
            log.warning("run %s: its child %s was deleted, and the call gets an error result", run_id, child)
            self._fail_lost(run_id, index, child)
        except UnreadableRunError as error:
            log.info("run %s waits for run %s, which this worker cannot read: %s", run_id, child, error)

    def _follow_up(self, change: Change) -> None:
        for child in change.orphans:
            self._abort_orphan(child)
        parent = change.record.parent
        if parent is not None and _concerns_parent(change):
            self._notify_parent(change.record.id, parent)

    def _notify_parent(self, child: str, parent: ParentCall) -> None:
        failpoint("before notify parent")
        try:
            self._update_parent(child, parent.run_id, parent.call)
        except AgentKitError as error:  # the child's own change is true, whatever becomes of this
            log.info("run %s could not update its parent %s; recovery will: %s", child, parent.run_id, error)
        failpoint("after notify parent")

    def _update_parent(self, child: str, parent: str, index: int | None) -> None:
        def transition(state: RunState) -> Change | None:
            # Read after the parent, or what is known there already would be written again.
            record = self._committer.store.load(child).record
            agent = self._committer.bind(state.record)
            return update_from_child(state, agent, record, self._answer_of(record), self._committer.now())

        self._committer.update(parent, transition, call=index)

    def _answer_of(self, record: RunRecord) -> str:
        """The text of an ended run's last message."""
        if not record.terminal:
            return ""
        found = self._committer.store.messages_from(record.id, record.messages - 1, 0) if record.messages else ()
        last = decode(found[0], Message) if found else None
        return text_of(last) if isinstance(last, AssistantMessage) else ""

    def _fail_lost(self, run_id: str, index: int | None, child: str) -> None:
        self._committer.update(
            run_id,
            lambda state: fail_lost_child(state, self._committer.bind(state.record), child, self._committer.now()),
            call=index,
        )

    def _is_gone(self, run_id: str) -> bool:
        try:
            return self._committer.store.load(run_id).record.terminal
        except RunNotFoundError:
            return True
        except UnreadableRunError:
            return False

    def _abort_orphan(self, run_id: str) -> None:
        try:
            abort(self._committer, run_id, "the run that asked for it has ended")
        except RunNotFoundError:
            pass  # its parent ended before it began
        except (StoreError, UnreadableRunError) as error:
            log.info("run %s, whose parent has ended, could not be aborted; recovery will: %s", run_id, error)


def _concerns_parent(change: Change) -> bool:
    """Whether a change shows in the run's parent, which knows what the run waits for and what came of it."""
    records = (change.record,) if change.before is None else (change.record, change.before)
    return any(record.terminal or record.status is Status.PAUSED for record in records)

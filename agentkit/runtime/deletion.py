"""Deletes a run together with the runs of its sub-agents.

Rules that this module alone knows:

1. A run is deleted once it has ended. Its end refuses whatever the holder of a step still writes, so that nothing comes
   after the deletion.
2. Children are deleted before their parent, which alone names them: what was deleted halfway can be deleted again.
3. The id of a child that is not there is taken, so that a worker which is about to start it comes too late.
"""

from __future__ import annotations

import logging
import time

from agentkit import loop
from agentkit.core.record import Change, RunState
from agentkit.errors import AgentKitError, RunNotFoundError, RunNotTerminalError
from agentkit.runtime.child_runs import children_of
from agentkit.runtime.children import Children
from agentkit.runtime.commands import abort, shown
from agentkit.runtime.commit import Committer
from agentkit.runtime.cut_message import cut_message

__all__ = ["delete"]

log = logging.getLogger(__name__)

ABORT_SECONDS = 1.5
"""How long the holders of steps may take to end the runs that are to be deleted; then they are ended without them."""

_REASON = "the run is deleted"


def delete(committer: Committer, children: Children, run_id: str, *, force: bool, by: str | None) -> str | None:
    """Delete a run that has ended, or with `force` any, and the runs of its sub-agents; the run that waited for it.

    `by`: who wants it. Raises RunNotFoundError, and RunNotTerminalError without `force`.
    """
    record = committer.store.load(run_id).record
    if not record.terminal and not force:
        raise RunNotTerminalError
    _Deletion(committer, by).delete(run_id)
    if record.parent is None:
        return None
    try:
        # Where its call still waits, it gets an error result.
        children.reconcile_child(record.parent.run_id, record.parent.call, run_id)
    except RunNotFoundError:
        return None
    except AgentKitError as error:
        parent = record.parent.run_id
        log.info("run %s could not be updated after run %s was deleted; recovery will do it: %s", parent, run_id, error)
    return record.parent.run_id


class _Deletion:
    """The deletion of one run and of all that it started."""

    def __init__(self, committer: Committer, by: str | None) -> None:
        self._committer = committer
        self._store = committer.store
        self._by = by
        self._until = time.monotonic() + ABORT_SECONDS

    def delete(self, run_id: str) -> None:
        """Delete a run, ended or not, after its children."""
        self._end(run_id)
        for child in self._store.load(run_id).record.orphans:
            self._store.forbid(child)
        children = children_of(self._store, run_id)
        for child in children:
            try:
                self.delete(child)
            except RunNotFoundError:
                pass  # somebody else was quicker
        self._store.delete(run_id)
        log.info(
            "run %s: deleted%s%s",
            run_id,
            shown(self._by),
            f", after {len(children)} runs of its sub-agents" if children else "",
        )

    def _end(self, run_id: str) -> None:
        """Abort a run, and end it without the holders of its steps where they do not."""
        if self._store.load(run_id).record.terminal:
            return
        abort(self._committer, run_id, _REASON, by=self._by)
        self._wait_for_end(run_id)
        self._committer.update(run_id, self._cut_off)

    def _wait_for_end(self, run_id: str) -> None:
        subscription = self._store.subscribe(run_id, stops_only=True)
        try:
            while not self._store.load(run_id).record.terminal:
                left = self._until - time.monotonic()
                if left <= 0:
                    return
                subscription.get(left)
        finally:
            subscription.close()

    def _cut_off(self, state: RunState) -> Change | None:
        record, now = state.record, self._committer.now()
        begun = next((step for step in record.steps if step.number in state.claimed and step.kind == "model"), None)
        if record.terminal:
            return None
        message, ends = cut_message(self._committer, self._store, record, begun, "aborted")
        change = loop.abort(state, _REASON, now, by=self._by, holding=True, message=message)
        return None if change is None else change.with_events(ends)

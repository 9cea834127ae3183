"""What a caller can do to a run that is there: answer, extend, send to and abort it. `starts.py` makes one.

Each is a transition of the loop, made true by `Committer.update`. Anybody may do any of them at any moment: where a
commit meets another, the transition is computed again from the newer state. Who calls, `by`, is written down and
logged; nothing here knows who may.
"""

from __future__ import annotations

import logging
from typing import Literal, cast

from agentkit import loop
from agentkit.core.bounds import Bounds
from agentkit.core.events import PendingItem
from agentkit.core.messages import ContentBlock, Json
from agentkit.core.record import AbortRequest, Change, RunState
from agentkit.core.run import Run
from agentkit.core.struct import to_json
from agentkit.errors import (
    DecisionAmbiguousError,
    DecisionConflictError,
    DecisionExpiredError,
)
from agentkit.loop import Answer
from agentkit.providers.inputs import check_content_for
from agentkit.runtime.child_runs import children_of
from agentkit.runtime.commit import Committer
from agentkit.runtime.idempotency import CallKey, Once, receipt_alone
from agentkit.store.protocol import Store, StoredResolution

__all__ = ["abort", "answer", "extend", "find_item", "send", "shown"]

log = logging.getLogger(__name__)


def answer(
    committer: Committer,
    run_id: str,
    answer: Answer,
    *,
    tool_call_id: str | None,
    decision_id: str | None,
    key: CallKey | None = None,
) -> int:
    """Answer a pending item; the seq at which the answer, or the same one before, was accepted.

    Of an item that needs several principals, the answer is a vote, and the caller's second one changes nothing.
    Raises what `loop.resolve` and `loop.find_pending` raise, DecisionConflictError where another answer was accepted,
    DecisionExpiredError, and IdempotencyConflictError; none of these consumes the item.
    """
    seq: int | None = None
    item: PendingItem | None = None

    def transition(state: RunState) -> Change | None:
        nonlocal item, seq
        seq = None
        item = loop.find_child(state.record, tool_call_id=tool_call_id, decision_id=decision_id)
        if item is not None:
            seq = state.last_seq + 1
            return receipt_alone(state, key, item=item)
        index = loop.find_pending(state.record, tool_call_id=tool_call_id, decision_id=decision_id)
        if index is None:
            known, own = _answered_before(committer.store, state, tool_call_id, decision_id)
            if not answer.same_as(known.answer):
                raise DecisionConflictError
            seq = known.seq if own else state.last_seq + (not state.record.terminal)
            return receipt_alone(state, key, since=seq - 1)
        agent = committer.bind(state.record)
        tool = agent.find_tool(state.record.call(index).name) if agent else None
        parallel = agent.agent.parallel_tool_calls if agent else True
        change = loop.resolve(state, index, answer, tool, parallel, committer.now())
        if change is not None:
            return change
        seq = state.last_seq + 1  # the caller has voted for it already
        return receipt_alone(state, key, since=state.last_seq)

    once = Once(committer.store, key, transition)
    commit = committer.update(run_id, once, decision_id=decision_id)
    child = _child_item(once, item)
    if child is not None:  # a sub-agent's item, listed here: its own run takes the answer
        child_run, child_decision = child
        _answer_in(committer, child_run, answer, tool_call_id, decision_id or child_decision, key)
    if once.done is not None and once.done.since is not None:
        return once.done.since + 1
    return commit.first_seq if commit is not None and seq is None else seq or 0


def _answer_in(
    committer: Committer,
    run_id: str,
    item_answer: Answer,
    tool_call_id: str | None,
    decision_id: str | None,
    key: CallKey | None,
) -> None:
    answer(committer, run_id, item_answer, tool_call_id=tool_call_id, decision_id=decision_id, key=key)


def _child_item(once: Once, item: PendingItem | None) -> tuple[str, str | None] | None:
    """Find the run and the item of a sub-agent that take the call: `item`, or that of the same call before."""
    if once.done is not None:
        return None if once.done.child is None else (once.done.child, once.done.decision_id)
    return None if item is None or item.run_id is None else (item.run_id, item.decision_id)


def extend(
    committer: Committer,
    run_id: str,
    decision_id: str,
    by: float,
    *,
    caller: str | None = None,
    key: CallKey | None = None,
) -> int:
    """Move the expiry of a pending item by `by` seconds; the last seq of the run's log. `caller`: who wants it."""
    seq = 0
    item: PendingItem | None = None

    def transition(state: RunState) -> Change | None:
        nonlocal item, seq
        seq = state.last_seq
        item = loop.find_child(state.record, tool_call_id=None, decision_id=decision_id)
        if item is not None:
            return receipt_alone(state, key, item=item)
        index = loop.find_pending(state.record, tool_call_id=None, decision_id=decision_id)
        if index is None:
            _answered_before(committer.store, state, None, decision_id)
            raise loop.not_pending(state.record)
        return loop.extend(state, index, by, committer.now(), caller=caller)

    once = Once(committer.store, key, transition)
    commit = committer.update(run_id, once, decision_id=decision_id)
    child = _child_item(once, item)
    if child is not None:
        extend(committer, child[0], decision_id, by, caller=caller, key=key)
    elif commit is not None:
        log.info("run %s: the item %s was given %g s more%s", run_id, decision_id, by, shown(caller))
    if once.done is not None and once.done.since is not None:
        return once.done.since
    return seq if commit is None else commit.last_seq


def send(
    committer: Committer,
    run_id: str,
    content: str | list[ContentBlock],
    when: Literal["steer", "followUp"],
    *,
    by: str | None = None,
    bounds: Bounds | None = None,
    key: CallKey | None = None,
) -> int:
    """Send a user message into a run, to "steer" or as "followUp"; the seq of the log's last event before it.

    `by`: who sends it. `bounds`: how many may wait. Raises RunNotPausedError where the run has ended,
    PayloadTooLargeError where too many wait already, or too much, and InvalidRequestError for what the run's model does
    not take.
    """
    seq = 0

    def transition(state: RunState) -> Change:
        nonlocal seq
        seq = state.last_seq
        change = loop.add_message(state, content, when, committer.now(), by=by, bounds=bounds)
        agent = committer.bind(state.record)
        if agent is not None:
            check_content_for(agent.model_name, agent.api, content, "message")
        return change

    once = Once(committer.store, key, transition)
    if committer.update(run_id, once) is not None:
        log.info("run %s: a message (%s) was sent%s", run_id, when, shown(by))
    return seq if once.done is None or once.done.since is None else once.done.since


def abort(committer: Committer, run_id: str, reason: str | None, *, by: str | None = None) -> int:
    """End a run, at once where nobody holds a step of it; the seq of the log's last event before. Harmless repeated.

    `by`: who wants it. Whoever holds a step is asked to end the run, and learns it by its next write or heartbeat.
    """
    while True:
        transition = _Abort(committer, reason, by)
        commit = committer.update(run_id, transition)
        state, request = transition.state, transition.request
        if commit is not None:
            log.info("run %s: aborted%s", run_id, shown(by))
        if request is None:
            return state.last_seq
        if committer.store.request_abort(run_id, request, state.version):
            log.info("run %s: its abort was asked for%s, and the holder of its step ends it", run_id, shown(by))
            for step in () if state.live else state.record.steps:
                committer.enqueue(state.record, step.number)  # its worker is gone: another ends the run
            return state.last_seq


class _Abort:
    """The transition of `abort`. It keeps the state that it saw last, and what is to be asked of a step's holder."""

    state: RunState
    request: AbortRequest | None = None

    def __init__(self, committer: Committer, reason: str | None, by: str | None) -> None:
        self._committer = committer
        self._reason = reason
        self._by = by

    def __call__(self, state: RunState) -> Change | None:
        outcome = loop.abort(state, self._reason, self._committer.now(), by=self._by)
        self.state = state
        self.request = outcome if isinstance(outcome, AbortRequest) else None
        return outcome if isinstance(outcome, Change) else None


def find_item(
    store: Store, run_id: str, *, tool_call_id: str | None, decision_id: str | None
) -> tuple[Run, Json | None]:
    """Find a pending item, and the run that owns it: `run_id`, or a sub-agent's whose items are listed there.

    The item is None where the ids name no pending item; the run is then the one that owns the item that was answered.
    Raises RunNotFoundError, and DecisionAmbiguousError without a `decision_id` where it is not certain which item is
    meant: several may be, or, without any id, one of the run was answered before.
    """
    state = store.load(run_id)
    items = [] if state.record.abort else state.record.pending
    meant = [
        item for item in items if decision_id in (None, item.decision_id) and tool_call_id in (None, item.tool_call_id)
    ]
    without_ids = tool_call_id is None and decision_id is None
    if len(meant) > 1 or (without_ids and meant and state.record.answered):
        raise DecisionAmbiguousError(loop.which_item(meant))
    if meant:
        [item] = meant
        owner = state if item.run_id is None else store.load(item.run_id)
        return Run.of(owner, None), cast(Json, to_json(item))
    if decision_id is not None and store.resolution(run_id, decision_id=decision_id, tool_call_id=None) is None:
        known = _answered_by_child(store, run_id, decision_id)
        if known is not None:
            return Run.of(store.load(known[0]), None), None
    return Run.of(state, None), None


def shown(by: str | None) -> str:
    """Say who called, for a line of the log, in which what a principal is named can begin no other line."""
    return "" if by is None else f" by {by!r}"


def _answered_before(
    store: Store, state: RunState, tool_call_id: str | None, decision_id: str | None
) -> tuple[StoredResolution, bool]:
    """Find how the item was answered, and whether it was the run's own, not a sub-agent's.

    Raises the error that says what became of it where nobody answered.
    """
    known = store.resolution(state.record.id, decision_id=decision_id, tool_call_id=tool_call_id)
    own = known is not None
    if known is None and decision_id is not None:
        found = _answered_by_child(store, state.record.id, decision_id)
        known = found[1] if found else None
    if known is None or tool_call_id not in (None, known.tool_call_id):
        raise loop.not_pending(state.record)
    if known.outcome == "expired":
        raise DecisionExpiredError
    return known, own


def _answered_by_child(store: Store, run_id: str, decision_id: str) -> tuple[str, StoredResolution] | None:
    """Find which of the run's sub-agents' runs owned an answered item, and how it was answered.

    The run itself keeps only what still waits.
    """
    for child in children_of(store, run_id):
        known = store.resolution(child, decision_id=decision_id, tool_call_id=None)
        found = (child, known) if known is not None else _answered_by_child(store, child, decision_id)
        if found is not None:
            return found
    return None

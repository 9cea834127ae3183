"""Answers to pending items, and more time for them: which item is meant, and what became of it.

Anybody may answer at any moment, so that a commit may meet another's: then the answer is looked at again in the
newer state. It knows a store's engine and the loop's transitions, and nothing of who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.agents import BoundAgent
from agentkit.core.ids import now_ms
from agentkit.core.record import Change, RunState
from agentkit.errors import DecisionConflictError, DecisionExpiredError, RunNotFoundError, VersionConflictError
from agentkit.loop import Answer, extend, find_child, find_pending, not_pending, resolve
from agentkit.runtime.engine import Engine
from agentkit.store.protocol import Store, StoredResolution

__all__ = ["answer_item", "extend_item"]


def answer_item(
    engine: Engine,
    agents: Mapping[str, BoundAgent],
    run_id: str,
    answer: Answer,
    *,
    tool_call_id: str | None,
    decision_id: str | None,
) -> int:
    """Answer a pending item; the seq at which the answer, or the same one before, was accepted."""
    while True:
        state = engine.store.load(run_id)
        child = find_child(state.record, tool_call_id=tool_call_id, decision_id=decision_id)
        if child is not None:  # a sub-agent's item, listed here: its own run takes the answer
            answer_item(engine, agents, child, answer, tool_call_id=tool_call_id, decision_id=decision_id)
            return state.last_seq + 1
        index = find_pending(state.record, tool_call_id=tool_call_id, decision_id=decision_id)
        if index is None:
            known, own = _answered_before(engine.store, state, tool_call_id, decision_id)
            if not answer.same_as(known.answer):
                raise DecisionConflictError
            return known.seq if own else state.last_seq + (not state.record.terminal)
        try:
            return engine.committer.commit(_resolve(state, index, answer, agents), state.version).first_seq
        except VersionConflictError:
            continue


def extend_item(engine: Engine, run_id: str, decision_id: str, by: float) -> int:
    """Move the expiry of a pending item by `by` seconds; the last seq of the run's log."""
    while True:
        state = engine.store.load(run_id)
        child = find_child(state.record, tool_call_id=None, decision_id=decision_id)
        if child is not None:
            extend_item(engine, child, decision_id, by)
            return state.last_seq
        index = find_pending(state.record, tool_call_id=None, decision_id=decision_id)
        if index is None:
            _answered_before(engine.store, state, None, decision_id)
            raise not_pending(state.record)
        try:
            return engine.committer.commit(extend(state, index, by, now_ms()), state.version).last_seq
        except VersionConflictError:
            continue


def _resolve(state: RunState, index: int, answer: Answer, agents: Mapping[str, BoundAgent]) -> Change:
    record = state.record
    bound = agents.get(record.agent)
    tool = bound.tool(record.calls[index].name) if bound else None
    parallel = bound.agent.parallel_tool_calls if bound else True
    return resolve(state, index, answer, tool, parallel, now_ms())


def _answered_before(
    store: Store, state: RunState, tool_call_id: str | None, decision_id: str | None
) -> tuple[StoredResolution, bool]:
    """How the item was answered, and whether it was the run's own, not a sub-agent's.

    Raises the error that says what became of it where nobody answered.
    """
    known = store.resolution(state.record.id, decision_id=decision_id, tool_call_id=tool_call_id)
    own = known is not None
    if known is None and decision_id is not None:
        known = _answered_by_child(store, state.record.id, decision_id)
    if known is None or tool_call_id not in (None, known.tool_call_id):
        raise not_pending(state.record)
    if known.outcome == "expired":
        raise DecisionExpiredError
    return known, own


def _answered_by_child(store: Store, run_id: str, decision_id: str) -> StoredResolution | None:
    """How an item of one of the run's sub-agents was answered: the run itself keeps only what still waits."""
    state, messages = store.messages(run_id)
    results: list[Any] = [call.result or {} for call in state.record.calls]
    results += [message for message in messages if message["role"] == "toolResult"]
    children: list[Any] = [call.child for call in state.record.calls]
    children += [details.get("runId") for result in results if isinstance(details := result.get("details"), dict)]
    for child in children:
        if not isinstance(child, str):
            continue
        try:
            parent = store.load(child).record.parent or {}
        except RunNotFoundError:
            continue
        if parent.get("runId") != run_id:
            continue  # any tool may write a run's id into its details
        known = store.resolution(child, decision_id=decision_id, tool_call_id=None)
        known = known or _answered_by_child(store, child, decision_id)
        if known is not None:
            return known
    return None

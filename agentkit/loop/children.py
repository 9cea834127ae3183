"""The transitions of a run that has a sub-agent answer a tool call.

Rules that this module alone knows:

1. The child is a run of its own, of which the parent knows the id, what it waits for, and in the end its answer.
2. What the child used counts for the parent when the child has ended.
"""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from agentkit.agents import BoundAgent
from agentkit.core.calls import Call
from agentkit.core.events import PendingItem, ToolExecutionUpdate
from agentkit.core.messages import Json, TextBlock, Usage, add_usage
from agentkit.core.record import Change, RunRecord, RunState, Status
from agentkit.core.struct import to_json
from agentkit.errors import DecisionAmbiguousError
from agentkit.loop.calls import bounded, execution_end, result_message, which_item
from agentkit.loop.draft import Draft
from agentkit.loop.flow import advance, continue_paused, continue_without_step, settle
from agentkit.loop.limits import with_discarded
from agentkit.results import CheckedResult

__all__ = ["MAX_DEPTH", "delegate", "delegated", "fail_lost_child", "find_child", "update_from_child"]

MAX_DEPTH = 5
"""How deep runs may be nested; a call that would go deeper gets an error result."""


def delegate(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """End a tool step whose call a run now answers, that of the sub-agent: the call waits for it.

    Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    index = draft.close_tool_step(step)
    draft.calls[index], event = delegated(draft.calls[index])
    draft.emit(event)
    settle(draft, agent)
    return draft.change()


def delegated(call: Call) -> tuple[Call, ToolExecutionUpdate]:
    """Make of a call one that waits for its sub-agent's run, and the event that names the run.

    Pure, and all that a store needs beside other open steps.
    """
    event = ToolExecutionUpdate(
        tool_call_id=call.id, tool_name=call.name, args=call.args, partial_result={"runId": call.child}
    )
    return replace(call, state="waiting", started=True, answer=None), event


def update_from_child(
    state: RunState, agent: BoundAgent | None, child: RunRecord, answer: str, now: int
) -> Change | None:
    """Bring a run up to date with the state of a child; None where nothing changes, or no call waits for it.

    Nor does what a child came to after its parent's abort was asked for: the holder of a step is about to end that.
    `answer`: the text of the child's last message, where it has ended. `agent`: the parent's; None where this
    process does not know it, and then can only show what the child waits for.
    """
    index = _waiting(state.record, child.id)
    if index is None:
        return None
    if not child.terminal:
        parallel = agent.agent.parallel_tool_calls if agent else True
        return _update_pending(state, index, child, parallel, now)
    abort = state.record.abort
    if agent is None or (abort is not None and not abort.keeps(child.ended_at or now)):
        return None
    details = {"runId": child.id, "usage": to_json(child.usage)}
    if child.status is Status.COMPLETED:
        source = f"the agent {child.agent} has answered, but its answer"
        result = bounded(CheckedResult([TextBlock(answer)]), source, agent.bounds.max_result_bytes)
        result = dataclasses.replace(result, details=details)
    else:
        why = child.error.message if child.error else "without a reason"
        result = _error(f"the agent {child.agent} {child.status}: {why}", details)
    return _answered(with_discarded(state, child.discarded), agent, index, result, child.usage, now)


def fail_lost_child(state: RunState, agent: BoundAgent | None, child: str, now: int) -> Change | None:
    """End a call with an error whose child was deleted before its answer was read; None where no call waits for it.

    `agent`: as for `update_from_child`.
    """
    index = _waiting(state.record, child)
    if index is None or agent is None:
        return None
    text = f"the run {child}, which was to answer, was deleted before its answer was read"
    result = _error(text, {"runId": child})
    return _answered(state, agent, index, result, Usage.of(), now)


def _error(text: str, details: Json) -> CheckedResult:
    return CheckedResult([TextBlock(text)], is_error=True, details=details)


def _waiting(record: RunRecord, child: str) -> int | None:
    """Find the call that waits for this run."""
    if record.terminal:
        return None
    return next((i for i, c in record.indexed_calls if c.child == child and c.state == "waiting"), None)


def _answered(state: RunState, agent: BoundAgent, index: int, result: CheckedResult, usage: Usage, now: int) -> Change:
    call = state.record.call(index)
    message = result_message(call, result, now)
    draft = Draft(state, now)
    draft.set_call(index, child_pending=())
    if state.record.status is Status.PAUSED and not draft.waits:
        continue_paused(draft, [call.id])
    draft.set(usage=add_usage(state.record.usage, usage))
    draft.emit(execution_end(message))
    draft.finish_call(index, message)
    settle(draft, agent)
    return draft.change()


def _update_pending(state: RunState, index: int, child: RunRecord, parallel: bool, now: int) -> Change | None:
    """Show what a paused child waits for, or that it goes on; None where that is shown already."""
    call = state.record.call(index)
    items: tuple[PendingItem, ...] = ()
    if child.status is Status.PAUSED:
        items = tuple(replace(item, run_id=item.run_id or child.id) for item in child.pending)
    if items == call.child_pending:
        return None
    draft = Draft(state, now)
    gone = {item.decision_id for item in call.child_pending} - {item.decision_id for item in items}
    draft.set(answered=draft.record.answered + len(gone))
    draft.set_call(index, child_pending=items)
    if state.record.status is Status.PAUSED:
        if not draft.waits:
            continue_paused(draft, [call.id])
        elif {item.decision_id for item in items} - {item.decision_id for item in call.child_pending}:
            continue_without_step(draft, [call.id])  # the child went on meanwhile, and has paused with another item
    if draft.record.status is not Status.PAUSED:
        advance(draft, parallel)
    return draft.change()


def find_child(record: RunRecord, *, tool_call_id: str | None, decision_id: str | None) -> PendingItem | None:
    """Find the pending item of a sub-agent's run, `run_id`, that is meant; None where it is not one of theirs.

    Raises DecisionAmbiguousError without a `decision_id` where the run and its children wait for several that may be
    meant: the calls of a run and those of its children may have the same ids.
    """
    items = [item for call in record.calls for item in call.child_pending] if record.abort is None else []
    if decision_id is None and items:
        meant = [item for item in record.pending if tool_call_id in (None, item.tool_call_id)]
        if len(meant) > 1:
            raise DecisionAmbiguousError(which_item(meant))
    for item in items:
        if decision_id in (None, item.decision_id) and tool_call_id in (None, item.tool_call_id):
            return item
    return None

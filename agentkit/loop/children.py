"""The transitions of a run that has a sub-agent answer a tool call: it delegates, and it hears of the child.

The child is a run of its own, of which the parent knows the id, what it waits for, and in the end its answer.
"""

from __future__ import annotations

from agentkit.agents import BoundAgent
from agentkit.core import events as ev
from agentkit.core.messages import Json, Usage, add_usage, zero_usage
from agentkit.core.record import Change, RunRecord, RunState, Status
from agentkit.errors import DecisionAmbiguousError
from agentkit.loop.draft import Draft, error_content

__all__ = ["MAX_DEPTH", "delegate", "find_child", "update_from_child", "fail_lost_child"]

MAX_DEPTH = 5
"""How deep runs may be nested; a call that would go deeper gets an error result."""


def delegate(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """The child's run is there: the call waits for it, and its step is done."""
    draft = Draft(state, now)
    closed = draft.close_step(step)
    assert closed.call is not None
    call = state.record.calls[closed.call]
    draft.set_call(closed.call, state="waiting", started=True, answer=None)
    draft.emit(ev.tool_execution_update(call.id, call.name, call.args, {"runId": call.child}))
    draft.settle(agent)
    return draft.change()


def update_from_child(
    state: RunState, agent: BoundAgent | None, child: RunRecord, answer: str, now: int
) -> Change | None:
    """What a child's state means for its parent; None where it is no news.

    `answer`: the text of the child's last message, where it has ended. `agent`: the parent's; None where this
    process does not know it, which then can only tell what the child waits for.
    """
    index = _waiting(state.record, child.id)
    if index is None:
        return None
    if not child.terminal:
        parallel = agent.agent.parallel_tool_calls if agent else True
        return _update_pending(state, index, child, parallel, now)
    if agent is None:
        return None
    result: Json = {"content": [{"type": "text", "text": answer}], "isError": False}
    if child.status is not Status.COMPLETED:
        why = (child.error or {}).get("message", "without a reason")
        result = error_content(f"the agent {child.agent} {child.status}: {why}")
    result["details"] = {"runId": child.id, "usage": child.usage}
    return _answered(state, agent, index, result, child.usage, now)


def fail_lost_child(state: RunState, agent: BoundAgent | None, child: str, now: int) -> Change | None:
    """The run that a call waits for is not there any more, and its answer was not heard; None where none waits.

    `agent`: as for `update_from_child`.
    """
    index = _waiting(state.record, child)
    if index is None or agent is None:
        return None
    result = error_content(f"the run {child}, which was to answer, was deleted before its answer was read")
    result["details"] = {"runId": child}
    return _answered(state, agent, index, result, zero_usage(), now)


def _waiting(record: RunRecord, child: str) -> int | None:
    """The place of the call that waits for this run."""
    if record.terminal:
        return None
    return next((i for i, c in enumerate(record.calls) if c.child == child and c.state == "waiting"), None)


def _answered(state: RunState, agent: BoundAgent, index: int, result: Json, usage: Usage, now: int) -> Change:
    call = state.record.calls[index]
    draft = Draft(state, now)
    if state.record.status is Status.PAUSED:
        draft.wake([call.id])
    draft.set(usage=add_usage(state.record.usage, usage))
    shown = {key: result[key] for key in ("content", "details")}
    draft.emit(ev.tool_execution_end(call.id, call.name, shown, result["isError"]))
    draft.finish_call(index, result)
    draft.settle(agent)
    return draft.change()


def _update_pending(state: RunState, index: int, child: RunRecord, parallel: bool, now: int) -> Change | None:
    """The child has paused, or goes on."""
    call = state.record.calls[index]
    items = tuple({**item, "runId": item.get("runId", child.id)} for item in child.pending)
    if child.status is not Status.PAUSED:
        items = ()
    if items == call.child_pending:
        return None
    draft = Draft(state, now)
    if state.record.status is Status.PAUSED and not items:
        draft.wake([call.id])
    draft.set_call(index, child_pending=items)
    if draft.record.status is not Status.PAUSED:
        draft.advance(parallel)
    return draft.change()


def find_child(record: RunRecord, *, tool_call_id: str | None, decision_id: str | None) -> str | None:
    """The run of a sub-agent whose pending item is meant; None where it is not one of theirs.

    Raises DecisionAmbiguousError without ids where the run and its children wait for several.
    """
    items = [item for call in record.calls for item in call.child_pending] if record.abort is None else []
    if tool_call_id is None and decision_id is None:
        if items and len(record.pending) > 1:
            raise DecisionAmbiguousError
        return items[0]["runId"] if items else None
    for item in items:
        if decision_id in (None, item["decisionId"]) and tool_call_id in (None, item["toolCallId"]):
            return str(item["runId"])
    return None

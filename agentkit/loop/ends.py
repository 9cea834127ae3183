"""The transitions that end a run before its work is done.

Rules that this module alone knows:

1. Who ends an aborted run. Where a worker holds a step, or held it with a message open, only the holder of that step
   knows what is to be closed, and others can only ask for it.
2. Which results an aborted run keeps: those of calls that had finished when its abort was asked for. What a tool comes
   to after that, because it was cancelled or in spite of it, is no message.
"""

from __future__ import annotations

from typing import Literal, overload

from agentkit.core.events import RunError
from agentkit.core.messages import AssistantMessage, ToolResultMessage, Usage, add_usage
from agentkit.core.record import AbortRequest, Change, RunRecord, RunState, Status
from agentkit.loop.draft import Draft
from agentkit.loop.flow import end

__all__ = ["abort", "fail"]


@overload
def abort(state: RunState, reason: str | None, now: int, *, by: str | None = None) -> Change | AbortRequest | None: ...
@overload
def abort(
    state: RunState,
    reason: str | None,
    now: int,
    *,
    by: str | None = None,
    holding: Literal[True],
    message: AssistantMessage | None = None,
    finished: tuple[int, ToolResultMessage, bool] | None = None,
) -> Change | None: ...
def abort(
    state: RunState,
    reason: str | None,
    now: int,
    *,
    by: str | None = None,
    holding: bool = False,
    message: AssistantMessage | None = None,
    finished: tuple[int, ToolResultMessage, bool] | None = None,
) -> Change | AbortRequest | None:
    """Abort a run: end it, or ask the worker that holds a step to do so.

    `reason`: why, where somebody says so, and `by`: who; those of an abort which was asked for count before them.
    `holding`: the caller ends the run, as the worker or in spite of it, with the open assistant `message` as far as it
    came, or with the tool step that it has `finished`: its number, its result, and whether its execution start is in
    the log.

    Returns the change that ends the run; the request that is to stand beside its state; None where it has ended, or
    where its abort was asked for already. Raises LeaseLostError where the finished step is not open.
    """
    record = state.record
    if record.terminal:
        return None
    open_message = any(s.kind == "model" and s.number in state.claimed for s in record.steps)
    if not holding and (state.live or open_message):
        return AbortRequest(reason, by, now) if record.abort is None else None
    if message is None and any(step.tries for step in record.steps):
        message = _unwritten(record, now)
    asked = record.abort or AbortRequest(reason, by, now)
    draft = Draft(state, now)
    if message is not None:
        draft.set(usage=add_usage(record.usage, message.usage))
    if finished is not None and asked.keeps(finished[1].timestamp):
        step, result, executed = finished
        draft.finish_step(step, result, executed=executed)
    end(draft, Status.ABORTED, RunError("aborted", asked.reason or "the run was aborted"), message, by=asked.by)
    return draft.change()


def _unwritten(record: RunRecord, now: int) -> AssistantMessage:
    """Make what stands for the message that a model call, waiting for another try, never wrote."""
    provider, _, model = record.model.partition(":")
    return AssistantMessage(
        content=[],
        api="",
        provider=provider,
        model=model,
        usage=Usage.of(),
        stop_reason="aborted",
        timestamp=now,
    )


def fail(state: RunState, code: str, text: str, now: int, *, message: AssistantMessage | None = None) -> Change:
    """End a run as failed, with `code` and `text` as its error.

    `message`: the open assistant message, where there is one.
    """
    draft = Draft(state, now)
    if message is not None:
        draft.set(usage=add_usage(state.record.usage, message.usage))
    end(draft, Status.FAILED, RunError(code, text), message)
    return draft.change()

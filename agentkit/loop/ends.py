"""The transitions that end a run before its work is done."""

from __future__ import annotations

from agentkit.core.messages import AssistantMessage, Json, add_usage, zero_usage
from agentkit.core.record import Change, RunRecord, RunState, Status
from agentkit.loop.draft import Draft, finish_step

__all__ = ["abort", "fail"]


def abort(
    state: RunState,
    reason: str | None,
    now: int,
    *,
    holding: bool = False,
    message: AssistantMessage | None = None,
    finished: tuple[int, Json, bool] | None = None,
) -> Change | None:
    """Abort a run; None where it has ended or is being aborted already.

    Where a worker holds a step, the wish is recorded and the worker ends the run; `holding` says that the
    caller is that worker, with the open assistant `message` as far as it came, or with the tool step that it
    has `finished`: its number, its result, and whether its execution start is in the log.
    """
    record = state.record
    if record.terminal:
        return None
    draft = Draft(state, now)
    open_message = any(s.kind == "model" and s.number in state.claimed for s in record.steps)
    if not holding and (state.live or open_message):
        if record.abort is not None:
            return None
        draft.set(abort={"reason": reason})
        return draft.change()
    if message is None and any(step.tries for step in record.steps):
        message = _unwritten(record, now)
    asked = record.abort or {"reason": reason}
    error: Json = {"code": "aborted", "message": asked["reason"] or "the run was aborted"}
    if message is not None:
        draft.set(usage=add_usage(record.usage, message["usage"]))
    if finished is not None:
        step, result, executed = finished
        finish_step(draft, step, result, executed=executed)
    draft.end(Status.ABORTED, error, message)
    return draft.change()


def _unwritten(record: RunRecord, now: int) -> AssistantMessage:
    """What stands for the message that a model call, waiting for another try, never wrote."""
    provider, _, model = record.model.partition(":")
    return AssistantMessage(
        role="assistant", content=[], api="", provider=provider, model=model,
        usage=zero_usage(), stopReason="aborted", timestamp=now,
    )  # fmt: skip


def fail(state: RunState, code: str, text: str, now: int, *, message: AssistantMessage | None = None) -> Change:
    """End the run as failed. `message`: the open assistant message, where there is one."""
    draft = Draft(state, now)
    if message is not None:
        draft.set(usage=add_usage(state.record.usage, message["usage"]))
    draft.end(Status.FAILED, {"code": code, "message": text}, message)
    return draft.change()

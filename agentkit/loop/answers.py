"""The transitions of a run that waits: a pending item is answered, or its time is moved or runs out.

Rules that this module alone knows:

1. Which item an answer is for, and which answers an item takes.
2. An answer is checked against the schema that was shown, before anything changes.
3. Answered calls continue together, when no other call of their turn is pending any more.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from agentkit.agents import BoundAgent
from agentkit.core.messages import Json
from agentkit.core.record import Change, RunRecord, RunState, Status
from agentkit.errors import (
    DecisionAmbiguousError,
    DecisionExpiredError,
    DecisionNotFoundError,
    DecisionValidationError,
    InputValidationError,
    InvalidRequestError,
    RunNotPausedError,
    ToolNotRegisteredError,
)
from agentkit.loop.draft import Draft
from agentkit.schema.check import compile_schema
from agentkit.tools import Tool, to_result

__all__ = ["Answer", "client_result", "expire", "extend", "find_pending", "not_pending", "resolve"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an outsider gives for a pending item.

    `value` is the decision, `{reason}` of a rejection, or `client_result` of a client-side tool. `input`, where
    not None, replaces the tool's arguments. `decided_by` tells who; it is recorded, not compared.
    """

    kind: Literal["decision", "reject", "result"]
    value: Any
    input: Json | None = None
    decided_by: str | None = None

    def stored(self) -> Json:
        """The answer without its giver: two answers are the same where this is."""
        stored: Json = {self.kind: self.value}
        if self.input is not None:
            stored["input"] = self.input
        return stored

    def same_as(self, stored: Json | None) -> bool:
        return _canonical(self.stored()) == _canonical(stored)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def find_pending(record: RunRecord, *, tool_call_id: str | None, decision_id: str | None) -> int | None:
    """The index of the call whose pending item is meant; None if the ids name no pending item.

    Raises RunNotPausedError without ids where nothing is pending, DecisionAmbiguousError where several are.
    """
    asked = record.calls if record.abort is None else ()  # what is being aborted takes no more answers
    pending = {i: cast(Json, c.item) for i, c in enumerate(asked) if c.state == "pending"}
    if tool_call_id is None and decision_id is None:
        if not pending:
            raise RunNotPausedError(f"nothing is pending: the run is {record.status}")
        if len(pending) > 1:
            raise DecisionAmbiguousError(
                "several items are pending, name one by decisionId: "
                + ", ".join(f"{item['decisionId']} ({item['toolName']})" for item in pending.values())
            )
        return next(iter(pending))
    for index, item in pending.items():
        if decision_id in (None, item["decisionId"]) and tool_call_id in (None, item["toolCallId"]):
            return index
    return None


def not_pending(record: RunRecord) -> Exception:
    """The error for ids that name no item, pending or answered."""
    if record.terminal or record.abort is not None or not record.pending:
        return RunNotPausedError(f"nothing is pending: the run is {record.status}")
    return DecisionNotFoundError("the run has no pending item of this id")


def resolve(state: RunState, index: int, answer: Answer, tool: Tool | None, parallel: bool, now: int) -> Change:
    """Answer the pending item of the call at `index`.

    `tool`: as the application knows it now. Raises, and so consumes nothing: ToolNotRegisteredError,
    DecisionExpiredError, DecisionValidationError, InputValidationError, InvalidRequestError.
    """
    call = state.record.calls[index]
    item = cast(Json, call.item)
    _check_in_time(item, now)
    if tool is None:
        raise ToolNotRegisteredError(
            f"the application has no tool {call.name!r} any more; the run stays paused: deploy the tool, then resume"
        )
    _check(item, answer, tool)
    draft = Draft(state, now)
    draft.resolve_item(
        index,
        "rejected" if answer.kind == "reject" else "decided",
        answer.stored(),
        decision=answer.value if answer.kind == "decision" else None,
        reason=answer.value["reason"] if answer.kind == "reject" else None,
        input=answer.input,
        decidedBy=answer.decided_by,
    )
    if answer.input is not None:
        draft.set_call(index, args=answer.input)
    _answer_call(draft, index, answer.stored(), tool if answer.kind == "decision" else None)
    _continue(draft, parallel)
    return draft.change()


def expire(state: RunState, agent: BoundAgent | None, now: int) -> Change | None:
    """Apply `on_expire` to the items whose time is over; None where there are none.

    `agent`: as this process knows it; None where it does not.
    """
    draft = Draft(state, now)
    overdue = [
        (index, call.on_expire)
        for index, call in enumerate(state.record.calls)
        if call.state == "pending" and call.item and call.item.get("expiresAt", now + 1) <= now
    ]
    if not overdue:
        return None
    for index, on_expire in overdue:
        item = cast(Json, state.record.calls[index].item)
        if on_expire == "abort":
            draft.resolve_item(index, "expired", None)
            error: Json = {"code": "expired", "message": f"nobody answered {item['toolName']!r} in time"}
            draft.end(Status.ABORTED, error)
            return draft.change()
        if on_expire == "reject":
            draft.resolve_item(index, "expired", None, reason="nobody answered in time")
            _answer_call(draft, index, {"reject": {"reason": "nobody answered in time"}}, None)
        else:
            draft.resolve_item(index, "expired", None, decision=on_expire)
            _answer_call(draft, index, {"decision": on_expire}, agent.tool(item["toolName"]) if agent else None)
    _continue(draft, agent.agent.parallel_tool_calls if agent else True)
    return draft.change()


def extend(state: RunState, index: int, by: float, now: int) -> Change:
    """Move the time at which the pending item of the call at `index` expires, by `by` seconds from where it is.

    No event tells of it: the item shows it. Raises, and changes nothing: DecisionExpiredError, InvalidRequestError
    for an item that never expires.
    """
    item = cast(Json, state.record.calls[index].item)
    _check_in_time(item, now)
    if "expiresAt" not in item:
        raise InvalidRequestError(f"the pending item of {item['toolName']!r} never expires: it waits anyway")
    draft = Draft(state, now)
    draft.set_call(index, item={**item, "expiresAt": item["expiresAt"] + math.ceil(by * 1000)})
    return draft.change()


def _check_in_time(item: Json, now: int) -> None:
    if "expiresAt" in item and now >= item["expiresAt"]:
        name = item["toolName"]
        raise DecisionExpiredError(f"the time to decide on {name!r} is over; what happens then is under way")


def _check(item: Json, answer: Answer, tool: Tool) -> None:
    kind = item["kind"]
    if answer.kind == "reject":
        return
    if (kind == "client_execute") != (answer.kind == "result"):
        wanted = "result" if kind == "client_execute" else "decision"
        raise InvalidRequestError(f"a pending {kind} is answered by {wanted!r} or 'reject', not by {answer.kind!r}")
    if answer.input is not None and kind != "decision":
        raise InvalidRequestError("input can replace the arguments only before the tool executes")
    if answer.input is not None and (problems := tool.input_problems(answer.input)):
        raise InputValidationError(problems)
    if answer.kind == "decision" and (
        problems := compile_schema(item["schema"], f"the decision of {item['toolName']}").problems(answer.value)
    ):
        raise DecisionValidationError(problems)


def client_result(value: Any) -> Json:
    """The result that a client gives: any JSON, content blocks, or {content, isError?, details?}."""
    is_error, details = False, None
    if isinstance(value, dict) and "content" in value and value.keys() <= {"content", "isError", "details"}:
        is_error, details, value = bool(value.get("isError", False)), value.get("details"), value["content"]
    result: Json = {"content": to_result(value).content, "isError": is_error}
    if details is not None:
        result["details"] = details
    return result


def _answer_call(draft: Draft, index: int, answer: Json, client_tool: Tool | None) -> None:
    """Give a call its answer; a client-side tool that was decided on now waits for the client."""
    call = draft.record.calls[index]
    item = cast(Json, call.item)
    if client_tool is not None and client_tool.runs == "client":
        draft.pend_client(index, client_tool)
    else:
        if item["kind"] == "in_doubt" and "decision" in answer:
            answer = {**(call.answer or {}), "verdict": answer["decision"]}
        draft.set_call(index, state="answered", answer=answer)  # on_expire stays: the call may be asked again


def _continue(draft: Draft, parallel: bool) -> None:
    """Go on once nothing is pending any more."""
    if draft.record.asks:
        return
    if draft.record.status is Status.PAUSED:
        draft.unpause([call.id for call in draft.record.calls if call.state == "answered"])
    draft.advance(parallel)

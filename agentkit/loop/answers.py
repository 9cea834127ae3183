"""The transitions of a run that waits: a pending item is answered, or its time is moved or runs out.

Rules that this module alone knows:

1. Which item an answer is for, and which answers an item takes: what several principals must decide, of each a vote.
2. An answer is checked against the schema that was shown, before anything changes.
3. Answered calls continue together, when no other call of their turn is pending any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import UNSET
from msgspec.structs import replace

from agentkit.agents import BoundAgent
from agentkit.core.calls import ClientResult, Extension, ItemAnswer, Rejection, Verdict
from agentkit.core.events import PendingItem, RunError
from agentkit.core.messages import Json
from agentkit.core.record import Change, RunRecord, RunState, Status
from agentkit.core.struct import canonical, check, refusal
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
from agentkit.loop.calls import item_of, which_item
from agentkit.loop.draft import Draft
from agentkit.loop.flow import advance, end, unpause
from agentkit.loop.votes import add_vote, check_voter, late_reason, vote_event
from agentkit.results import to_result
from agentkit.schema.check import compile_schema
from agentkit.tools import Tool

__all__ = ["Answer", "client_result", "expire", "extend", "find_pending", "not_pending", "resolve"]

MAX_EXTENSIONS = 20
"""How many times that an item was given are remembered: the last ones."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an outsider gives for a pending item.

    `value` is the decision (any JSON), the Rejection, or the ClientResult of a client-side tool, the latter two also
    as their JSON. `input`, where not None, replaces the tool's arguments. `decided_by` is who answers, and `remember`
    whether later calls of the tool in the run are answered alike; they are recorded, not compared.
    """

    kind: Literal["decision", "reject", "result"]
    value: Any
    input: Json | None = None
    decided_by: str | None = None
    remember: bool = False

    def stored(self) -> ItemAnswer:
        """Return the answer without its giver: two answers are the same where this is.

        Raises InvalidRequestError where `value` is no Rejection or ClientResult, and should be.
        """
        if self.kind == "reject":
            return ItemAnswer(reject=check(self.value, Rejection, "reject"), input=self.input)
        if self.kind == "result":
            return ItemAnswer(result=check(self.value, ClientResult, "result"), input=self.input)
        return ItemAnswer(decision=self.value, input=self.input)

    def same_as(self, stored: ItemAnswer | None) -> bool:
        """Whether this is the answer that was stored, compared as canonical JSON."""
        return canonical(self.stored()) == canonical(stored)


def find_pending(record: RunRecord, *, tool_call_id: str | None, decision_id: str | None) -> int | None:
    """Find the index of the call whose pending item is meant; None if the ids name no pending item.

    Raises RunNotPausedError without ids where nothing is pending, and DecisionAmbiguousError without a `decision_id`
    where several may be meant.
    """
    asked = record.indexed_calls if record.abort is None else ()  # what is being aborted takes no more answers
    pending = {index: item_of(call) for index, call in asked if call.state == "pending"}
    if tool_call_id is None and decision_id is None and not pending:
        raise RunNotPausedError(f"nothing is pending: the run is {record.status}")
    meant = {
        index: item
        for index, item in pending.items()
        if decision_id in (None, item.decision_id) and tool_call_id in (None, item.tool_call_id)
    }
    if len(meant) > 1:
        raise DecisionAmbiguousError(which_item(list(meant.values())))
    return next(iter(meant), None)


def not_pending(record: RunRecord) -> Exception:
    """Make the error for ids that name no item, pending or answered."""
    if record.terminal or record.abort is not None or not record.pending:
        return RunNotPausedError(f"nothing is pending: the run is {record.status}")
    return DecisionNotFoundError("the run has no pending item of this id")


def resolve(state: RunState, index: int, answer: Answer, tool: Tool | None, parallel: bool, now: int) -> Change | None:
    """Answer the pending item of the call at `index`; the run goes on where nothing else of its own is pending.

    Of an item that needs several principals, only the last vote answers it; None where the caller has voted already.
    `tool`: as the application knows it now. `parallel`: whether several calls of a turn may be executed at once.
    Raises, and so consumes nothing: ToolNotRegisteredError, ForbiddenError, DecisionExpiredError,
    DecisionValidationError, DecisionConflictError, InputValidationError, InvalidRequestError.
    """
    call = state.record.call(index)
    item = item_of(call)
    _check_in_time(item, now)
    if tool is None:
        raise ToolNotRegisteredError(
            f"the application has no tool {call.name!r} any more; the run stays paused: deploy the tool, then resume"
        )
    voter = check_voter(item, answer.decided_by, state.record.owner, tool)
    _check(item, answer, tool, is_inquiry=call.inquiry is not None)
    stored, remember = answer.stored(), answer.remember
    draft = Draft(state, now)
    if voter is not None and answer.kind == "decision":
        voted = add_vote(item, voter, stored, remember, now)
        if voted is None:
            return None
        draft.set_call(index, item=voted)
        if (event := vote_event(voted)) is not None:
            draft.emit(event)
            return draft.change()
        remember = voted.proposal is not None and voted.proposal.remember
    draft.resolve_item(
        index,
        "rejected" if stored.reject else "decided",
        stored,
        decision=answer.value if answer.kind == "decision" else None,
        reason=stored.reject.reason if stored.reject else None,
        decided_by=answer.decided_by,
        remember=remember,
    )
    if answer.input is not None:
        draft.set_call(index, args=answer.input)
    _answer_call(draft, index, stored, tool if answer.kind == "decision" else None)
    _continue(draft, parallel)
    return draft.change()


def expire(state: RunState, agent: BoundAgent | None, now: int) -> Change | None:
    """Apply `on_expire` to the items whose time is over; None where there are none.

    `agent`: as this process knows it; None where it does not.
    """
    overdue = [
        (index, call.on_expire, call.item)
        for index, call in enumerate(state.record.calls)
        if call.state == "pending" and call.item and call.item.expires_at is not None and call.item.expires_at <= now
    ]
    if not overdue:
        return None
    draft = Draft(state, now)
    for index, on_expire, item in overdue:
        if on_expire == "abort":
            draft.resolve_item(index, "expired", None)
            end(draft, Status.ABORTED, RunError("expired", late_reason(item, f" {item.tool_name!r}")))
            return draft.change()
        if on_expire == "reject":
            reason = late_reason(item)
            draft.resolve_item(index, "expired", None, reason=reason)
            _answer_call(draft, index, ItemAnswer(reject=Rejection(reason)), None)
        else:
            draft.resolve_item(index, "expired", None, decision=on_expire)
            _answer_call(draft, index, ItemAnswer(decision=on_expire), agent.tool(item.tool_name) if agent else None)
    _continue(draft, agent.agent.parallel_tool_calls if agent else True)
    return draft.change()


def extend(state: RunState, index: int, by: float, now: int, *, caller: str | None = None) -> Change:
    """Move the time at which the pending item of the call at `index` expires, by `by` seconds from where it is.

    No event shows it: the item does, and later its resolution, with the `caller`. Raises, and changes nothing:
    DecisionExpiredError, InvalidRequestError for an item that never expires.
    """
    call = state.record.call(index)
    item = item_of(call)
    _check_in_time(item, now)
    if item.expires_at is None:
        raise InvalidRequestError(f"the pending item of {item.tool_name!r} never expires: it waits anyway")
    draft = Draft(state, now)
    later = replace(item, expires_at=item.expires_at + math.ceil(by * 1000))
    draft.set_call(index, item=later, extensions=(*call.extensions, Extension(by, now, caller))[-MAX_EXTENSIONS:])
    return draft.change()


def _check_in_time(item: PendingItem, now: int) -> None:
    if item.expires_at is not None and now >= item.expires_at:
        name = item.tool_name
        raise DecisionExpiredError(f"the time to decide on {name!r} is over; what happens then is under way")


def _check(item: PendingItem, answer: Answer, tool: Tool, *, is_inquiry: bool) -> None:
    if answer.remember and (item.kind != "decision" or not tool.remember or is_inquiry):
        raise refusal("remember", f"is for decisions on tools that are declared with it, not on {item.tool_name!r}")
    if answer.kind == "reject":
        return
    if (item.kind == "client_execute") != (answer.kind == "result"):
        wanted = "result" if item.kind == "client_execute" else "decision"
        raise InvalidRequestError(
            f"a pending {item.kind} is answered by {wanted!r} or 'reject', not by {answer.kind!r}"
        )
    if answer.input is not None and (item.kind != "decision" or is_inquiry):
        raise InvalidRequestError("input can replace the arguments only before the tool executes")
    if answer.input is not None and (problems := tool.input_problems(answer.input)):
        raise InputValidationError(problems)
    if answer.kind == "decision" and (
        problems := compile_schema(item.schema, f"the decision of {item.tool_name}").problems(answer.value)
    ):
        raise DecisionValidationError(problems)


def client_result(value: Any) -> ClientResult:
    """Read the result that a client gives: any JSON, content blocks, or {content, isError?, details?}.

    Raises TypeError or InvalidRequestError for what can be no part of a message.
    """
    is_error, details = False, None
    if isinstance(value, dict) and "content" in value and value.keys() <= {"content", "isError", "details"}:
        is_error, details, value = bool(value.get("isError", False)), value.get("details"), value["content"]
    return ClientResult(list(to_result(value).content), is_error, details)


def _answer_call(draft: Draft, index: int, answer: ItemAnswer, client_tool: Tool | None) -> None:
    """Give a call its answer; a client-side tool that was decided on now waits for the client."""
    call = draft.calls[index]
    if client_tool is not None and client_tool.runs == "client":
        draft.pend_client(index, client_tool)
        return
    if item_of(call).kind == "in_doubt" and answer.decision is not UNSET:
        answer = replace(call.answer or ItemAnswer(), verdict=check(answer.decision, Verdict, "decision"))
    draft.set_call(index, state="answered", answer=answer)  # on_expire stays: the call may be asked again


def _continue(draft: Draft, parallel: bool) -> None:
    """Go on once nothing is pending any more, of the run or of its sub-agents' runs."""
    if draft.waits:
        return
    draft.require_whole()
    if draft.record.status is Status.PAUSED:
        unpause(draft, [call.id for call in draft.calls.values() if call.state == "answered"])
    advance(draft, parallel)

"""A tool call by itself: its pending item, its result, and the events that show them.

Rule that this module alone knows: an execution's end is in the log if its start is, whoever writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.core.calls import Call, ItemAnswer
from agentkit.core.events import (
    Event,
    ItemKind,
    PendingItem,
    ToolClientExecutePending,
    ToolDecisionPending,
    ToolExecutionEnd,
    ToolExecutionResult,
    ToolInDoubt,
    Vote,
)
from agentkit.core.ids import new_id
from agentkit.core.messages import Json, TextBlock, ToolResultMessage
from agentkit.core.struct import encode
from agentkit.results import CheckedResult, InputRequired, error_result
from agentkit.schema.check import compile_schema
from agentkit.tools import Tool

__all__ = [
    "IN_DOUBT_SCHEMA",
    "Question",
    "RememberedAnswer",
    "bounded",
    "call_end",
    "check_inquiry",
    "error_message",
    "execution_end",
    "item_of",
    "new_item",
    "pending_event",
    "result_message",
    "settles",
    "which_item",
]

IN_DOUBT_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["retry", "done", "failed"], "description": "What to do, or what has happened."},
        "result": {"type": "string", "description": "The tool's result, or what went wrong."},
    },
    "required": ["verdict"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a call. The fields that are not named here are those of the pending item.

    `timeout`: seconds that are left for it, None for no end. `on_expire`: what then counts.
    """

    kind: ItemKind
    schema: Json
    timeout: float | None = None
    on_expire: Any = None
    reason: str | None = None
    approvals: int | None = None
    remember: bool = False

    @classmethod
    def of(cls, tool: Tool, reason: str | None = None) -> Question:
        """Ask for the decision that a tool declares."""
        assert tool.decision is not None
        return cls(
            kind="decision",
            schema=tool.decision,
            timeout=tool.decision_timeout,
            on_expire=tool.on_expire,
            reason=reason,
            approvals=tool.approvals if tool.approvals > 1 else None,
            remember=tool.remember,
        )


@dataclass(frozen=True, slots=True)
class RememberedAnswer:
    """An answer that counts for another call than the one that it was given for; `decided_at` in milliseconds."""

    answer: ItemAnswer
    decided_by: str | None
    decided_at: int | None
    votes: tuple[Vote, ...] = ()


MAX_INQUIRIES = 10
"""How often a tool may ask in one call."""
MAX_MEMO_BYTES = 65_536
MAX_QUESTION_BYTES = 16_384


def check_inquiry(call: Call, required: InputRequired) -> str | None:
    """Say what is wrong with what a tool asks in the middle of a call; None if nothing is.

    Raises ConfigurationError for a schema that is none.
    """
    if call.inquiry is not None and call.inquiry.rounds >= MAX_INQUIRIES:
        return f"it has asked {MAX_INQUIRIES} times already"
    if len(encode(required.memo)) > MAX_MEMO_BYTES:
        return f"its memo has more than {MAX_MEMO_BYTES} bytes"
    if len(encode([required.message, required.schema])) > MAX_QUESTION_BYTES:
        return f"its question has more than {MAX_QUESTION_BYTES} bytes"
    compile_schema(required.schema, "the schema of its answer")
    return None


def new_item(call: Call, question: Question, now: int) -> PendingItem:
    """Make the item by which a question about a call is asked. `now`: milliseconds."""
    return PendingItem(
        decision_id=new_id(now),
        tool_call_id=call.id,
        tool_name=call.name,
        kind=question.kind,
        input=call.args,
        schema=question.schema,
        created_at=now,
        expires_at=None if question.timeout is None else now + round(question.timeout * 1000),
        reason=question.reason,
        approvals=question.approvals,
        votes=None if question.approvals is None else [],
        remember=question.remember,
    )


def item_of(call: Call) -> PendingItem:
    """Return the item that a call waits for, or waited for until it was answered."""
    assert call.item is not None, f"the call {call.id} waits for nothing"
    return call.item


def which_item(items: Sequence[PendingItem]) -> str:
    """Say that several pending items may be meant, and what they are."""
    named = ", ".join(f"{item.decision_id} ({item.tool_name})" for item in items)
    return f"which item is meant? Name it by decisionId: {named}"


def settles(answer: ItemAnswer | None) -> bool:
    """Whether an answer leaves nothing to be executed, and no execution to be announced."""
    return answer is not None and (answer.reject is not None or answer.result is not None)


def pending_event(run_id: str, item: PendingItem) -> Event:
    """Make the event that shows a pending item."""
    shown: Json = {
        "run_id": run_id,
        "tool_call_id": item.tool_call_id,
        "tool_name": item.tool_name,
        "input": item.input,
        "decision_id": item.decision_id,
        "expires_at": item.expires_at,
        "reason": item.reason,
    }
    if item.kind == "client_execute":
        return ToolClientExecutePending(**shown)
    if item.kind == "in_doubt":
        return ToolInDoubt(**shown, schema=item.schema)
    return ToolDecisionPending(
        **shown, schema=item.schema, approvals=item.approvals, votes=item.votes, remember=item.remember
    )


def result_message(call: Call, result: CheckedResult, now: int) -> ToolResultMessage:
    """Make the message of what a call came to. `now`: when it ended, in milliseconds."""
    return ToolResultMessage(
        tool_call_id=call.id,
        tool_name=call.name,
        content=result.content,
        is_error=result.is_error,
        timestamp=now,
        details=result.details,
    )


def bounded(result: CheckedResult, source: str, most: int) -> CheckedResult:
    """Return the result, or an error result in its place where it has more than `most` bytes as JSON.

    `source`: where it comes from, say "the tool 'x' was executed, but its result".
    """
    size = sum(len(block.text if isinstance(block, TextBlock) else block.data or "") for block in result.content)
    if size <= most:  # else it is too large in characters alone, and need not be written
        size = len(encode([result.content, result.details]))
    if size <= most:
        return result
    text = f"{source} of {size} bytes is over the bound of {most} bytes (AGENTKIT_MAX_RESULT_BYTES), and was left out"
    return error_result(text)


def error_message(call: Call, text: str, now: int) -> ToolResultMessage:
    """Make the message that shows the model what went wrong with a call."""
    return result_message(call, error_result(text), now)


def execution_end(result: ToolResultMessage) -> ToolExecutionEnd:
    """Make the event that ends an execution with `result`."""
    return ToolExecutionEnd(
        tool_call_id=result.tool_call_id,
        tool_name=result.tool_name,
        result=ToolExecutionResult(content=result.content, details=result.details),
        is_error=result.is_error,
    )


def call_end(call: Call, result: ToolResultMessage, executed: bool) -> ToolExecutionEnd | None:
    """Make the event that ends the execution of a call with `result`; None where the log has no start of one.

    `executed`: whether the step that ends has its execution start in the log. Pure, and all that a store needs to
    end a call beside others without the rest of the run.
    """
    return execution_end(result) if executed or call.started else None

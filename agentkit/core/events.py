"""The events of a run: one structure each, and how a log folds back into messages.

`seq` and `timestamp` are not set here: the store gives them in the same act that appends the event, so that they are
the log's own. Where a message stands in the run's list of messages, the stored event refers to it instead of holding a
copy (`stored_at`); the store puts the message in its place when the event is read or published. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

import msgspec

from agentkit.core import strictjson
from agentkit.core.messages import (
    AssistantMessage,
    ContentBlock,
    Json,
    Message,
    QueuedMessage,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    Usage,
)
from agentkit.core.struct import Value, Wire, decode

__all__ = [
    "RUN_ERROR_CODES",
    "AgentEnd",
    "AgentPause",
    "AgentResume",
    "AgentStart",
    "AssistantMessageEvent",
    "Event",
    "ItemKind",
    "MessageDiscard",
    "MessageEnd",
    "MessageStart",
    "MessageUpdate",
    "ModelRetry",
    "ModelWait",
    "PendingItem",
    "Proposal",
    "RunError",
    "ToolClientExecutePending",
    "ToolDecisionPending",
    "ToolDecisionResolved",
    "ToolDecisionVote",
    "ToolExecutionEnd",
    "ToolExecutionResult",
    "ToolExecutionStart",
    "ToolExecutionUpdate",
    "ToolInDoubt",
    "TurnEnd",
    "TurnStart",
    "Vote",
    "fold",
    "open_message",
    "read_event",
    "stored_at",
]

ItemKind = Literal["decision", "client_execute", "in_doubt"]
Outcome = Literal["decided", "rejected", "expired"]


RUN_ERROR_CODES = frozenset(
    {
        "aborted",
        "expired",
        "limit_cost",
        "limit_time",
        "limit_tokens",
        "limit_turns",
        "provider_error",
        "step_failed",
    }
)


class RunError(Wire):
    """Why a run failed or was aborted.

    `code`: aborted, limit_turns, limit_tokens, limit_cost, limit_time, provider_error, step_failed or expired.
    """

    code: str
    message: str


class Vote(Value, frozen=True):
    """One principal's answer to an item that several must answer alike. `decided_at`: milliseconds."""

    decided_by: str
    decided_at: int


class Proposal(Wire):
    """What the votes on an item have in common, and another must give too to be one of them.

    `input`: the arguments as they were edited. `remember`: all of them want the answer remembered.
    """

    decision: Any
    input: Json | None = None
    remember: bool = False


class PendingItem(Wire):
    """One thing that a paused run waits for. Times are milliseconds since the Unix epoch.

    `run_id` is there on a parent's list alone: the run of the sub-agent that waits. `reason`: why it is asked, or asked
    again, where there is more to say than that the tool needs it. `approvals`: how many principals must give the same
    decision, where it is more than one; `votes` are those that have, and `proposal` what they gave. `remember`: whether
    an answer may be remembered for later calls of the tool in the run.
    """

    decision_id: str
    tool_call_id: str
    tool_name: str
    kind: ItemKind
    input: Json
    schema: Json
    created_at: int
    expires_at: int | None = None
    run_id: str | None = None
    reason: str | None = None
    approvals: int | None = None
    votes: list[Vote] | None = None
    proposal: Proposal | None = None
    remember: bool = False


class ToolExecutionResult(Wire):
    """What a tool call came to, as in the tool result message that follows."""

    content: list[ContentBlock]
    details: Any = None


UpdateType = Literal[
    "text_start",
    "text_delta",
    "text_end",
    "thinking_start",
    "thinking_delta",
    "thinking_end",
    "toolcall_start",
    "toolcall_delta",
    "toolcall_end",
]


class AssistantMessageEvent(Wire):
    """One piece of a message that streams; `delta` is what came, never the message so far."""

    type: UpdateType
    content_index: int
    delta: str | None = None
    tool_call: ToolCallBlock | None = None


class _Event(Wire, tag_field="type", kw_only=True):
    seq: int | None = None
    timestamp: int | None = None


class AgentStart(_Event, tag="agent_start"):
    """Once, first. `messages`: the history that the run was started with."""

    run_id: str
    agent: str
    messages: list[Message]


class AgentResume(_Event, tag="agent_resume"):
    """A worker continues a paused run."""

    run_id: str
    tool_call_ids: list[str]


class AgentPause(_Event, tag="agent_pause"):
    """The run has just become paused. `reason`: why it went back to that, where it did."""

    run_id: str
    pending: list[PendingItem]
    reason: str | None = None


class AgentEnd(_Event, tag="agent_end"):
    """Once, last. `by`: who aborted the run, where somebody was named.

    `unsent`: the messages that were sent into the run and came into no turn, where there are any.
    """

    run_id: str
    status: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["completed", "failed", "aborted"]})]
    usage: Usage
    error: RunError | None = None
    by: str | None = None
    unsent: list[QueuedMessage] | None = None


class TurnStart(_Event, tag="turn_start"):
    turn: int


class TurnEnd(_Event, tag="turn_end"):
    turn: int
    message: AssistantMessage
    tool_results: list[ToolResultMessage]


class MessageStart(_Event, tag="message_start"):
    """An assistant's message starts with empty content."""

    message: Message


class MessageUpdate(_Event, tag="message_update"):
    assistant_message_event: AssistantMessageEvent


class MessageEnd(_Event, tag="message_end"):
    """`by`: who sent a user message into the run while it went on, where somebody was named."""

    message: Message
    by: str | None = None


class MessageDiscard(_Event, tag="message_discard"):
    """The open message is void; another begins, or the run ends."""

    reason: str


class ModelRetry(_Event, tag="model_retry"):
    """A failed model call is tried again, as number `attempt`, in `delay_ms` milliseconds."""

    attempt: int
    max_attempts: int
    delay_ms: int
    error: str


class ModelWait(_Event, tag="model_wait"):
    """A model call waits for others: what all workers may ask of the model is used up. It holds no worker.

    It asks again in `delay_ms` milliseconds at the latest, and as soon as its turn has come.
    """

    reason: str
    delay_ms: int


class ToolExecutionStart(_Event, tag="tool_execution_start"):
    tool_call_id: str
    tool_name: str
    args: Json


class ToolExecutionUpdate(_Event, tag="tool_execution_update"):
    tool_call_id: str
    tool_name: str
    args: Json
    partial_result: Any


class ToolExecutionEnd(_Event, tag="tool_execution_end"):
    tool_call_id: str
    tool_name: str
    result: ToolExecutionResult
    is_error: bool


class ToolDecisionPending(_Event, tag="tool_decision_pending"):
    """A call needs a decision that satisfies `schema`. For the fields at the end see `PendingItem`."""

    run_id: str
    tool_call_id: str
    tool_name: str
    input: Json
    schema: Json
    decision_id: str
    expires_at: int | None = None
    reason: str | None = None
    approvals: int | None = None
    votes: list[Vote] | None = None
    remember: bool = False


class ToolClientExecutePending(_Event, tag="tool_client_execute_pending"):
    """A client is to execute the tool."""

    run_id: str
    tool_call_id: str
    tool_name: str
    input: Json
    decision_id: str
    expires_at: int | None = None
    reason: str | None = None


class ToolInDoubt(_Event, tag="tool_in_doubt"):
    """A worker died while a tool of effects "once" was executing: a person says what happened."""

    run_id: str
    tool_call_id: str
    tool_name: str
    input: Json
    schema: Json
    decision_id: str
    expires_at: int | None = None
    reason: str | None = None


class ToolDecisionVote(_Event, tag="tool_decision_vote"):
    """One of several principals has given the decision, and others must. Written in the act that counts it.

    `votes`: how many have, of the `approvals` that are needed. `decision`, `input`: what all of them gave.
    """

    tool_call_id: str
    decision_id: str
    decided_by: str
    votes: int
    approvals: int
    decision: Any
    input: Json | None = None
    remember: bool = False


class ToolDecisionResolved(_Event, tag="tool_decision_resolved"):
    """Written in the act that consumes the pending item, or admits a call by a remembered answer (`remembered`).

    `input`: the arguments as they were edited. `votes`: all that came before, the last one's among them, where several
    had to decide. `remember`: the answer is remembered for later calls of the tool in the run.
    """

    tool_call_id: str
    decision_id: str
    outcome: Outcome
    decision: Any = None
    reason: str | None = None
    input: Json | None = None
    decided_by: str | None = None
    votes: list[Vote] | None = None
    remember: bool = False
    remembered: bool = False


Event = (
    AgentStart
    | AgentResume
    | AgentPause
    | AgentEnd
    | TurnStart
    | TurnEnd
    | MessageStart
    | MessageUpdate
    | MessageEnd
    | MessageDiscard
    | ModelRetry
    | ModelWait
    | ToolExecutionStart
    | ToolExecutionUpdate
    | ToolExecutionEnd
    | ToolDecisionPending
    | ToolClientExecutePending
    | ToolInDoubt
    | ToolDecisionVote
    | ToolDecisionResolved
)


def read_event(data: bytes | str) -> Event:
    """Read one entry of a log. Raises msgspec.ValidationError for what is none."""
    event: Event = decode(data, Event)
    return event


# -- references


def stored_at(first: int, count: int = 1) -> Any:
    """Stand for the run's messages number `first` (from 0) and the `count - 1` after it in an event to be stored.

    In the event's JSON it is `\\x01first count\\x01`. No JSON text holds the byte 1 itself, so that nothing that
    anybody writes can be taken for a reference. The store replaces it by the messages, divided by commas.
    """
    return msgspec.Raw(b"\x01%d %d\x01" % (first, count))


# -- folding


def fold(events: Iterable[Event]) -> list[Message]:
    """Fold a log into the messages of its run: the folding law."""
    messages: list[Message] = []
    for event in events:
        if isinstance(event, AgentStart):
            messages += event.messages
        elif isinstance(event, MessageEnd):
            messages.append(event.message)
    return messages


def open_message(events: Iterable[Event]) -> tuple[AssistantMessage, list[Event]] | None:
    """Find the assistant message that a log leaves open, as far as it had streamed; None if none is open.

    With it come the updates that end its open blocks. Arguments of a tool call that was cut are its `raw_arguments`.
    """
    message: AssistantMessage | None = None
    blocks_open: set[int] = set()
    for event in events:
        match event:
            case MessageStart(message=AssistantMessage() as started):
                message, blocks_open = started, set()
            case MessageUpdate(assistant_message_event=update) if message is not None:
                _apply(message.content, update)
                if update.type.endswith("_start"):
                    blocks_open.add(update.content_index)
                elif update.type.endswith("_end"):
                    blocks_open.discard(update.content_index)
            case MessageEnd() | MessageDiscard():
                message = None
    if message is None:
        return None
    for block in message.content:
        if isinstance(block, ToolCallBlock):
            _parse_arguments(block)
    ends = [_end_of(message.content[at], at) for at in sorted(blocks_open)]
    return message, [MessageUpdate(assistant_message_event=end) for end in ends]


def _end_of(block: TextBlock | ThinkingBlock | ToolCallBlock, at: int) -> AssistantMessageEvent:
    if isinstance(block, ToolCallBlock):
        return AssistantMessageEvent("toolcall_end", at, tool_call=block)
    return AssistantMessageEvent("text_end" if isinstance(block, TextBlock) else "thinking_end", at)


def _apply(content: list[TextBlock | ThinkingBlock | ToolCallBlock], update: AssistantMessageEvent) -> None:
    at = update.content_index
    match update.type:
        case "text_start":
            content.insert(at, TextBlock(""))
        case "thinking_start":
            content.insert(at, ThinkingBlock(""))
        case "toolcall_start":
            content.insert(at, cast(ToolCallBlock, update.tool_call))
        case "toolcall_end":
            content[at] = cast(ToolCallBlock, update.tool_call)
        case "text_delta" | "thinking_delta" | "toolcall_delta":
            _append(content[at], update.delta or "")


def _append(block: TextBlock | ThinkingBlock | ToolCallBlock, delta: str) -> None:
    match block:
        case TextBlock():
            block.text += delta
        case ThinkingBlock():
            block.thinking += delta
        case ToolCallBlock():
            block.raw_arguments = (block.raw_arguments or "") + delta


def _parse_arguments(block: ToolCallBlock) -> None:
    if block.raw_arguments is None:
        return
    try:
        arguments = strictjson.loads(block.raw_arguments)
    except ValueError:
        return
    if isinstance(arguments, dict):
        block.arguments = arguments
        block.raw_arguments = None

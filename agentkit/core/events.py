"""The events of a run: how each is made, and how a log folds back into messages.

An event is a JSON object; `type` says which. `seq` and `timestamp` are not set here: the store
gives them in the same act that appends the event, so that they are the log's own. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from agentkit.core import strictjson
from agentkit.core.messages import AssistantMessage, Json, Message, Usage

__all__ = [
    "Event",
    "agent_end",
    "agent_pause",
    "agent_resume",
    "agent_start",
    "fold",
    "message_discard",
    "message_end",
    "message_start",
    "message_update",
    "model_retry",
    "open_message",
    "tool_client_execute_pending",
    "tool_decision_pending",
    "tool_decision_resolved",
    "tool_execution_end",
    "tool_execution_start",
    "tool_execution_update",
    "tool_in_doubt",
    "turn_end",
    "turn_start",
]

Event = Json


def agent_start(run_id: str, agent: str, messages: Sequence[Message]) -> Event:
    return {"type": "agent_start", "runId": run_id, "agent": agent, "messages": list(messages)}


def agent_resume(run_id: str, tool_call_ids: Sequence[str]) -> Event:
    return {"type": "agent_resume", "runId": run_id, "toolCallIds": list(tool_call_ids)}


def agent_pause(run_id: str, pending: Sequence[Json], reason: str | None = None) -> Event:
    """`reason` is there only where the run went back to paused, and says why."""
    event: Event = {"type": "agent_pause", "runId": run_id, "pending": list(pending)}
    if reason is not None:
        event["reason"] = reason
    return event


def agent_end(run_id: str, status: str, usage: Usage, error: Json | None) -> Event:
    event: Event = {"type": "agent_end", "runId": run_id, "status": status, "usage": usage}
    if error is not None:
        event["error"] = error
    return event


def turn_start(turn: int) -> Event:
    return {"type": "turn_start", "turn": turn}


def turn_end(turn: int, message: Message, tool_results: Sequence[Message]) -> Event:
    return {"type": "turn_end", "turn": turn, "message": message, "toolResults": list(tool_results)}


def message_start(message: Message) -> Event:
    return {"type": "message_start", "message": message}


def message_update(assistant_message_event: Json) -> Event:
    return {"type": "message_update", "assistantMessageEvent": assistant_message_event}


def message_end(message: Message) -> Event:
    return {"type": "message_end", "message": message}


def message_discard(reason: str) -> Event:
    return {"type": "message_discard", "reason": reason}


def model_retry(attempt: int, max_attempts: int, delay_ms: int, error: str) -> Event:
    return {
        "type": "model_retry",
        "attempt": attempt,
        "maxAttempts": max_attempts,
        "delayMs": delay_ms,
        "error": error,
    }


def tool_execution_start(call_id: str, name: str, args: Json) -> Event:
    return {"type": "tool_execution_start", "toolCallId": call_id, "toolName": name, "args": args}


def tool_execution_update(call_id: str, name: str, args: Json, partial: Any) -> Event:
    return {
        "type": "tool_execution_update",
        "toolCallId": call_id,
        "toolName": name,
        "args": args,
        "partialResult": partial,
    }


def tool_execution_end(call_id: str, name: str, result: Json, is_error: bool) -> Event:
    """`result` is `{content, details?}`, as in the tool result message that follows."""
    return {
        "type": "tool_execution_end",
        "toolCallId": call_id,
        "toolName": name,
        "result": result,
        "isError": is_error,
    }


def tool_decision_pending(run_id: str, item: Mapping[str, Any], reason: str | None = None) -> Event:
    return _pending("tool_decision_pending", run_id, item, reason, ("schema",))


def tool_client_execute_pending(run_id: str, item: Mapping[str, Any], reason: str | None = None) -> Event:
    return _pending("tool_client_execute_pending", run_id, item, reason, ())


def tool_in_doubt(run_id: str, item: Mapping[str, Any], reason: str | None = None) -> Event:
    return _pending("tool_in_doubt", run_id, item, reason, ("schema",))


def _pending(kind: str, run_id: str, item: Mapping[str, Any], reason: str | None, more: Sequence[str]) -> Event:
    """`reason`: why the item is asked again; None is left out."""
    event: Event = {"type": kind, "runId": run_id}
    for key in ("toolCallId", "toolName", "input", *more, "decisionId"):
        event[key] = item[key]
    if "expiresAt" in item:
        event["expiresAt"] = item["expiresAt"]
    if reason is not None:
        event["reason"] = reason
    return event


def tool_decision_resolved(call_id: str, decision_id: str, outcome: str, **details: Any) -> Event:
    """`outcome`: decided, rejected or expired. `details`: decision, reason, input, decidedBy; None is left out."""
    event: Event = {
        "type": "tool_decision_resolved",
        "toolCallId": call_id,
        "decisionId": decision_id,
        "outcome": outcome,
    }
    event.update({key: value for key, value in details.items() if value is not None})
    return event


# -- folding ---------------------------------------------------------------------------------------


def fold(events: Iterable[Event]) -> list[Message]:
    """The folding law: the messages of a run, from its log alone."""
    messages: list[Message] = []
    for event in events:
        if event["type"] == "agent_start":
            messages += event["messages"]
        elif event["type"] == "message_end":
            messages.append(event["message"])
    return messages


def open_message(events: Iterable[Event]) -> tuple[AssistantMessage, list[Event]] | None:
    """The assistant message that a log leaves open, as far as it had streamed; None if none is open.

    With it the updates that end its open blocks. Arguments of a tool call that was cut are kept as `rawArguments`.
    """
    message: Json | None = None
    blocks_open: set[int] = set()
    for event in events:
        match event["type"]:
            case "message_start" if event["message"]["role"] == "assistant":
                message, blocks_open = copy.deepcopy(event["message"]), set()
            case "message_update" if message is not None:
                update = event["assistantMessageEvent"]
                _apply(message["content"], update)
                if update["type"].endswith("_start"):
                    blocks_open.add(update["contentIndex"])
                elif update["type"].endswith("_end"):
                    blocks_open.discard(update["contentIndex"])
            case "message_end" | "message_discard":
                message = None
    if message is None:
        return None
    for block in message["content"]:
        if block["type"] == "toolCall" and "rawArguments" in block:
            _settle(block)
    ends = [message_update(_end_of(message["content"][at], at)) for at in sorted(blocks_open)]
    return cast(AssistantMessage, message), ends


def _end_of(block: Json, at: int) -> Json:
    if block["type"] == "toolCall":
        return {"type": "toolcall_end", "contentIndex": at, "toolCall": dict(block)}
    return {"type": f"{block['type']}_end", "contentIndex": at}


def _apply(content: list[Json], update: Json) -> None:
    kind, phase = update["type"].rsplit("_", 1)
    at = update["contentIndex"]
    if phase == "start":
        block = dict(update["toolCall"]) if kind == "toolcall" else {"type": kind, kind: ""}
        content.insert(at, block)
    elif phase == "delta" and kind == "toolcall":
        content[at]["rawArguments"] = content[at].get("rawArguments", "") + update["delta"]
    elif phase == "delta":
        content[at][kind] += update["delta"]
    elif kind == "toolcall":
        content[at] = dict(update["toolCall"])


def _settle(block: Json) -> None:
    try:
        arguments = strictjson.loads(block["rawArguments"])
    except ValueError:
        return
    if isinstance(arguments, dict):
        block["arguments"] = arguments
        del block["rawArguments"]

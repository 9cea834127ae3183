"""What a run has, as AG-UI has it: messages, content and pending items as structures of the published package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from ag_ui import core

from agentkit.core.messages import Json
from agentkit.core.struct import dumps
from agentkit.wires.translator import text_of_blocks

__all__ = ["arguments_text", "interrupt_of", "messages_of", "shown_content"]


def interrupt_of(item: Json) -> core.Interrupt:
    """Make the interrupt of a pending item (docs/how-to/ag-ui.md).

    Its answer is the payload, its arguments may be edited.
    """
    kind, tool = item["kind"], item["toolName"]
    asked = {
        "decision": f"{tool} needs a decision",
        "client_execute": f"{tool} is to be executed by the client",
        "in_doubt": f"whether {tool} was executed is not known: a worker died meanwhile",
    }[kind]
    expires_at = item.get("expiresAt")
    keys = ("kind", "toolName", "input", "runId", "approvals", "votes", "remember")
    return core.Interrupt(
        id=item["decisionId"],
        reason="tool_call" if kind == "decision" else f"agentkit:{kind}",
        message=item.get("reason") or asked,
        tool_call_id=item["toolCallId"],
        response_schema=item["schema"],
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at / 1000, UTC).isoformat(),
        metadata={"agentkit": {key: item[key] for key in keys if key in item}},
    )


def messages_of(message: Json, own_id: str) -> Iterator[Any]:
    """Show a message of the run's: an assistant's with its reasoning before it."""
    match message["role"]:
        case "user":
            yield core.UserMessage(id=own_id, content=shown_content(message["content"]))
        case "toolResult":
            content = shown_content(message["content"])
            error = text_of_blocks(message["content"]) if message["isError"] else None
            yield core.ToolMessage(id=own_id, content=content, tool_call_id=message["toolCallId"], error=error)
        case "assistant":
            for index, block in enumerate(message["content"]):
                if block["type"] == "thinking":
                    yield core.ReasoningMessage(id=f"{own_id}-r{index}", content=block["thinking"])
            calls = [
                core.ToolCall(
                    id=block["id"], function=core.FunctionCall(name=block["name"], arguments=arguments_text(block))
                )
                for block in message["content"]
                if block["type"] == "toolCall"
            ]
            text = text_of_blocks(message["content"])
            if text or calls:
                yield core.AssistantMessage(id=own_id, content=text or None, tool_calls=calls or None)


def arguments_text(call: Json) -> str:
    raw: str | None = call.get("rawArguments")
    return dumps(call["arguments"]) if raw is None else raw


def shown_content(content: str | Sequence[Json]) -> str | list[Any]:
    """Show a message's content: as text, where there is nothing else in it."""
    if isinstance(content, str) or all(block["type"] == "text" for block in content):
        return text_of_blocks(content)
    return [_part(block) for block in content]


def _part(block: Json) -> Any:
    kind = block["type"]
    if kind == "text":
        return core.TextPart(text=block["text"])
    source: Any
    if "url" in block:
        source = core.UrlSource(value=block["url"])
    else:
        source = core.DataSource(value=block["data"], mime_type=block["mimeType"])
    part: Any = {"image": core.ImagePart, "document": core.DocumentPart, "audio": core.AudioPart}[kind]
    return part(source=source)

"""What an MCP server answers to a call: content blocks for the model, structured content as details, or a question.

A server is not trusted: what it sends that no message can hold becomes a text that names it. The size of a result is
bounded where all results are (AGENTKIT_MAX_RESULT_BYTES).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    InputResponses,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from mcp_types import ElicitResult as Reply

from agentkit.core.messages import Json
from agentkit.core.struct import dumps
from agentkit.errors import ToolError
from agentkit.results import InputRequired, ToolResult, to_json_value, to_result

__all__ = ["Question", "Questions", "question_of", "questions_of", "to_tool_result"]

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def to_tool_result(result: CallToolResult) -> ToolResult:
    """Turn the answer to a call into what a tool returns. Its structured content is the `details`."""
    blocks = [_safe(block) for block in map(_block, result.content) if block is not None]
    structured = result.structured_content
    if not blocks:
        blocks = [{"type": "text", "text": "" if structured is None else dumps(to_json_value(structured))}]
    return ToolResult(content=blocks, is_error=bool(result.is_error), details=structured)


def _block(content: Any) -> Json | None:
    """Turn one content block of MCP into one of a message."""
    if isinstance(content, TextContent):
        return {"type": "text", "text": content.text}
    if isinstance(content, ImageContent):
        if content.mime_type in _IMAGES:
            return {"type": "image", "data": content.data, "mimeType": content.mime_type}
        return _named("image", content.mime_type)
    if isinstance(content, AudioContent):
        return {"type": "audio", "data": content.data, "mimeType": content.mime_type}
    if isinstance(content, ResourceLink):
        shown = f"{content.title or content.name}: {content.uri}"
        return {"type": "text", "text": f"{shown} ({content.description})" if content.description else shown}
    if isinstance(content, EmbeddedResource):
        return _resource(content.resource)
    return _named(str(getattr(content, "type", "unknown")), None)


def _resource(resource: TextResourceContents | BlobResourceContents) -> Json:
    if isinstance(resource, TextResourceContents):
        return {"type": "text", "text": resource.text}
    mime_type = resource.mime_type or ""
    if mime_type in _IMAGES:
        return {"type": "image", "data": resource.blob, "mimeType": mime_type}
    if mime_type == "application/pdf":
        return {"type": "document", "data": resource.blob, "mimeType": mime_type}
    return _named(f"resource {resource.uri}", mime_type)


def _named(what: str, mime_type: str | None) -> Json:
    return {"type": "text", "text": f"[{what}{f' ({mime_type})' if mime_type else ''}, which is not shown]"}


def _safe(block: Json) -> Json:
    """Return a block that a message can hold: the block, or a text that says why it is left out."""
    try:
        to_result([block])
    except Exception as error:  # whatever is wrong with it, the rest of the answer is not lost
        return {"type": "text", "text": f"[{block.get('type')} of the server, left out: {error}]"}
    return block


class Question:
    """One thing that a server asks of people: `key` is the server's name for it."""

    def __init__(self, key: str, message: str, schema: Json) -> None:
        self.key = key
        self.message = message
        self.schema = schema

    def memo(self) -> Json:
        return {"key": self.key, "message": self.message, "schema": self.schema}


class Questions:
    """What a server asked in the middle of a call, and what was answered so far: JSON that outlives the process.

    `state`: the server's own, returned to it byte by byte; None of a server that keeps the call open while it asks.
    """

    def __init__(self, asked: Iterable[Question], state: str | None, replies: Mapping[str, Any] | None = None) -> None:
        self.asked = list(asked)
        self.state = state
        self.replies = dict(replies or {})

    @classmethod
    def of(cls, memo: Mapping[str, Any], reply: Any) -> Questions:
        """Read a memo, with the `reply` to the question that it asked last."""
        asked = [Question(each["key"], each["message"], each["schema"]) for each in memo["asked"]]
        return cls(asked, memo.get("state"), {**memo.get("replies", {}), memo["key"]: reply})

    def next(self, name: str) -> InputRequired | None:
        """Return the question that is still to be put to people; None where all are answered. `name`: the server's."""
        for each in self.asked:
            if each.key not in self.replies:
                asked = [question.memo() for question in self.asked]
                memo = {"asked": asked, "state": self.state, "replies": self.replies, "key": each.key}
                return InputRequired(f"{name} asks: {each.message}", each.schema, memo)
        return None

    def reply_to(self, message: str, schema: Json) -> Any:
        """Find what was answered to a question that is asked again in the same words; None if nothing was."""
        for each in self.asked:
            if (each.message, each.schema) == (message, schema):
                return self.replies.get(each.key)
        return None

    def with_replies_of(self, before: Questions | None) -> Questions:
        """Return these questions with what was answered before to those that were asked in the same words."""
        known = {} if before is None else {q.key: before.reply_to(q.message, q.schema) for q in self.asked}
        replies = {key: value for key, value in known.items() if value is not None}
        return Questions(self.asked, self.state, {**self.replies, **replies})

    def responses(self) -> InputResponses:
        """Return the answers as the server wants them."""
        return {key: Reply(action="accept", content=value) for key, value in self.replies.items()}


def question_of(key: str, params: Any) -> Question:
    """Read what a server asks. Raises ToolError for anything but a form to fill in."""
    if not isinstance(params, ElicitRequestFormParams):
        raise ToolError("the server asks to open an address, which is not supported")
    schema = params.requested_schema
    return Question(key, params.message, schema if isinstance(schema, dict) else schema.model_dump(by_alias=True))


def questions_of(result: InputRequiredResult) -> Questions:
    """Read what a server asks before it goes on. Raises ToolError for what people cannot answer."""
    asked = []
    for key, request in (result.input_requests or {}).items():
        if not isinstance(request, ElicitRequest):
            raise ToolError(f"the server asks for {request.method}, which is not supported")
        asked.append(question_of(key, request.params))
    return Questions(asked, result.request_state)

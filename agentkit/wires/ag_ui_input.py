"""What an AG-UI client sends, a RunAgentInput: read as what it may say, and no more.

Its messages are a history that nobody vouches for. Taken are the user's messages, and the results of front-end tools
that the run waits for; an assistant's, a system's or a developer's message says nothing here, nor does a result of any
other tool. What is not known is left out, as the standard wants it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic
from ag_ui import core

from agentkit.core.messages import Json
from agentkit.errors import InvalidRequestError
from agentkit.loop import Answer
from agentkit.wires.ag_ui_events import ClientView
from agentkit.wires.conversation import Content, GivenAnswer, UserMessage

__all__ = ["Input", "read_input"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """A request. `front_end_tools`: the names of the tools that the client can execute."""

    thread_id: str
    run_id: str
    user: list[UserMessage]
    results: list[core.ToolMessage]
    resume: list[core.ResumeEntry]
    front_end_tools: frozenset[str]
    view: ClientView
    state: Json | None

    def answers(self, pending: Sequence[Json], principal: str | None) -> list[GivenAnswer]:
        """Find what the request answers of the pending items: by `resume`, and front-end tools by their messages.

        Raises InvalidRequestError for an item that is answered twice.
        """
        items = {item["decisionId"]: item for item in pending}
        entries = {entry.interrupt_id: entry for entry in self.resume}
        if len(entries) < len(self.resume):
            raise InvalidRequestError("resume answers an interrupt twice")
        given = [
            GivenAnswer(_answer(entry, items.get(entry.interrupt_id), principal), decision_id=entry.interrupt_id)
            for entry in self.resume
        ]
        waiting = {
            item["toolCallId"]: item["decisionId"]
            for item in pending
            if item["kind"] == "client_execute" and "runId" not in item and item["decisionId"] not in entries
        }
        for message in self.results:
            if (decision_id := waiting.pop(message.tool_call_id, None)) is not None:
                given.append(GivenAnswer(_result(message, principal), decision_id=decision_id))
        return given


def read_input(body: Json) -> Input:
    """Read a RunAgentInput. Raises InvalidRequestError that says what is wrong where."""
    try:
        read = core.RunAgentInput.model_validate(body)
    except pydantic.ValidationError as error:
        raise _refusal(error) from error
    user = [
        UserMessage.of(message.id, content)
        for message in read.messages
        if isinstance(message, core.UserMessage) and (content := _content(message.content))
    ]
    results = [message for message in read.messages if isinstance(message, core.ToolMessage)]
    return Input(
        thread_id=read.thread_id,
        run_id=read.run_id,
        user=user,
        results=results,
        resume=list(read.resume or ()),
        front_end_tools=frozenset(tool.name for tool in read.tools or ()),
        view=ClientView(
            ids=[message.id for message in read.messages],
            user=[(message.id, message.content) for message in user],
            results={message.tool_call_id: message.id for message in results},
        ),
        state={} if read.state is None else read.state if isinstance(read.state, dict) else None,
    )


def _refusal(error: pydantic.ValidationError) -> InvalidRequestError:
    problems = [
        {"path": "".join(f"/{part}" for part in each["loc"]), "message": each["msg"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    return InvalidRequestError(
        f"the body is no RunAgentInput: {first['path'] or 'it'}: {first['message']}",
        errors=problems[:20],  # type: ignore[arg-type]  # of the shape of a SchemaProblem
    )


def _answer(entry: core.ResumeEntry, item: Json | None, principal: str | None) -> Answer:
    """Make the answer of an entry; `item` is None where it is not pending, or not any more.

    An abandoned one is rejected. Edited arguments stand in `editedArgs` of the payload, as the standard's pattern for
    approvals has it, unless the item's own schema knows that name.
    """
    if entry.status == "cancelled":
        return Answer("reject", {"reason": "cancelled by the user"}, None, principal)
    payload, arguments = entry.payload, None
    if item is not None and item["kind"] == "client_execute":
        return Answer("result", payload, None, principal)
    schema = {} if item is None else item["schema"]
    is_own = "editedArgs" in schema.get("properties", {}) if isinstance(schema, dict) else False
    if isinstance(payload, dict) and "editedArgs" in payload and not is_own:
        arguments = payload["editedArgs"]
        payload = {name: value for name, value in payload.items() if name != "editedArgs"}
        if not isinstance(arguments, dict):
            raise InvalidRequestError("editedArgs must be an object: all of the tool's arguments")
    return Answer("decision", payload, arguments, principal)


def _result(message: core.ToolMessage, principal: str | None) -> Answer:
    content: Any = _content(message.content) or ""
    if message.error is not None:
        return Answer("result", {"content": content or message.error, "isError": True}, None, principal)
    return Answer("result", content, None, principal)


def _content(content: str | Sequence[Any]) -> Content:
    """Read a message's content; empty where there is nothing in it that can be used."""
    if isinstance(content, str):
        return content if content.strip() else ""
    blocks = [block for part in content if (block := _block(part)) is not None]
    if len(blocks) < len(content):
        log.warning("an AG-UI message had %d parts that cannot be used: left out", len(content) - len(blocks))
    return blocks


def _block(part: Any) -> Json | None:
    """Read a content part; None for one that no model here takes: a video, a provider's file, an address of a sound."""
    if isinstance(part, core.TextPart):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part.source, core.DataSource):
        if part.type not in ("image", "document", "audio"):
            return None
        return {"type": part.type, "data": part.source.value, "mimeType": part.source.mime_type}
    if isinstance(part, core.ImagePart) and isinstance(part.source, core.UrlSource):
        return {"type": "image", "url": part.source.value}
    return None

"""What `useChat` of the AI SDK sends: read as what it may say, and no more.

Its messages are a history that nobody vouches for. Taken are the user's messages, and of the assistant's the answers to
what the run waits for: a response to an approval, by the id of the item, and the output of a client-side tool. All else
in them says nothing here. What an application adds to the body is its own matter, and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from agentkit.core.messages import Json
from agentkit.core.struct import check
from agentkit.errors import InvalidRequestError
from agentkit.loop import Answer
from agentkit.wires.ai_sdk_chunks import yes_or_no
from agentkit.wires.conversation import GivenAnswer, UserMessage

__all__ = ["Input", "read_input"]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,", re.ASCII)


class _Message(msgspec.Struct):
    id: str
    role: Literal["user", "assistant", "system"]
    parts: list[Json]


class _Body(msgspec.Struct, rename="camel"):
    id: str
    messages: list[_Message]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None


@dataclass(frozen=True)
class Input:
    """A request. `message_id`: the message that the client names.

    `ends_with_user`: whether the last of its messages is the user's. `parts`: the tool parts of its assistant's
    messages, by the ids of their calls; `calls_of`: which of them are in which message.
    """

    chat_id: str
    user: list[UserMessage]
    is_regenerating: bool
    message_id: str | None
    ends_with_user: bool
    parts: dict[str, list[Json]]
    calls_of: dict[str, set[str]]

    def answers(self, pending: Sequence[Json], principal: str | None) -> list[GivenAnswer]:
        """Find what the request answers of the pending items. Raises InvalidRequestError for an answer that is none."""
        found = []
        for item in pending:
            parts = () if "runId" in item else self.parts.get(item["toolCallId"], ())
            answer = next((answer for part in parts for answer in _answers(part, item, principal)), None)
            if answer is not None:
                found.append(GivenAnswer(answer, item["decisionId"]))
        return found


def read_input(body: Json) -> Input:
    """Read a request. Raises InvalidRequestError that says what is wrong where."""
    read: _Body = check(body, _Body)
    user = [
        UserMessage.of(
            message.id, [_block(part, f"messages[{index}].parts") for part in message.parts if _is_said(part)]
        )
        for index, message in enumerate(read.messages)
        if message.role == "user"
    ]
    calls: dict[str, list[Json]] = {}
    calls_of: dict[str, set[str]] = {}
    for message in read.messages:
        for part in message.parts if message.role == "assistant" else ():
            call_id = part.get("toolCallId")
            if isinstance(call_id, str):
                calls.setdefault(call_id, []).append(part)
                calls_of.setdefault(message.id, set()).add(call_id)
    return Input(
        chat_id=read.id,
        user=[message for message in user if message.content],
        is_regenerating=read.trigger == "regenerate-message",
        message_id=read.message_id,
        ends_with_user=bool(read.messages) and read.messages[-1].role == "user",
        parts=calls,
        calls_of=calls_of,
    )


def _answers(part: Json, item: Json, principal: str | None) -> Iterator[Answer]:
    """Read the answer that a tool part has for the item of its call, if it has one."""
    state, approval = part.get("state"), part.get("approval")
    if item["kind"] == "client_execute":
        if state == "output-available":
            yield Answer("result", part.get("output"), None, principal)
        elif state == "output-error":
            text = part.get("errorText")
            content = text if isinstance(text, str) else "the tool failed"
            yield Answer("result", {"content": content, "isError": True}, None, principal)
        return
    name = yes_or_no(item)
    if name is None or state != "approval-responded" or not isinstance(approval, dict):
        return
    if approval.get("id") != item["decisionId"]:
        return  # of what was asked before
    approved, reason = approval.get("approved"), approval.get("reason")
    if not isinstance(approved, bool) or not isinstance(reason, str | None):
        raise InvalidRequestError("an approval's response has approved, true or false, and may have a reason, a text")
    if approved:
        yield Answer("decision", {name: True} if name else True, None, principal)
    else:
        yield Answer("reject", {"reason": reason or "not approved"}, None, principal)


def _is_said(part: Json) -> bool:
    """Whether a part of a user's message is for the model: its text, and its files."""
    return part.get("type") == "file" or (part.get("type") == "text" and bool(part.get("text")))


def _block(part: Json, where: str) -> Json:
    if part["type"] == "text":
        if not isinstance(part["text"], str):
            raise InvalidRequestError(f"{where}: a text is a string")
        return {"type": "text", "text": part["text"]}
    url, kind = part.get("url"), part.get("mediaType")
    if not isinstance(url, str) or not isinstance(kind, str):
        raise InvalidRequestError(f"{where}: a file has a url and a mediaType")
    found = _DATA_URL.match(url[:300])
    if found is None:
        if not kind.startswith("image/"):
            raise InvalidRequestError(f"{where}: a file that is no image is sent as a data: URL")
        return {"type": "image", "url": url}
    data = url[found.end() :]
    block: Json = {"data": data, "mimeType": kind if "*" not in kind else found[1]}
    if kind.startswith("image/"):
        return {"type": "image", **block}
    if kind.startswith("audio/"):
        return {"type": "audio", **block}
    name: Any = part.get("filename")
    return {"type": "document", **block, **({"name": name} if isinstance(name, str) else {})}

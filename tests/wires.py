"""Clients of other wires for tests without Node: what the published ones do with a stream, in short.

The published clients themselves are in tests/wires_clients, and tests/acceptance/test_wires.py drives them.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from ag_ui import core
from pydantic import TypeAdapter
from werkzeug.test import Client, TestResponse

__all__ = ["AgUiClient", "AiSdkClient", "data_of"]

_EVENT: TypeAdapter[Any] = TypeAdapter(core.Event)
_numbers = itertools.count(1)


def data_of(body: bytes) -> list[Any]:
    """The data of each frame of a stream; its end's `[DONE]` is left as text."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            [line] = lines
            assert line.startswith("data: "), line
            text = line.removeprefix("data: ")
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


class AgUiClient:
    """An AG-UI client of one thread: it keeps messages and state as the events say."""

    def __init__(self, client: Client, agent: str, thread_id: str = "thread", **headers: str) -> None:
        self.client = client
        self.path = f"/ag-ui/{agent}"
        self.thread_id = thread_id
        self.headers = headers
        self.messages: list[dict[str, Any]] = []
        self.state: Any = {}
        self.events: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []

    def say(self, text: Any, **more: Any) -> list[dict[str, Any]]:
        """Add a message of the user's, and run."""
        self.messages.append({"id": f"u{next(_numbers)}", "role": "user", "content": text})
        return self.run(**more)

    def post(self, **more: Any) -> TestResponse:
        body = {
            "threadId": self.thread_id,
            "runId": f"r{next(_numbers)}",
            "messages": self.messages,
            "state": self.state,
            "tools": self.tools,
            "protocolVersion": "1.0",
            **more,
        }
        return self.client.post(self.path, json=body, headers=self.headers)

    def run(self, **more: Any) -> list[dict[str, Any]]:
        response = self.post(**more)
        assert response.status_code == 200, response.text
        assert response.content_type.startswith("text/event-stream")
        self.events = data_of(response.data)
        for event in self.events:
            _EVENT.validate_python(event)
        self._verify()
        for event in self.events:
            self._apply(event)
        return self.events

    def resume(self, *entries: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        return self.run(resume=list(entries), **more)

    def answer(self, payload: Any) -> list[dict[str, Any]]:
        """Answer the only interrupt."""
        [interrupt] = self.interrupts
        return self.resume({"interruptId": interrupt["id"], "status": "resolved", "payload": payload})

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def outcome(self) -> dict[str, Any]:
        last = self.events[-1]
        assert last["type"] == "RUN_FINISHED", last
        outcome: dict[str, Any] = last["outcome"]
        return outcome

    @property
    def interrupts(self) -> list[dict[str, Any]]:
        assert self.outcome["type"] == "interrupt", self.outcome
        interrupts: list[dict[str, Any]] = self.outcome["interrupts"]
        return interrupts

    @property
    def agent_run(self) -> str:
        run_id: str = self.events[0]["metadata"]["agentkit"]["runId"]
        return run_id

    @property
    def conversation(self) -> list[tuple[str, Any]]:
        return [(message["role"], message.get("content")) for message in self.messages]

    def _verify(self) -> None:
        """What opens is closed before the run ends, and nothing continues what is not open."""
        assert self.types[0] == "RUN_STARTED"
        assert self.types[-1] in ("RUN_FINISHED", "RUN_ERROR")
        assert sum(kind in ("RUN_FINISHED", "RUN_ERROR") for kind in self.types) == 1
        opened: set[tuple[str, str]] = set()
        for event in self.events:
            kind = event["type"]
            key = event.get("messageId") or event.get("toolCallId") or event.get("stepName") or ""
            for family in ("TEXT_MESSAGE", "TOOL_CALL", "STEP", "REASONING_MESSAGE", "REASONING"):
                what = kind.removeprefix(f"{family}_")
                if what in ("START", "STARTED"):
                    assert (family, key) not in opened, event
                    opened.add((family, key))
                elif what in ("END", "FINISHED"):
                    opened.remove((family, key))
                elif what in ("CONTENT", "ARGS"):
                    assert (family, key) in opened, event
                else:
                    continue
                break
        assert not opened

    def _apply(self, event: dict[str, Any]) -> None:
        by_id = {message["id"]: message for message in self.messages}
        match event["type"]:
            case "STATE_SNAPSHOT":
                self.state = event["snapshot"]
            case "MESSAGES_SNAPSHOT":
                shown = {message["id"]: message for message in event["messages"]}
                self.messages = [shown.pop(message["id"]) for message in self.messages if message["id"] in shown]
                self.messages += shown.values()
            case "TEXT_MESSAGE_START" if event["messageId"] not in by_id:
                self.messages.append({"id": event["messageId"], "role": event["role"], "content": ""})
            case "TEXT_MESSAGE_CONTENT":
                message = by_id[event["messageId"]]
                message["content"] = (message.get("content") or "") + event["delta"]
            case "REASONING_MESSAGE_START":
                self.messages.append({"id": event["messageId"], "role": "reasoning", "content": ""})
            case "REASONING_MESSAGE_CONTENT":
                by_id[event["messageId"]]["content"] += event["delta"]
            case "TOOL_CALL_START":
                message = by_id.get(event["parentMessageId"])
                if message is None:
                    message = {"id": event["parentMessageId"], "role": "assistant"}
                    self.messages.append(message)
                function = {"name": event["toolCallName"], "arguments": ""}
                message.setdefault("toolCalls", []).append(
                    {"id": event["toolCallId"], "type": "function", "function": function}
                )
            case "TOOL_CALL_ARGS":
                for message in self.messages:
                    for call in message.get("toolCalls", ()):
                        if call["id"] == event["toolCallId"]:
                            call["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                result = {"id": event["messageId"], "role": "tool", "content": event["content"]}
                self.messages.append({**result, "toolCallId": event["toolCallId"]})


class AiSdkClient:
    """A chat of the AI SDK: it keeps messages as the chunks say, and refuses what `useChat` refuses."""

    def __init__(self, client: Client, agent: str, chat_id: str = "chat", **headers: str) -> None:
        self.client = client
        self.path = f"/ai-sdk/{agent}"
        self.chat_id = chat_id
        self.headers = headers
        self.messages: list[dict[str, Any]] = []
        self.chunks: list[dict[str, Any]] = []
        self.finish: dict[str, Any] = {}
        self.error = ""

    def say(self, text: str, *files: dict[str, Any]) -> dict[str, Any]:
        parts = [*files, {"type": "text", "text": text}]
        self.messages.append({"id": f"u{next(_numbers)}", "role": "user", "parts": parts})
        return self.send()

    def post(self, **more: Any) -> TestResponse:
        body = {"id": self.chat_id, "messages": self.messages, "trigger": "submit-message", **more}
        return self.client.post(self.path, json=body, headers=self.headers)

    def send(self, **more: Any) -> dict[str, Any]:
        response = self.post(**more)
        assert response.status_code == 200, response.text
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        continued = self.messages[-1] if self.messages and self.messages[-1]["role"] == "assistant" else None
        return self.read(response.data, continued)

    def regenerate(self, message_id: str | None = None) -> dict[str, Any]:
        self.messages = self.messages[:-1]
        more = {} if message_id is None else {"messageId": message_id}
        return self.send(trigger="regenerate-message", **more)

    def reconnect(self) -> dict[str, Any] | None:
        """Resume the stream; None where there is nothing to resume."""
        response = self.client.get(f"{self.path}/{self.chat_id}/stream", headers=self.headers)
        if response.status_code == 204:
            return None
        assert response.status_code == 200, response.text
        return self.read(response.data, None)

    def respond(self, approved: bool, reason: str | None = None) -> dict[str, Any]:
        """Answer all approvals that are asked for, and send."""
        for part in self.messages[-1]["parts"]:
            if part.get("state") == "approval-requested":
                part["state"] = "approval-responded"
                part["approval"] = {**part["approval"], "approved": approved, "reason": reason}
        return self.send(messageId=self.messages[-1]["id"])

    def parts(self, kind: str) -> list[dict[str, Any]]:
        return [part for part in self.messages[-1]["parts"] if part["type"] == kind]

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts("text"))

    def read(self, body: bytes, continued: dict[str, Any] | None) -> dict[str, Any]:
        """Apply a stream to a message, a new one or `continued`."""
        *self.chunks, done = data_of(body)
        assert done == "[DONE]"
        message: dict[str, Any] = continued or {"id": "?", "role": "assistant", "parts": [], "metadata": {}}
        parts = message["parts"]
        open_parts: dict[str, dict[str, Any]] = {}
        self.finish, self.error = {}, ""
        for chunk in self.chunks:
            kind = chunk["type"]
            message["metadata"] = {**message.get("metadata", {}), **chunk.get("messageMetadata", {})}
            match kind:
                case "start":
                    message["id"] = chunk["messageId"]
                case "start-step":
                    parts.append({"type": "step-start"})
                case "reset-step":
                    last = max(i for i, part in enumerate(parts) if part["type"] == "step-start")
                    del parts[last + 1 :]
                    open_parts.clear()
                case "text-start" | "reasoning-start":
                    assert chunk["id"] not in open_parts
                    open_parts[chunk["id"]] = {"type": kind.removesuffix("-start"), "text": ""}
                    parts.append(open_parts[chunk["id"]])
                case "text-delta" | "reasoning-delta":
                    open_parts[chunk["id"]]["text"] += chunk["delta"]
                case "text-end" | "reasoning-end":
                    del open_parts[chunk["id"]]
                case "tool-input-start":
                    call = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
                    parts.append({**call, "state": "input-streaming"})
                case "tool-input-available":
                    found = [part for part in parts if part.get("toolCallId") == chunk["toolCallId"]]
                    if not found:
                        found = [{"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}]
                        parts.append(found[0])
                    found[-1].update(state="input-available", input=chunk["input"])
                case "tool-approval-request":
                    approval = {"id": chunk["approvalId"]}
                    self._tool(parts, chunk).update(state="approval-requested", approval=approval)
                case "tool-approval-response":
                    [part] = [part for part in parts if part.get("approval", {}).get("id") == chunk["approvalId"]]
                    part.update(state="approval-responded")
                case "tool-output-available":
                    self._tool(parts, chunk).update(state="output-available", output=chunk["output"])
                case "tool-output-error":
                    self._tool(parts, chunk).update(state="output-error", errorText=chunk["errorText"])
                case "tool-output-denied":
                    self._tool(parts, chunk).update(state="output-denied")
                case "error":
                    self.error = chunk["errorText"]
                case "finish":
                    self.finish = chunk
                case "file" | "steering-message":
                    parts.append(chunk)
                case _ if kind.startswith("data-") and not chunk.get("transient"):
                    same = [part for part in parts if part["type"] == kind and part["id"] == chunk["id"]]
                    if same:
                        same[0]["data"] = chunk["data"]
                    else:
                        parts.append(chunk)
        assert not open_parts
        if continued is None:
            self.messages = [each for each in self.messages if each["id"] != message["id"]] + [message]
        return message

    @staticmethod
    def _tool(parts: list[dict[str, Any]], chunk: dict[str, Any]) -> dict[str, Any]:
        *_, part = [part for part in parts if part.get("toolCallId") == chunk["toolCallId"]]
        return part

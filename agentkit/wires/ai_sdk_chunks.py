"""The AI SDK's UI message stream, version 1: the log's events as chunks of `useChat`.

All that a run says is one message of the chat, whose id is the run's. Every answer of a model in it is a step, so that
one which is void can be taken back (`reset-step`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from agentkit.core.messages import Json
from agentkit.core.run import Run
from agentkit.core.struct import dumps
from agentkit.wires.translator import text_of_blocks

__all__ = ["HEADERS", "AiSdkTranslator", "yes_or_no"]

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}

_SILENT = frozenset({"agent_resume", "tool_execution_start", "tool_execution_end", "tool_client_execute_pending"})


def yes_or_no(item: Json) -> str | None:
    """Return the name of the field that answers a decision by yes or no; "" where the decision itself is a boolean.

    None for a decision that asks for more, or for something else.
    """
    schema = item["schema"]
    if item["kind"] != "decision" or not isinstance(schema, dict):
        return None
    if schema.get("type") == "boolean":
        return ""
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or len(properties) != 1:
        return None
    [(name, field)] = properties.items()
    return name if isinstance(field, dict) and field.get("type") == "boolean" else None


class AiSdkTranslator:
    """Translates from one place of a log on.

    `run_id`: agentkit's. `message_id`: of the message that the stream writes. `known_calls`: the tool calls that the
    client's message has already, `others`: those of its other messages, which ask for themselves. `pauses_after`:
    pauses up to this seq are over. `user`: the contents of the user's messages that the client has. `begun`: whether
    the run's first turn has begun there. `is_idle`: nothing was asked of the run: the client is not to send again by
    itself.
    """

    def __init__(
        self,
        *,
        run_id: str,
        message_id: str,
        known_calls: Collection[str] = (),
        others: Collection[str] = (),
        pauses_after: int = 0,
        user: Sequence[Any] = (),
        begun: bool = False,
        is_idle: bool = False,
    ) -> None:
        self._run_id = run_id
        self._message_id = message_id
        self._calls = set(known_calls)
        self._others = frozenset(others)
        self._pauses_after = pauses_after
        self._user = list(user)
        self._is_idle = is_idle
        self._begun = begun
        self._step = False
        self._void = False
        """The step was reset, and its beginning is still there."""
        self._open: dict[int, str] | None = None
        """Of the message that streams: the ids of its parts that are open, by their indexes."""
        self._seq = 0
        self._args: dict[str, Json] = {}
        self._asked: dict[str, Json] = {}
        """Items that this stream has asked for."""
        self._denied: set[str] = set()
        self._stop_reason = "stop"
        self.ended = False

    def begin(self) -> Iterator[Json]:
        yield {"type": "start", "messageId": self._message_id, "messageMetadata": {"runId": self._run_id}}

    def reads_store(self, data: bytes) -> bool:
        return False

    def translate(self, seq: int, event: Json) -> Iterator[Json]:
        kind = event["type"]
        match kind:
            case "agent_start":
                pass
            case "turn_start":
                self._begun = True
            case "turn_end":
                yield from self._close_step()
            case "message_start" if event["message"]["role"] == "assistant":
                yield from self._open_message(seq)
            case "message_start":
                pass
            case "message_update":
                if self._open is not None:
                    yield from self._update(event["assistantMessageEvent"])
            case "message_discard":
                if self._open is not None:
                    self._open, self._void = None, True
                    yield {"type": "reset-step"}
            case "message_end":
                yield from self._message(seq, event["message"])
            case "stream_reset":
                yield from self._reset(seq, event["run"])
            case "tool_execution_update":
                yield from self._know(event["toolCallId"], event["toolName"], event["args"])
                yield self._output(event["toolCallId"], event["partialResult"], preliminary=True)
            case "tool_decision_pending" | "tool_in_doubt":
                item_kind = "in_doubt" if kind == "tool_in_doubt" else "decision"
                yield from self._ask({**event, "kind": item_kind})
            case "tool_decision_vote":
                self._asked.pop(event["decisionId"], None)  # the others are asked again
            case "tool_decision_resolved":
                yield from self._resolved(event)
            case "agent_pause":
                if seq > self._pauses_after:
                    yield from self._finish_paused(event["pending"])
            case "agent_end":
                yield from self._finish_ended(event["status"], event.get("error"), event["usage"])
            case _ if kind not in _SILENT:
                yield {"type": "data-event", "data": event, "transient": True}

    def finish(self, run: Run | None) -> Iterator[Json]:
        if run is None:
            yield from self._fail("run_not_found", "the run was deleted", {})
        elif run.ended:
            yield from self._finish_ended(run.status, run.error, run.usage)
        elif run.status == "paused":
            yield from self._finish_paused(run.pending)
        else:
            yield from self.cut()

    def cut(self) -> Iterator[Json]:
        yield from self._fail("disconnected", "the connection to the run was lost: resume the stream", {})

    def encode(self, frame: Json) -> bytes:
        return b"data: %b\n\n" % dumps(frame).encode()

    def close(self) -> bytes:
        return b"data: [DONE]\n\n"

    # -- messages

    def _open_message(self, seq: int) -> Iterator[Json]:
        self._begun = True
        if not self._void:
            yield from self._close_step()
            yield {"type": "start-step"}
        self._step, self._void, self._open, self._seq = True, False, {}, seq

    def _message(self, seq: int, message: Json) -> Iterator[Json]:
        """Translate a whole message, of which nothing, a part or all has streamed."""
        match message["role"]:
            case "assistant":
                if self._open is None:
                    yield from self._open_message(seq)
                    yield from self._whole(message["content"])
                yield from self._close_parts()
                self._stop_reason = message["stopReason"]
            case "toolResult":
                yield from self._result(message)
            case "user" if self._begun:
                if message["content"] in self._user:
                    self._user.remove(message["content"])
                else:
                    yield {
                        "type": "steering-message",
                        "id": f"{self._run_id}.{seq}",
                        "parts": _parts(message["content"]),
                    }

    def _whole(self, content: Sequence[Json]) -> Iterator[Json]:
        for index, block in enumerate(content):
            kind = {"text": "text", "thinking": "thinking", "toolCall": "toolcall"}[block["type"]]
            call = {"toolCall": block} if kind == "toolcall" else {}
            yield from self._update({"type": f"{kind}_start", "contentIndex": index, **call})
            if kind != "toolcall":
                yield from self._update({"type": f"{kind}_delta", "contentIndex": index, "delta": block[block["type"]]})
            yield from self._update({"type": f"{kind}_end", "contentIndex": index, **call})

    def _update(self, update: Json) -> Iterator[Json]:
        assert self._open is not None
        index, kind = update["contentIndex"], update["type"]
        part, _, what = kind.partition("_")
        name = "reasoning" if part == "thinking" else part
        if name == "toolcall":
            yield from self._update_call(index, what, update)
        elif what == "start":
            self._open[index] = name
            yield {"type": f"{name}-start", "id": f"{self._seq}.{index}"}
        elif index in self._open:
            if what == "delta":
                yield {"type": f"{name}-delta", "id": f"{self._seq}.{index}", "delta": update.get("delta") or ""}
            else:
                yield {"type": f"{self._open.pop(index)}-end", "id": f"{self._seq}.{index}"}

    def _update_call(self, index: int, what: str, update: Json) -> Iterator[Json]:
        assert self._open is not None
        if what == "start":
            call = update["toolCall"]
            self._open[index] = call["id"]
            self._calls.add(call["id"])
            yield {"type": "tool-input-start", "toolCallId": call["id"], "toolName": call["name"]}
        elif what == "delta" and index in self._open:
            delta = update.get("delta") or ""
            yield {"type": "tool-input-delta", "toolCallId": self._open[index], "inputTextDelta": delta}
        elif what == "end":
            self._open.pop(index, None)
            call = update["toolCall"]
            yield _input(call["id"], call["name"], call.get("rawArguments", call["arguments"]))

    def _close_parts(self) -> Iterator[Json]:
        """End the parts of a message that ends in the middle of them. A tool call without its end is no part."""
        opened, self._open = self._open or {}, None
        for index, name in opened.items():
            if name in ("text", "reasoning"):
                yield {"type": f"{name}-end", "id": f"{self._seq}.{index}"}

    def _result(self, message: Json) -> Iterator[Json]:
        call_id = message["toolCallId"]
        yield from self._know(call_id, message["toolName"], self._args.get(call_id, {}))
        if call_id in self._denied:
            self._denied.discard(call_id)  # vendors give a call an id of its own, but nobody makes them
            yield {"type": "tool-output-denied", "toolCallId": call_id}
        elif message["isError"]:
            yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": text_of_blocks(message["content"])}
        else:
            details = message.get("details")
            yield self._output(call_id, text_of_blocks(message["content"]) if details is None else details)
        for block in message["content"]:
            if block["type"] != "text":
                yield _file(block)

    def _know(self, call_id: str, tool: str, args: Json) -> Iterator[Json]:
        """See to it that the client's message has the call: it refuses what it knows no call for."""
        if call_id not in self._calls:
            self._calls.add(call_id)
            yield _input(call_id, tool, args)

    def _output(self, call_id: str, output: Any, *, preliminary: bool = False) -> Json:
        more = {"preliminary": True} if preliminary else {}
        return {"type": "tool-output-available", "toolCallId": call_id, "output": output, **more}

    def _reset(self, seq: int, run: Json) -> Iterator[Json]:
        """Go on from where a log begins that is not kept whole: what came after the last user message is shown."""
        yield from self._close_parts()
        self._begun = True
        messages = run["messages"]
        last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
        for index, message in enumerate(messages[last + 1 :]):
            yield from self._message(-seq - index, message)

    # -- items

    def _ask(self, item: Json) -> Iterator[Json]:
        decision_id, call_id = item["decisionId"], item["toolCallId"]
        is_elsewhere = call_id in self._others and call_id not in self._calls
        if decision_id in self._asked or is_elsewhere or item["kind"] == "client_execute":
            return
        self._asked[decision_id] = item
        if yes_or_no(item) is None or item.get("runId", self._run_id) != self._run_id:
            yield {"type": "data-decision", "id": decision_id, "data": _shown(item, "pending")}
            return
        yield from self._know(call_id, item["toolName"], item["input"])
        reason = {"reason": item["reason"]} if item.get("reason") else {}
        yield {"type": "tool-approval-request", "approvalId": decision_id, "toolCallId": call_id, **reason}

    def _resolved(self, event: Json) -> Iterator[Json]:
        decision_id, outcome = event["decisionId"], event["outcome"]
        item = self._asked.pop(decision_id, None)
        if outcome == "rejected" or (outcome == "expired" and "decision" not in event):
            self._denied.add(event["toolCallId"])
        if item is None:
            return  # the client has said so itself, or has not been asked
        if yes_or_no(item) is None:
            yield {"type": "data-decision", "id": decision_id, "data": _shown(item, outcome)}
            return
        reason = {"reason": event["reason"]} if event.get("reason") else {}
        approved = event["toolCallId"] not in self._denied
        yield {"type": "tool-approval-response", "approvalId": decision_id, "approved": approved, **reason}

    # -- the end of a stream

    def _close_step(self) -> Iterator[Json]:
        if self._step:
            self._step = False
            yield {"type": "finish-step"}

    def _finish_paused(self, pending: Sequence[Json]) -> Iterator[Json]:
        yield from self._close_parts()
        for item in pending:
            yield from self._ask(item)
        yield from self._close_step()
        self.ended = True
        yield {
            "type": "finish",
            "finishReason": "interrupted" if self._is_idle else "tool-calls",
            "messageMetadata": {"status": "paused"},
        }

    def _finish_ended(self, status: str, error: Json | None, usage: Json) -> Iterator[Json]:
        metadata = {"status": status, "usage": usage}
        if status == "failed":
            error = error or {"code": "failed", "message": "the run has failed"}
            yield from self._fail(error["code"], error["message"], metadata)
            return
        yield from self._close_parts()
        yield from self._close_step()
        self.ended = True
        reason = "length" if self._stop_reason == "length" else "stop"
        if status == "aborted":
            yield {"type": "abort", "reason": (error or {}).get("message", "aborted")}
        if status == "aborted" or self._is_idle:
            reason = "interrupted"  # else a client that sends by itself when all tools have ended would, for ever
        yield {"type": "finish", "finishReason": reason, "messageMetadata": metadata}

    def _fail(self, code: str, message: str, metadata: Json) -> Iterator[Json]:
        yield from self._close_parts()
        yield from self._close_step()
        self.ended = True
        yield {"type": "message-metadata", "messageMetadata": {**metadata, "error": {"code": code, "message": message}}}
        yield {"type": "error", "errorText": message}


def _input(call_id: str, tool: str, args: Any) -> Json:
    return {"type": "tool-input-available", "toolCallId": call_id, "toolName": tool, "input": args}


def _shown(item: Json, state: str) -> Json:
    keys = (
        *("decisionId", "toolCallId", "toolName", "kind", "input", "schema", "expiresAt", "runId", "reason"),
        *("approvals", "votes", "remember"),
    )
    return {"state": state, **{key: item[key] for key in keys if key in item}}


def _parts(content: str | Sequence[Json]) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block if block["type"] == "text" else _file(block) for block in content]


def _file(block: Json) -> Json:
    if "url" in block:
        return {"type": "file", "mediaType": block.get("mimeType", "image/*"), "url": block["url"]}
    url = f"data:{block['mimeType']};base64,{block['data']}"
    return {"type": "file", "mediaType": block["mimeType"], "url": url}

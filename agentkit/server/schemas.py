"""JSON Schemas of what the protocol sends and takes, for the OpenAPI document.

They describe; they do not check: requests are read by agentkit/server/bodies.py. Objects stay open to fields of
later versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.core.messages import Json
from agentkit.core.record import Status
from agentkit.core.requests import MAX_EXTENSION_SECONDS
from agentkit.server.problems import STATUSES

__all__ = ["obj", "ref", "schemas"]

STRING: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
BOOLEAN: Json = {"type": "boolean"}
OBJECT: Json = {"type": "object"}
ANY: Json = {}
TIME: Json = {"type": "integer", "description": "Milliseconds since the Unix epoch."}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(properties: Mapping[str, Json], optional: Mapping[str, Json] | None = None, **more: Any) -> Json:
    """An object schema: all of `properties` are required, none of `optional`."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        **more,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _enum(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def _union(tag: str, members: Mapping[str, str]) -> Json:
    """One of the named schemas, told apart by the property `tag`."""
    return {
        "oneOf": [ref(name) for name in members.values()],
        "discriminator": {
            "propertyName": tag,
            "mapping": {value: f"#/components/schemas/{name}" for value, name in members.items()},
        },
    }


def schemas() -> Json:
    """Every schema by its name."""
    return {**_messages(), **_runs(), **_agents(), **_requests(), **_problems(), **_socket(), **_events()}


# -- messages


def _messages() -> Json:
    cache = {"cache": _enum("short", "long")}
    four = ("input", "output", "cacheRead", "cacheWrite")
    content = _list(ref("UserBlock"))
    return {
        "Text": obj({"type": _enum("text"), "text": STRING}, cache),
        "Image": obj(
            {"type": _enum("image"), "data": {**STRING, "contentEncoding": "base64"}, "mimeType": STRING}, cache
        ),
        "Thinking": obj({"type": _enum("thinking"), "thinking": STRING}, {"signature": STRING, **cache}),
        "ToolCall": obj(
            {"type": _enum("toolCall"), "id": STRING, "name": STRING, "arguments": OBJECT},
            {"rawArguments": STRING, **cache},
        ),
        "UserBlock": _union("type", {"text": "Text", "image": "Image"}),
        "AssistantBlock": _union("type", {"text": "Text", "thinking": "Thinking", "toolCall": "ToolCall"}),
        "Content": {"description": "A user message's content.", "oneOf": [{**STRING, "minLength": 1}, content]},
        "Usage": obj(
            {
                **dict.fromkeys(four, COUNT),
                "totalTokens": COUNT,
                "cost": obj({**dict.fromkeys(four, NUMBER), "total": NUMBER}, description="US dollars."),
            },
            description="Tokens. `input` excludes cached ones.",
        ),
        "UserMessage": obj({"role": _enum("user"), "content": ref("Content"), "timestamp": TIME}, cache),
        "AssistantMessage": obj(
            {
                "role": _enum("assistant"),
                "content": _list(ref("AssistantBlock")),
                "api": STRING,
                "provider": STRING,
                "model": STRING,
                "usage": ref("Usage"),
                "stopReason": _enum("stop", "length", "toolUse", "error", "aborted"),
                "timestamp": TIME,
            },
            {"errorMessage": STRING, **cache},
        ),
        "ToolResultMessage": obj(
            {
                "role": _enum("toolResult"),
                "toolCallId": STRING,
                "toolName": STRING,
                "content": content,
                "isError": BOOLEAN,
                "timestamp": TIME,
            },
            {"details": ANY, **cache},
        ),
        "Message": _union(
            "role", {"user": "UserMessage", "assistant": "AssistantMessage", "toolResult": "ToolResultMessage"}
        ),
    }


# -- runs and agents


def _runs() -> Json:
    summary = {
        "id": STRING,
        "agent": STRING,
        "status": ref("Status"),
        "model": STRING,
        "pending": _list(ref("PendingItem")),
        "turn": COUNT,
        "usage": ref("Usage"),
        "metadata": OBJECT,
        "createdAt": TIME,
        "updatedAt": TIME,
        "lastSeq": COUNT,
        "schemaVersion": COUNT,
    }
    owner = {**STRING, "description": "The principal that started it."}
    late = {"error": ref("RunError"), "endedAt": TIME, "parentRunId": STRING, "owner": owner}
    codes = "aborted limit_turns limit_tokens limit_cost limit_time provider_error step_failed expired"
    return {
        "Status": _enum(*Status),
        "RunError": obj({"code": {**STRING, "description": f"One of {codes}."}, "message": STRING}),
        "PendingItem": obj(
            {
                "decisionId": STRING,
                "toolCallId": STRING,
                "toolName": STRING,
                "kind": _enum("decision", "client_execute", "in_doubt"),
                "input": OBJECT,
                "schema": {**OBJECT, "description": "The JSON Schema that a decision must satisfy."},
                "createdAt": TIME,
            },
            {"expiresAt": TIME, "runId": {**STRING, "description": "The sub-agent's run that waits for it."}},
        ),
        "Run": obj({**summary, "messages": _list(ref("Message"))}, late),
        "RunSummary": obj(summary, late, description="A run without its messages."),
        "StreamToken": obj({"token": STRING, "expiresAt": TIME}),
        "RunPage": obj({"runs": _list(ref("RunSummary"))}, {"nextCursor": STRING}),
    }


def _agents() -> Json:
    tool = obj(
        {
            "name": STRING,
            "label": STRING,
            "description": STRING,
            "parameters": OBJECT,
            "runs": _enum("server", "client"),
            "effects": _enum("idempotent", "once"),
        },
        {"decision": OBJECT},
    )
    return {
        "Tool": tool,
        "Capabilities": obj(
            {"tools": BOOLEAN, "images": BOOLEAN, "reasoning": BOOLEAN, "contextWindow": {"type": ["integer", "null"]}},
            description="What the model can do. The context window is in tokens; null: unknown.",
        ),
        "Agent": obj(
            {
                "name": STRING,
                "model": STRING,
                "fallbacks": _list(STRING),
                "capabilities": ref("Capabilities"),
                "tools": _list(ref("Tool")),
            }
        ),
        "AgentList": obj({"agents": _list(ref("Agent"))}),
        "Health": obj({"status": _enum("ok")}),
        "Readiness": obj(
            {
                "status": _enum("ready", "unavailable"),
                "checks": obj({"store": BOOLEAN, "broker": BOOLEAN, "worker": BOOLEAN}),
                "warnings": _list(STRING),
            }
        ),
    }


# -- requests


def _requests() -> Json:
    above_zero = {"exclusiveMinimum": 0, "maximum": 2**53 - 1}
    limits = obj(
        {},
        {
            "maxTurns": {"type": "integer", **above_zero},
            "maxTokens": {"type": "integer", **above_zero},
            "maxCost": {**NUMBER, **above_zero, "description": "US dollars."},
            "timeout": {**NUMBER, **above_zero, "description": "Seconds, pauses not counted."},
        },
        additionalProperties=False,
    )
    history = {**_list(ref("Message")), "description": "A history whose last message is the user's."}
    new_run = {"agent": STRING, "input": ref("Content"), "messages": history, "model": STRING}
    new_run |= {"metadata": {**OBJECT, "description": "Up to 16 kB."}, "limits": ref("Limits")}
    answer = {
        "decision": {"description": "Valid against the pending item's schema."},
        "reject": obj({"reason": STRING}, additionalProperties=False),
        "result": {"description": "What a client-side tool came to: any JSON, or {content, isError?, details?}."},
        "toolCallId": STRING,
        "decisionId": STRING,
        "input": {**OBJECT, "description": "Replaces the tool's arguments."},
    }
    return {
        "Limits": limits,
        "NewRun": {
            "type": "object",
            "properties": new_run,
            "required": ["agent"],
            "additionalProperties": False,
            "oneOf": [{"required": ["input"]}, {"required": ["messages"]}],
        },
        "Answer": {
            "type": "object",
            "properties": answer,
            "additionalProperties": False,
            "oneOf": [{"required": [name]} for name in ("decision", "reject", "result")],
        },
        "Extension": obj(
            {
                "decisionId": STRING,
                "by": {**NUMBER, "exclusiveMinimum": 0, "maximum": MAX_EXTENSION_SECONDS, "description": "Seconds."},
            },
            additionalProperties=False,
        ),
        "Abort": obj({}, {"reason": STRING}, additionalProperties=False),
        "UserInput": obj(
            {"message": ref("Content"), "when": _enum("steer", "followUp")},
            additionalProperties=False,
        ),
    }


def _problems() -> Json:
    miss = obj({"path": {**STRING, "description": "A JSON Pointer."}, "message": STRING})
    return {
        "Problem": obj(
            {
                "type": {**STRING, "format": "uri-reference"},
                "title": STRING,
                "status": {"type": "integer"},
                "detail": STRING,
                "code": {**STRING, "description": f"One of {', '.join(STATUSES)}."},
            },
            {"errors": _list(miss)},
            description="RFC 9457.",
        )
    }


def _socket() -> Json:
    """What a WebSocket takes: the bodies of the HTTP calls, told apart by `type`; and how it answers."""
    frames: Json = {}
    requests = _requests()
    for kind, name in (("resume", "Answer"), ("abort", "Abort"), ("message", "UserInput")):
        body = requests[name]
        frames[f"{kind.capitalize()}Frame"] = {
            **body,
            "properties": {"type": _enum(kind), **body["properties"]},
            "required": ["type", *body.get("required", ())],
        }
    problem = _problems()["Problem"]
    failed = obj({**{name: problem["properties"][name] for name in problem["required"]}, "type": _enum("error")})
    failed["properties"]["errors"] = problem["properties"]["errors"]
    return {
        **frames,
        "SocketFrame": _union("type", {name.removesuffix("Frame").lower(): name for name in frames}),
        "SocketOk": obj({"type": _enum("ok")}),
        "SocketError": {**failed, "description": "A problem whose `type` says that it is one."},
        "SocketAnswer": _union("type", {"ok": "SocketOk", "error": "SocketError"}),
    }


# -- events


def _events() -> Json:
    call = {"toolCallId": STRING, "toolName": STRING}
    item = {"runId": STRING, **call, "input": OBJECT, "decisionId": STRING}
    kinds = [f"{block}_{phase}" for block in ("text", "thinking", "toolcall") for phase in ("start", "delta", "end")]
    update = obj(
        {"type": _enum(*kinds), "contentIndex": COUNT},
        {"delta": STRING, "content": STRING, "toolCall": ref("ToolCall")},
    )
    result = obj({"content": _list(ref("UserBlock"))}, {"details": ANY})
    resolved = {"decision": ANY, "reason": STRING, "input": OBJECT, "decidedBy": STRING}
    fields: dict[str, tuple[Json, Json]] = {
        "agent_start": ({"runId": STRING, "agent": STRING, "messages": _list(ref("Message"))}, {}),
        "agent_resume": ({"runId": STRING, "toolCallIds": _list(STRING)}, {}),
        "agent_pause": ({"runId": STRING, "pending": _list(ref("PendingItem"))}, {"reason": STRING}),
        "agent_end": (
            {"runId": STRING, "status": _enum("completed", "failed", "aborted"), "usage": ref("Usage")},
            {"error": ref("RunError")},
        ),
        "turn_start": ({"turn": COUNT}, {}),
        "turn_end": ({"turn": COUNT, "message": ref("Message"), "toolResults": _list(ref("ToolResultMessage"))}, {}),
        "message_start": ({"message": ref("Message")}, {}),
        "message_update": ({"assistantMessageEvent": update}, {}),
        "message_end": ({"message": ref("Message")}, {}),
        "message_discard": ({"reason": STRING}, {}),
        "model_retry": ({"attempt": COUNT, "maxAttempts": COUNT, "delayMs": COUNT, "error": STRING}, {}),
        "tool_execution_start": ({**call, "args": OBJECT}, {}),
        "tool_execution_update": ({**call, "args": OBJECT, "partialResult": ANY}, {}),
        "tool_execution_end": ({**call, "result": result, "isError": BOOLEAN}, {}),
        "tool_decision_pending": ({**item, "schema": OBJECT}, {"expiresAt": TIME, "reason": STRING}),
        "tool_client_execute_pending": (item, {"expiresAt": TIME}),
        "tool_in_doubt": ({**item, "schema": OBJECT}, {"reason": STRING}),
        "tool_decision_resolved": (
            {"toolCallId": STRING, "decisionId": STRING, "outcome": _enum("decided", "rejected", "expired")},
            resolved,
        ),
    }
    events = {kind: _title(kind) for kind in [*fields, "stream_reset"]}
    stored = {"seq": {"type": "integer", "minimum": 1}, "timestamp": TIME}
    return {
        **{
            events[kind]: obj({"type": _enum(kind), **stored, **required}, optional)
            for kind, (required, optional) in fields.items()
        },
        events["stream_reset"]: obj({"type": _enum("stream_reset"), "run": ref("Run")}),
        "Event": _union("type", events),
    }


def _title(kind: str) -> str:
    """agent_start → AgentStartEvent."""
    return "".join(word.capitalize() for word in kind.split("_")) + "Event"

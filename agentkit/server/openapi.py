"""The OpenAPI 3.1 document of the whole interface. A test holds it against the routes and against real answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, get_args

from agentkit.core.events import ItemKind
from agentkit.core.messages import Json
from agentkit.core.record import Status
from agentkit.server.problems import STATUSES
from agentkit.server.schemas import ref, schemas

__all__ = ["document"]

_EXTRA = "not_found"
"""Where the package of an extra is missing."""
_BODY = ("invalid_request", "payload_too_large", "unsupported_media_type")


def document(version: str, left_out: Collection[str] = ()) -> Json:
    """Make the document. `version` is agentkit's; `left_out`: paths that are not served."""
    paths = {**_runs(), **_decisions(), **_one_run(), **_wires(), **_system()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agentkit",
            "version": version,
            "description": "Durable agent runs: start them, follow their events, answer what they ask.",
        },
        "servers": [{"url": "./"}],
        "tags": [{"name": "runs"}, {"name": "decisions"}, {"name": "wires"}, {"name": "system"}],
        "paths": {path: operations for path, operations in paths.items() if path not in left_out},
        "components": {
            "schemas": schemas(),
            "parameters": {
                "runId": {"name": "runId", "in": "path", "required": True, "schema": {"type": "string"}},
            },
        },
    }


# -- paths


def _runs() -> Json:
    key = _key("The same key and body again answer with the same run, another body with 409.")
    listing = [
        _parameter("status", "query", ref("Status")),
        *(_parameter(name, "query", {"type": "string"}) for name in ("agent", "owner", "text", "error")),
        *(_parameter(name, "query", {"type": "integer", "minimum": 0}) for name in ("since", "until")),
        {
            **_parameter("metadata", "query", {"type": "object", "additionalProperties": {"type": "string"}}),
            "style": "deepObject",
            "explode": True,
            "description": "Values by key, as in `metadata[customer]=42`; one that is not a string is given as JSON.",
        },
        *_PAGING,
    ]
    return {
        "/runs": {
            "post": _operation(
                "runs",
                "startRun",
                "Start a run. With `Accept: text/event-stream`, its events up to the next pause or the end.",
                {"202": _run("The run is accepted."), "200": _stream("The run's events from seq 1.")},
                (
                    *(*_BODY, "forbidden", "agent_not_found", "run_not_found", "run_not_terminal"),
                    *("idempotency_conflict", "quota_exceeded", "too_many_watchers"),
                ),
                parameters=[key],
                body="StartBody",
            ),
            "get": _operation(
                "runs",
                "listRuns",
                f"Runs, newest first, without messages. `status` is one of {', '.join(Status)}. `since`, `until`: when "
                "the oldest and the newest was created, in ms since the Unix epoch. `text`: part of the id or of "
                "`metadata.title`. `error`: the code of the error with which it ended. A page may be short and carry "
                "`nextCursor`.",
                {"200": _json("A page of runs.", "RunPage")},
                ("invalid_request",),
                parameters=listing,
            ),
        }
    }


def _decisions() -> Json:
    selecting = [
        _parameter("kind", "query", {"type": "string", "enum": list(get_args(ItemKind))}),
        *(_parameter(name, "query", {"type": "string"}) for name in ("agent", "tool", "owner")),
    ]
    return {
        "/decisions": {
            "get": _operation(
                "decisions",
                "listDecisions",
                "Pending items of all runs that the caller may read, oldest first, each to be answered on its `runId`. "
                "With `state=resolved` answers, newest first, also those of runs that are gone. A page may be short "
                "and carry `nextCursor`.",
                {"200": _either("A page of items, or of answers.", "DecisionPage", "AnswerPage")},
                ("invalid_request",),
                parameters=[
                    _parameter("state", "query", {"enum": ["pending", "resolved"], "default": "pending"}),
                    *selecting,
                    *_PAGING,
                ],
            ),
        },
        "/decisions/count": {
            "get": _operation(
                "decisions",
                "countDecisions",
                "How many items are pending of all runs that the caller may read, and when the oldest was created.",
                {"200": _json("The count.", "PendingCount")},
                ("invalid_request",),
                parameters=[_parameter("state", "query", {"enum": ["pending"], "default": "pending"}), *selecting],
            ),
        },
    }


def _one_run() -> Json:
    key = _key("The same key and body again answer as the first time and do nothing, another body with 409.")
    follow = [
        _parameter("Last-Event-ID", "header", {"type": "integer", "minimum": 0}),
        _parameter("after", "query", {"type": "integer", "minimum": 0, "default": 0}),
        _parameter("until", "query", {"type": "string", "enum": ["pause"]}),
    ]
    force = _parameter("force", "query", {"type": "integer", "enum": [0, 1], "default": 0})
    force["description"] = "1: abort the run first, where it has not ended."
    token = _parameter("token", "query", {"type": "string", "description": "A stream token, in place of credentials."})
    gone = {"description": "The run has ended, and everything has been read."}
    frames = {"x-send": ref("SocketFrame"), "x-receive": {"anyOf": [ref("Event"), ref("SocketAnswer")]}}
    upgraded = {"description": "The socket is open.", **frames}
    answered = (
        *(
            *_BODY,
            "forbidden",
            "too_many_watchers",
            "run_not_found",
            "decision_not_found",
            "run_not_paused",
            "tool_not_registered",
        ),
        *("decision_conflict", "decision_ambiguous", "decision_expired", "decision_invalid", "input_invalid"),
        "idempotency_conflict",
    )
    paths = {
        "/runs/{runId}": {
            "get": _operation(
                "runs", "getRun", "A run with its messages.", {"200": _json("The run.", "Run")}, ("run_not_found",)
            ),
            "delete": _operation(
                "runs",
                "deleteRun",
                "Delete an ended run, with the runs of its sub-agents.",
                {"204": {"description": "The run is gone."}},
                ("invalid_request", "forbidden", "run_not_found", "run_not_terminal"),
                parameters=[force],
            ),
        },
        "/runs/{runId}/why": {
            "get": _operation(
                "runs",
                "explainRun",
                "What the run waits for, since when, who can act, and what to do next. Which worker holds a step, and "
                "the queues, are shown to operators alone.",
                {"200": _json("The explanation.", "Why")},
                ("run_not_found",),
            )
        },
        "/runs/{runId}/events": {
            "get": _operation(
                "runs",
                "followRun",
                "The events after `Last-Event-ID` (or `after`), then those that come, until the run ends.",
                {"200": _stream("Server-sent events."), "204": gone},
                ("invalid_request", "invalid_last_event_id", "run_not_found", "too_many_watchers"),
                parameters=[*follow, token],
            )
        },
        "/runs/{runId}/ws": {
            "get": _operation(
                "runs",
                "openSocket",
                "A WebSocket (RFC 6455). Out: the run's events as text frames (`Event`), and the answer to each frame "
                "that came in (`SocketAnswer`). In: `SocketFrame`. It closes with 1000 after `agent_end`.",
                {"101": upgraded},
                ("invalid_request", "invalid_last_event_id", "forbidden", "run_not_found", "too_many_watchers"),
                parameters=[follow[1], token],
            )
        },
        "/runs/{runId}/stream-token": {
            "post": _operation(
                "runs",
                "newStreamToken",
                "A token for the query of `/events` and `/ws`, where a browser can send no headers. It is the "
                "caller's, for this run, and for a short time. It reads; with the scope `answer` it also takes "
                "frames on `/ws`, as far as the caller may.",
                {"200": _json("The token.", "StreamToken")},
                (*_BODY, "forbidden", "run_not_found"),
                body="StreamTokenBody",
                optional_body=True,
            )
        },
        "/runs/{runId}/resume": {
            "post": _operation(
                "runs",
                "resumeRun",
                "Answer a pending item. The same answer again is harmless; one that is invalid consumes nothing.",
                {"202": _run("The answer is accepted."), "200": _stream("The events from the answer on.")},
                answered,
                parameters=[key],
                body="ResumeBody",
            )
        },
        "/runs/{runId}/extend": {
            "post": _operation(
                "runs",
                "extendItem",
                "Give a pending item that expires more time. The run shows its new `expiresAt`; no event shows it.",
                {"202": _run("The item expires later.")},
                (
                    *_BODY,
                    *("forbidden", "run_not_found", "decision_not_found", "run_not_paused", "decision_expired"),
                    "idempotency_conflict",
                ),
                parameters=[key],
                body="ExtendBody",
            )
        },
        "/runs/{runId}/abort": {
            "post": _operation(
                "runs",
                "abortRun",
                "End a run. Repeating it, also after the end, changes nothing.",
                {"202": _run("The run ends or has ended.")},
                (*_BODY, "forbidden", "run_not_found"),
                body="AbortBody",
                optional_body=True,
            )
        },
        "/runs/{runId}/messages": {
            "post": _operation(
                "runs",
                "sendMessage",
                "Send a user message into a run: for its next model call, or for another turn when it would end.",
                {"202": _run("The message is queued.")},
                (*_BODY, "forbidden", "run_not_found", "run_not_paused", "idempotency_conflict"),
                parameters=[key],
                body="MessageBody",
            )
        },
    }
    return {path: {"parameters": [{"$ref": "#/components/parameters/runId"}], **item} for path, item in paths.items()}


def _wires() -> Json:
    begins = (
        *("agent_not_found", "run_not_found", "run_not_terminal", "idempotency_conflict", "quota_exceeded"),
        "too_many_watchers",
    )
    answers = (
        *("decision_not_found", "run_not_paused", "tool_not_registered", "decision_conflict", "decision_expired"),
        *("decision_invalid", "input_invalid"),
    )
    refusals = (*_BODY, "forbidden", *begins, *answers)
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    ag_ui = {"description": "AG-UI events up to the next pause or the end.", "content": stream}
    chunks = {"description": "A UI message stream (v1) up to the next pause or the end.", "content": stream}
    idle = {"description": "Nothing runs or waits."}
    told = {"description": "AgentCapabilities.", "content": {"application/json": {"schema": {"type": "object"}}}}
    message = {"description": "Its answer.", "content": {"application/json": {"schema": {"type": "object"}}}}
    ag_ui_input = _inline_body("RunAgentInput of AG-UI 1.0.", ["threadId", "runId", "messages"])
    chat = _inline_body("What `useChat` of the AI SDK sends: the chat's id and its UI messages.", ["id", "messages"])
    agent = _in_path("agent")
    return {
        "/ag-ui/{agent}": {
            "parameters": [agent],
            "post": {
                **_operation(
                    "wires", "runAgUi", "Run an agent for an AG-UI client.", {"200": ag_ui}, (*refusals, _EXTRA)
                ),
                "requestBody": ag_ui_input,
            },
        },
        "/ag-ui/{agent}/capabilities": {
            "parameters": [agent],
            "get": _operation(
                "wires",
                "getAgUiCapabilities",
                "What an agent can do, as AG-UI has it.",
                {"200": told},
                ("unauthenticated", "agent_not_found", _EXTRA),
                of_runs=False,
            ),
        },
        "/mcp": {
            "post": {
                **_operation(
                    "wires",
                    "serveMcp",
                    "One message of an MCP client (streamable HTTP without sessions).",
                    {"200": message, "202": {"description": "A notification was taken."}},
                    (*_BODY, "unauthenticated", "forbidden", _EXTRA),
                    of_runs=False,
                ),
                "requestBody": _inline_body("A message of JSON-RPC.", ["jsonrpc"]),
            },
        },
        "/ai-sdk/{agent}": {
            "parameters": [agent],
            "post": {
                **_operation("wires", "runAiSdk", "Run an agent for a chat of the AI SDK.", {"200": chunks}, refusals),
                "requestBody": chat,
            },
        },
        "/ai-sdk/{agent}/{chatId}/stream": {
            "parameters": [agent, _in_path("chatId")],
            "get": _operation(
                "wires",
                "reconnectAiSdk",
                "The chat's run from its beginning, where it runs or waits.",
                {"200": chunks, "204": idle},
                ("invalid_request", "agent_not_found", "run_not_found", "too_many_watchers"),
            ),
        },
    }


_OF_CALLERS = {"/agents": ("unauthenticated",), "/doctor": ("unauthenticated", "forbidden")}
"""What refuses callers of paths that are of no run."""


def _system() -> Json:
    page = {"description": "A page for people.", "content": {"text/html": {"schema": {"type": "string"}}}}
    metrics = {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    this = {"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}}
    ready = {"200": _json("Runs are carried out.", "Readiness"), "503": _json("Something is missing.", "Readiness")}
    rows: tuple[tuple[str, str, str, Json], ...] = (
        ("/", "showPage", "What is running here.", {"200": page}),
        ("/agents", "listAgents", "Names, models and tools.", {"200": _json("The agents.", "AgentList")}),
        ("/healthz", "getHealth", "Whether the process is alive.", {"200": _json("It is.", "Health")}),
        ("/readyz", "getReadiness", "Whether store, broker and a worker are there.", ready),
        ("/doctor", "getDoctor", "The state of the installation, for operators.", {"200": _json("It.", "Doctor")}),
        ("/metrics", "getMetrics", "Of the whole installation, whichever web process is asked.", {"200": metrics}),
        ("/openapi.json", "getOpenApi", "The OpenAPI document.", {"200": this}),
    )
    return {
        path: {"get": _operation("system", name, summary, answers, _OF_CALLERS.get(path, ()), of_runs=False)}
        for path, name, summary, answers in rows
    }


# -- parts


def _operation(
    tag: str,
    name: str,
    summary: str,
    answers: Json,
    problems: Iterable[str],
    *,
    parameters: list[Json] | None = None,
    body: str | None = None,
    optional_body: bool = False,
    of_runs: bool = True,
) -> Json:
    operation: Json = {"operationId": name, "tags": [tag], "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body:
        content = {"application/json": {"schema": ref(body)}}
        operation["requestBody"] = {"required": not optional_body, "content": content}
    codes = [*problems, *(["unauthenticated", "store_unavailable"] if of_runs else [])]
    operation["responses"] = {**answers, **_problems(codes)}
    return operation


def _inline_body(description: str, required: list[str]) -> Json:
    schema = {"type": "object", "required": required, "description": description}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _problems(codes: list[str]) -> Json:
    by_status: dict[str, list[str]] = {}
    for code in codes:
        by_status.setdefault(str(STATUSES[code]), []).append(code)
    responses: Json = {}
    for status, names in sorted(by_status.items()):
        responses[status] = {
            "description": ", ".join(f"`{name}`" for name in names),
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
        if status == "401":
            responses[status]["headers"] = _header("WWW-Authenticate", {"type": "string"})
        if status in ("429", "503"):
            responses[status]["headers"] = _header("Retry-After", {"type": "integer", "description": "Seconds."})
    return responses


def _parameter(name: str, where: str, schema: Json) -> Json:
    return {"name": name, "in": where, "required": False, "schema": schema}


_PAGING = (
    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
    _parameter("cursor", "query", {"type": "string", "description": "nextCursor of the page before."}),
)


def _key(description: str) -> Json:
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return {**_parameter("Idempotency-Key", "header", schema), "description": description}


def _header(name: str, schema: Any) -> Json:
    return {name: {"schema": schema}}


def _json(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def _either(description: str, *schemas: str) -> Json:
    content = {"application/json": {"schema": {"anyOf": [ref(schema) for schema in schemas]}}}
    return {"description": description, "content": content}


def _run(description: str) -> Json:
    return {**_json(description, "Run"), "headers": _header("Location", {"type": "string"})}


def _stream(description: str) -> Json:
    return {
        "description": f"{description} Each frame has `id: <seq>` and `data:` with one event as JSON.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "x-event": ref("Event")}},
    }

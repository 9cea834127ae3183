"""The calls of a client, each as a plan: what is sent, and what is made of the answer.

`Client` and `AsyncClient` have each of them as a method, with the parameters that follow `server` here.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Literal
from urllib.parse import quote

from agentkit.client.plans import (
    LONGEST_WAIT,
    Answer,
    ApiError,
    Failure,
    Next,
    Out,
    Plan,
    Request,
    Server,
    ServerUnreachableError,
    Waiting,
    ask,
    checked,
    problem,
)
from agentkit.core.struct import Json

__all__ = ["abort", "agents", "delete", "events", "extend", "get", "ready", "resume", "runs", "send", "start"]

_SILENCE_SECONDS = 40.0
"""A stream that is silent for longer is dead: a server sends at least a comment every 15 seconds."""
_UNSET: Any = object()


def start(
    server: Server,
    agent: str,
    input: str | list[Json] | None = None,
    *,
    messages: list[Json] | None = None,
    model: str | None = None,
    metadata: Json | None = None,
    limits: Json | None = None,
    idempotency_key: str | None = None,
) -> Plan[Json]:
    """Start a run and return it. A start whose answer got lost is sent again, and starts no second run."""
    body = _given(agent=agent, input=input, messages=messages, model=model, metadata=metadata, limits=limits)
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return (yield from _json(server, Request("POST", "/runs", body, headers=headers)))


def get(server: Server, run_id: str) -> Plan[Json]:
    """The run with its messages."""
    return (yield from _json(server, Request("GET", _path(run_id))))


def runs(server: Server, status: str | None = None, agent: str | None = None) -> Plan[None]:
    """All runs, newest first, without messages; read page by page."""
    params = _given(status=status, agent=agent, limit="100")
    while True:
        page = yield from _json(server, Request("GET", "/runs", params=params))
        for run in page["runs"]:
            yield Out(run)
        if not page.get("nextCursor"):
            return
        params = {**params, "cursor": page["nextCursor"]}


def resume(
    server: Server,
    run_id: str,
    *,
    decision: Any = _UNSET,
    reject: str | None = None,
    result: Any = _UNSET,
    tool_call_id: str | None = None,
    decision_id: str | None = None,
    input: Json | None = None,
) -> Plan[Json]:
    """Answer a pending item by one of `decision`, `reject` (a reason) and `result`; the run.

    The ids may be left out when one item is pending. With `decision_id`, an answer whose reply got
    lost is sent again.
    """
    body = _given(toolCallId=tool_call_id, decisionId=decision_id, input=input)
    if decision is not _UNSET:
        body["decision"] = decision
    if result is not _UNSET:
        body["result"] = result
    if reject is not None:
        body["reject"] = {"reason": reject}
    request = Request("POST", _path(run_id, "/resume"), body)
    return (yield from _json(server, request, repeatable=decision_id is not None))


def extend(server: Server, run_id: str, decision_id: str, by: float) -> Plan[Json]:
    """Give a pending item that expires `by` seconds more; the run.

    It is not sent again where its reply got lost: sent twice, it would move the time twice.
    """
    request = Request("POST", _path(run_id, "/extend"), {"decisionId": decision_id, "by": by})
    return (yield from _json(server, request, repeatable=False))


def send(
    server: Server, run_id: str, message: str | list[Json], when: Literal["steer", "followUp"] = "followUp"
) -> Plan[Json]:
    """Send a user message into a run: "steer" for its next model call, "followUp" for another turn at its end.

    It is not sent again where its reply got lost: sent twice, the model would read it twice.
    """
    request = Request("POST", _path(run_id, "/messages"), {"message": message, "when": when})
    return (yield from _json(server, request, repeatable=False))


def abort(server: Server, run_id: str, reason: str | None = None) -> Plan[Json]:
    """End a run; the run. Harmless when repeated."""
    return (yield from _json(server, Request("POST", _path(run_id, "/abort"), _given(reason=reason))))


def delete(server: Server, run_id: str) -> Plan[None]:
    """Forget a run that has ended. A deletion whose reply got lost is sent again, and may then find no run."""
    answer = yield from ask(server, Request("DELETE", _path(run_id)))
    if answer.status != 204:
        raise problem(server, answer)  # whoever says so has deleted nothing


def agents(server: Server) -> Plan[list[Json]]:
    """The agents that the server has: `[{name, model, tools: […]}]`."""
    answer: Any = yield from _json(server, Request("GET", "/agents"))
    found: list[Json] = answer["agents"] if isinstance(answer, dict) else answer
    return found


def ready(server: Server) -> Plan[Literal[True] | str]:
    """True where the server, its store and a worker answer; otherwise why not. Never waits for the server."""
    reply: Answer | Failure = yield Request("GET", "/readyz", timeout=2.0)
    if isinstance(reply, Failure):
        return reply.reason
    if reply.status == 200:
        return True
    try:
        missing = [name for name, fine in reply.json()["checks"].items() if not fine]
    except (ValueError, KeyError, TypeError, AttributeError):
        return problem(server, reply).detail
    return f"no {' and no '.join(missing)}"


def events(server: Server, run_id: str, after: int = 0, *, until_pause: bool = False) -> Plan[None]:
    """The run's events after the seq `after`, as they come, until the run ends (or, asked for, pauses).

    No event twice and none left out, whatever becomes of the connection meanwhile. Where old events
    are no longer kept, a `stream_reset` comes in their place.
    """
    waiting = Waiting(server)
    while True:
        request = Request(
            "GET",
            _path(run_id, "/events"),
            params={"until": "pause"} if until_pause else {},
            headers={"Accept": "text/event-stream", **({"Last-Json-ID": str(after)} if after else {})},
            timeout=_SILENCE_SECONDS,
            stream=True,
        )
        opened = yield from ask(server, request, waiting=waiting)
        if opened.status == 204:
            return
        if not opened.headers.get("content-type", "").startswith("text/event-stream"):
            raise _no_stream(server)
        error = ServerUnreachableError(f"{server.url} keeps closing the stream")
        since, got, silent = time.monotonic(), False, False
        while (data := (yield Next())) is not None:
            if isinstance(data, Failure):
                error, silent = server.unreachable(data), data.silent
                break
            event = _event(server, data)
            got = True
            waiting.over()
            after = _seq(event)
            yield Out(event)
            if _is_last(event, until_pause):
                return
        else:
            if not got and until_pause and (yield from get(server, run_id))["status"] == "paused":
                return
        if not silent and time.monotonic() - since > LONGEST_WAIT:
            waiting.over()  # it was there: of a run that is paused there is nothing to tell but keepalives
        yield from waiting.wait(error)


# -- inside


def _json(server: Server, request: Request, *, repeatable: bool = True) -> Plan[Json]:
    answer: Json = checked(server, (yield from ask(server, request, repeatable=repeatable)))
    return answer


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _path(run_id: str, more: str = "") -> str:
    return f"/runs/{quote(run_id, safe='')}{more}"


def _event(server: Server, data: str) -> Json:
    try:
        event: Json = json.loads(data)
        return event
    except ValueError as error:
        raise _no_stream(server) from error


def _no_stream(server: Server) -> ApiError:
    return ApiError(200, "not_agentkit", f"{server.url} answers with no event stream")


def _seq(event: Json) -> int:
    seq: int = event["run"]["lastSeq"] if event["type"] == "stream_reset" else event["seq"]
    return seq


def _is_last(event: Json, until_pause: bool) -> bool:
    if event["type"] == "stream_reset":
        status = event["run"]["status"]
        return status in ("completed", "failed", "aborted") or (until_pause and status == "paused")
    return event["type"] == "agent_end" or (until_pause and event["type"] == "agent_pause")

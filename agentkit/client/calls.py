"""The calls of a client, each as a plan: what is sent, and what is made of the answer.

`Client` and `AsyncClient` have each of them as a method, with the parameters that follow `server` here; the docstrings
are those of the methods. Every call may raise ApiError, where the server refuses, and ServerUnreachableError, where it
does not answer within the client's `retry_seconds`. Each may be sent again after a lost answer: those that would have
another effect the second time carry an idempotency key.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from agentkit.client.plans import (
    MAX_DELAY_SECONDS,
    Answer,
    ApiError,
    Emit,
    Failure,
    Next,
    Plan,
    Request,
    Retries,
    Server,
    ServerUnreachableError,
    ask,
    checked,
    problem,
)
from agentkit.core.struct import Json

__all__ = [
    "abort",
    "agents",
    "count_decisions",
    "decisions",
    "delete",
    "doctor",
    "events",
    "extend",
    "get",
    "ready",
    "resume",
    "runs",
    "send",
    "start",
    "why",
]

_SILENCE_SECONDS = 40.0
"""Seconds of silence after which a stream is reconnected: a server sends at least a comment every 15 seconds."""
_ABSENT: Any = object()


def start(
    server: Server,
    agent: str | None = None,
    input: str | list[Json] | None = None,
    *,
    messages: list[Json] | None = None,
    from_run: str | None = None,
    turn: int | None = None,
    model: str | None = None,
    metadata: Json | None = None,
    limits: Json | None = None,
    idempotency_key: str | None = None,
) -> Plan[Json]:
    """Start a run and return it, as the server accepted it.

    `agent`: the agent's name. `input`: the user message, as text or as content blocks. `messages`: an earlier
    conversation to go on from. `from_run`: the id of a run that has ended, whose messages the run begins with, up to
    the end of its `turn` (by default the last whole one); then `agent` is by default that run's, and without `input`
    the model goes on from there: a retry. `model`: "provider:model" in place of the agent's. `metadata`: any JSON, kept
    with the run. `limits`: `{maxTurns, maxTokens, maxCost, timeout}`, each optional: a count of turns, of tokens, US
    dollars, seconds. `idempotency_key`: calls with the same key start one run; by default each call makes a key of its
    own, so that a retry after a lost answer starts no second run.
    """
    body = _without_none(agent=agent, input=input, messages=messages, model=model, metadata=metadata, limits=limits)
    if from_run is not None:
        body["from"] = _without_none(runId=from_run, turn=turn)
    return (yield from _post(server, "/runs", body, idempotency_key))


def get(server: Server, run_id: str) -> Plan[Json]:
    """Return a run with its messages. Raises ApiError `run_not_found`."""
    return (yield from _json(server, Request("GET", _path(run_id))))


def why(server: Server, run_id: str) -> Plan[Json]:
    """Return what a run waits for, since when, who can act, and what to do next. Raises ApiError `run_not_found`."""
    return (yield from _json(server, Request("GET", _path(run_id, "/why"))))


def runs(
    server: Server,
    status: str | None = None,
    agent: str | None = None,
    *,
    owner: str | None = None,
    since: int | None = None,
    until: int | None = None,
    text: str | None = None,
    error: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Plan[None]:
    """Iterate over all runs, newest first, without their messages. The arguments select some.

    `since`, `until`: when they were created, in ms since the Unix epoch. `text`: part of the id or of
    `metadata.title`. `error`: the code of the error with which they ended. `metadata`: values by key, each as text, or
    as its JSON where it is not a string. They are read page by page, 100 at a time.
    """
    times = {name: str(at) for name, at in (("since", since), ("until", until)) if at is not None}
    params = _without_none(status=status, agent=agent, owner=owner, text=text, error=error, **times, limit="100")
    params |= {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
    yield from _pages(server, "/runs", params, "runs")


def decisions(
    server: Server,
    *,
    state: Literal["pending", "resolved"] = "pending",
    kind: str | None = None,
    agent: str | None = None,
    tool: str | None = None,
    owner: str | None = None,
) -> Plan[None]:
    """Iterate over the pending items of all runs that the caller may read, oldest first.

    Each is answered by `resume` of its `runId`. With `state="resolved"` it is answers, newest first: items with their
    `outcome`, `decision`, `decidedBy` and `decidedAt`. `kind` ("decision", "client_execute" or "in_doubt"), `agent`,
    `tool` and the run's `owner` select some. They are read page by page, 100 at a time.
    """
    params = _without_none(state=state, kind=kind, agent=agent, tool=tool, owner=owner, limit="100")
    yield from _pages(server, "/decisions", params, "decisions")


def count_decisions(
    server: Server,
    *,
    kind: str | None = None,
    agent: str | None = None,
    tool: str | None = None,
    owner: str | None = None,
) -> Plan[Json]:
    """Return `{pending, oldestCreatedAt}`: how many items are pending, as `decisions` selects them, and since when."""
    params = _without_none(kind=kind, agent=agent, tool=tool, owner=owner)
    return (yield from _json(server, Request("GET", "/decisions/count", params=params)))


def resume(
    server: Server,
    run_id: str,
    *,
    decision: Any = _ABSENT,
    reject: str | None = None,
    result: Any = _ABSENT,
    tool_call_id: str | None = None,
    decision_id: str | None = None,
    input: Json | None = None,
    remember: bool = False,
    idempotency_key: str | None = None,
) -> Plan[Json]:
    """Answer a pending item and return the run.

    Give one of: `decision`, valid against the item's schema; `reject`, a reason that the model is shown; `result`, of
    a tool that runs at the client. `tool_call_id`, `decision_id`: the item; without them the run is read first, and
    where one item is pending, that one is named: an answer must not be taken for the next.
    `input`: arguments in place of the model's. `remember`: later calls of the tool in the run are answered alike, where
    the item allows it. `idempotency_key`: calls with the same key and arguments answer one item
    once, the one that was pending at the first of them; by default each call makes a key of its own, so that a retry
    after a lost answer does nothing more. Raises ApiError, among others `decision_invalid`, `decision_conflict` and
    `decision_expired`.
    """
    if tool_call_id is None and decision_id is None and idempotency_key is None:
        pending = (yield from get(server, run_id)).get("pending", [])
        decision_id = pending[0]["decisionId"] if len(pending) == 1 else None
    body = _without_none(toolCallId=tool_call_id, decisionId=decision_id, input=input)
    if remember:
        body["remember"] = True
    if decision is not _ABSENT:
        body["decision"] = decision
    if result is not _ABSENT:
        body["result"] = result
    if reject is not None:
        body["reject"] = {"reason": reject}
    return (yield from _post(server, _path(run_id, "/resume"), body, idempotency_key))


def extend(
    server: Server, run_id: str, decision_id: str, by: float, *, idempotency_key: str | None = None
) -> Plan[Json]:
    """Move the expiry of a pending item `by` seconds later and return the run.

    `idempotency_key`: calls with the same key move it once; by default each call makes a key of its own.
    """
    return (yield from _post(server, _path(run_id, "/extend"), {"decisionId": decision_id, "by": by}, idempotency_key))


def send(
    server: Server,
    run_id: str,
    message: str | list[Json],
    when: Literal["steer", "followUp"] = "followUp",
    *,
    idempotency_key: str | None = None,
) -> Plan[Json]:
    """Send a user message into a run and return the run.

    `message`: text or content blocks. `when`: "steer" for the run's next model call, "followUp" for another turn at its
    end. `idempotency_key`: calls with the same key send it once; by default each call makes a key of its own.
    """
    return (yield from _post(server, _path(run_id, "/messages"), {"message": message, "when": when}, idempotency_key))


def abort(server: Server, run_id: str, reason: str | None = None) -> Plan[Json]:
    """Abort a run and return it. `reason` is shown in its error. Does nothing to a run that has ended."""
    return (yield from _json(server, Request("POST", _path(run_id, "/abort"), _without_none(reason=reason))))


def delete(server: Server, run_id: str, *, force: bool = False) -> Plan[None]:
    """Delete a run that has ended, with the runs of its sub-agents.

    `force`: abort it first, where it has not ended; without it, such a run raises ApiError `run_not_terminal`. It is
    sent again after a lost answer, and may then raise ApiError `run_not_found`.
    """
    answer = yield from ask(server, Request("DELETE", _path(run_id), params={"force": "1"} if force else {}))
    if answer.status != 204:
        raise problem(server, answer)  # any other success is not agentkit's, and nothing was deleted


def agents(server: Server) -> Plan[list[Json]]:
    """Return the server's agents: `[{name, model, tools: […]}]`."""
    answer: Any = yield from _json(server, Request("GET", "/agents"))
    found: list[Json] = answer["agents"] if isinstance(answer, dict) else answer
    return found


def doctor(server: Server) -> Plan[Json]:
    """Return the state of the installation. Raises ApiError `forbidden` where the caller is no operator."""
    return (yield from _json(server, Request("GET", "/doctor")))


def ready(server: Server) -> Plan[Literal[True] | str]:
    """Return True where the server, its store, its broker and a worker answer, else the reason as text.

    It is asked once, for two seconds at most, and raises nothing.
    """
    reply: Answer | Failure = yield Request("GET", "/readyz", timeout=2.0)
    if isinstance(reply, Failure):
        return reply.reason
    if reply.status == 200:
        return True
    try:
        missing = [name for name, is_up in reply.json()["checks"].items() if not is_up]
    except (ValueError, KeyError, TypeError, AttributeError):
        return problem(server, reply).detail
    return f"no {' and no '.join(missing)}"


def events(server: Server, run_id: str, after: int = 0, *, until_pause: bool = False) -> Plan[None]:
    """Iterate over a run's events after the seq `after`, as they happen, until the run ends.

    `until_pause`: also end where the run pauses. No event comes twice and none is left out, however often the
    connection breaks. Where old events are no longer kept, a `stream_reset` comes in their place.
    """
    retries = Retries(server)
    while True:
        request = Request(
            "GET",
            _path(run_id, "/events"),
            params={"until": "pause"} if until_pause else {},
            headers={"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})},
            timeout=_SILENCE_SECONDS,
            stream=True,
        )
        opened = yield from ask(server, request, retries=retries)
        if opened.status == 204:
            return
        if not opened.headers.get("content-type", "").startswith("text/event-stream"):
            raise _not_a_stream(server)
        error = ServerUnreachableError(f"{server.url} keeps closing the event stream of run {run_id} without an event")
        opened_at, has_events, is_silent = time.monotonic(), False, False
        while (data := (yield Next())) is not None:
            if isinstance(data, Failure):
                error, is_silent = server.unreachable(data), data.silent
                break
            event = _event(server, data)
            has_events = True
            retries.reset()
            after = _seq(event)
            yield Emit(event)
            if _is_last(event, until_pause):
                return
        else:
            if not has_events and until_pause and (yield from get(server, run_id))["status"] == "paused":
                return
        if not is_silent and time.monotonic() - opened_at > MAX_DELAY_SECONDS:
            retries.reset()  # it did serve the stream: that of a paused run has only keepalives
        yield from retries.wait(error)


# -- inside


def _json(server: Server, request: Request) -> Plan[Json]:
    answer: Json = checked(server, (yield from ask(server, request)))
    return answer


def _post(server: Server, path: str, body: Json, idempotency_key: str | None) -> Plan[Json]:
    """Send what takes effect once for each key; without one, under a key of this call's own."""
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return (yield from _json(server, Request("POST", path, body, headers=headers)))


def _pages(server: Server, path: str, params: Json, name: str) -> Plan[None]:
    """Emit the entries of all pages, which have them under `name`."""
    while True:
        page = yield from _json(server, Request("GET", path, params=params))
        for entry in page[name]:
            yield Emit(entry)
        if not page.get("nextCursor"):
            return
        params = {**params, "cursor": page["nextCursor"]}


def _without_none(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _path(run_id: str, more: str = "") -> str:
    return f"/runs/{quote(run_id, safe='')}{more}"


def _event(server: Server, data: str) -> Json:
    try:
        event: Json = json.loads(data)
        return event
    except ValueError as error:
        raise _not_a_stream(server) from error


def _not_a_stream(server: Server) -> ApiError:
    return ApiError(200, "not_agentkit", f"{server.url} answered without an event stream: is it an agentkit server?")


def _seq(event: Json) -> int:
    seq: int = event["run"]["lastSeq"] if event["type"] == "stream_reset" else event["seq"]
    return seq


def _is_last(event: Json, until_pause: bool) -> bool:
    if event["type"] == "stream_reset":
        status = event["run"]["status"]
        return status in ("completed", "failed", "aborted") or (until_pause and status == "paused")
    return event["type"] == "agent_end" or (until_pause and event["type"] == "agent_pause")

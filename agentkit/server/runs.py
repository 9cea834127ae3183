"""Runs over HTTP: start, list, show, follow, answer, extend, steer, abort, delete."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, request
from msgspec import UNSET

from agentkit.core.record import TERMINAL, Status
from agentkit.core.requests import AbortBody, ExtendBody, MessageBody, ResumeBody, StartBody, StreamTokenBody, or_none
from agentkit.errors import InvalidLastEventIdError, InvalidRequestError
from agentkit.runs import RunHandle
from agentkit.runtime.follow import Opening
from agentkit.server import access, bodies
from agentkit.server.answers import RunPage, StreamToken
from agentkit.server.state import json_response, state
from agentkit.server.streams import StreamSlot, sse_response, wants_sse

__all__ = ["ID", "blueprint", "known_parameters", "limit", "open_log", "resume"]

blueprint = Blueprint("runs", __name__)

MAX_LIMIT = 200
DEFAULT_LIMIT = 50

_FILTERS = ("status", "agent", "owner", "since", "until", "text", "error")
_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The ids of runs and items."""


@blueprint.post("/runs")
def start_run() -> Response:
    body = bodies.read(StartBody)
    content: str | list[Any] | None = None if body.input is UNSET else body.input
    access.check_history(or_none(body.messages) or ())
    slot = _slot()
    source = or_none(body.from_)
    handle = state().kit.start(
        or_none(body.agent),
        content,
        or_none(body.messages),
        or_none(body.metadata),
        or_none(body.limits),
        from_run=None if source is None else source.run_id,
        turn=None if source is None else or_none(source.turn),
        model=or_none(body.model),
        idempotency_key=_key(),
        owner=access.principal(),
        permit=access.check_start,
        permit_source=access.check_source,
    )
    return _accepted(handle, slot)


@blueprint.get("/runs")
def list_runs() -> Response:
    metadata = _metadata()
    known_parameters((*_FILTERS, *(f"metadata[{key}]" for key in metadata), "limit", "cursor"))
    status = request.args.get("status")
    if status is not None and status not in list(Status):
        raise InvalidRequestError(f"status must be one of {', '.join(Status)}")
    cursor = request.args.get("cursor")
    if cursor is not None and not ID.fullmatch(cursor):
        raise InvalidRequestError("cursor must be the nextCursor of another page")
    owner, only = request.args.get("owner"), state().kit.only_owner(access.principal())
    if only is not None and owner not in (None, only):
        return json_response(RunPage([], None))
    page, following = state().kit.page(
        status=status,
        agent=request.args.get("agent"),
        since=_time("since"),
        until=_time("until"),
        text=request.args.get("text"),
        error=request.args.get("error"),
        metadata=metadata,
        limit=limit(),
        cursor=cursor,
        where=lambda run: access.allows("read", run),
        owner=only or owner,
    )
    return json_response(RunPage(list(page), following))


def _time(name: str) -> int | None:
    """Read a time of the query, in ms."""
    text = request.args.get(name)
    if text is not None and not _NUMBER.fullmatch(text):
        raise InvalidRequestError(f"{name} must be a time in milliseconds since the Unix epoch")
    return None if text is None else int(text)


def _metadata() -> dict[str, str]:
    """Read the wanted metadata of the query, `metadata[key]=value`."""
    found = ((_METADATA.fullmatch(name), value) for name, value in request.args.items())
    return {name[1]: value for name, value in found if name is not None}


@blueprint.get("/runs/<run_id>")
def get_run(run_id: str) -> Response:
    return json_response(state().kit.get(run_id))


@blueprint.get("/runs/<run_id>/why")
def explain_run(run_id: str) -> Response:
    return json_response(access.explained(run_id))


@blueprint.get("/runs/<run_id>/events")
def run_events(run_id: str) -> Response:
    known_parameters(("after", "until", "token"))
    until = request.args.get("until")
    if until not in (None, "pause"):
        raise InvalidRequestError("until takes one value: pause")
    slot = None if request.method == "HEAD" else StreamSlot.of_request()
    opening = open_log(run_id)
    if opening.after == opening.page.last_seq and opening.page.status in TERMINAL:
        opening.close()
        return _nothing()  # which stops a browser's EventSource
    handle = state().kit.handle(run_id)
    return sse_response(handle, opening.after, until_pause=until == "pause", slot=slot, opening=opening)


@blueprint.post("/runs/<run_id>/resume")
def resume_run(run_id: str) -> Response:
    body = bodies.read(ResumeBody)
    slot = _slot()
    return _accepted(resume(run_id, body, _key()), slot)


def resume(run_id: str, body: ResumeBody, idempotency_key: str | None = None) -> RunHandle:
    """Give a pending item the answer of the current request's caller."""
    tool_call_id = or_none(body.tool_call_id)
    return state().kit.answer(
        run_id,
        bodies.answer_of(body),
        tool_call_id=tool_call_id,
        decision_id=or_none(body.decision_id),
        idempotency_key=idempotency_key,
        permit=lambda decision_id: access.check_item(
            run_id, "resume", tool_call_id=tool_call_id, decision_id=decision_id
        ),
    )


@blueprint.post("/runs/<run_id>/extend")
def extend_item(run_id: str) -> Response:
    body = bodies.read(ExtendBody)
    handle = state().kit.extend(
        run_id,
        body.decision_id,
        body.by,
        idempotency_key=_key(),
        caller=access.principal(),
        permit=lambda decision_id: access.check_item(run_id, "extend", tool_call_id=None, decision_id=decision_id),
    )
    return _accepted(handle)


@blueprint.post("/runs/<run_id>/abort")
def abort_run(run_id: str) -> Response:
    body = bodies.read(AbortBody, optional=True)
    return _accepted(state().kit.abort(run_id, or_none(body.reason), by=access.principal()))


@blueprint.post("/runs/<run_id>/messages")
def send_message(run_id: str) -> Response:
    body = bodies.read(MessageBody)
    by = access.principal()
    return _accepted(state().kit.send(run_id, body.message, body.when, idempotency_key=_key(), by=by))


@blueprint.delete("/runs/<run_id>")
def delete_run(run_id: str) -> Response:
    known_parameters(("force",))
    force = request.args.get("force", "0")
    if force not in ("0", "1"):
        raise InvalidRequestError("force takes the values 0 and 1")
    if force == "1":
        access.check_forced(run_id)
    state().kit.delete(run_id, force=force == "1", by=access.principal())
    return _nothing()


@blueprint.post("/runs/<run_id>/stream-token")
def new_stream_token(run_id: str) -> Response:
    body = bodies.read(StreamTokenBody, optional=True)
    return json_response(StreamToken(*access.stream_token(run_id, body.scope)))


def open_log(run_id: str) -> Opening:
    """Open the run's log where the request wants to go on in it: after `Last-Event-ID`, or else `?after=`.

    Raises RunNotFoundError and InvalidLastEventIdError before anything streams.
    """
    header = request.headers.get("Last-Event-ID")
    text = request.args.get("after", "0") if header is None else header
    is_seq = _NUMBER.fullmatch(text) is not None
    opening = state().kit.handle(run_id).open(int(text) if is_seq else 0)
    last = opening.page.last_seq
    if is_seq and opening.after <= last:
        return opening
    opening.close()
    if is_seq:
        raise InvalidLastEventIdError(f"the run's log ends at {last}; {opening.after} lies beyond it")
    raise InvalidLastEventIdError(f"{'after' if header is None else 'Last-Event-ID'} must be a seq, say 17")


def _key() -> str | None:
    return request.headers.get("Idempotency-Key")


def _slot() -> StreamSlot | None:
    """Take a slot where the answer is to be a stream, before anything is done; None where it is not."""
    return StreamSlot.of_request() if wants_sse() else None


def _accepted(handle: RunHandle, slot: StreamSlot | None = None) -> Response:
    """Answer 202 and the run, or with a slot 200 and its events from what the call wrote to the next pause or end."""
    response = sse_response(handle, slot=slot) if slot else json_response(handle.written or handle.run, 202)
    response.headers["Location"] = quote(f"{request.root_path}{state().prefix}/runs/{handle.id}")
    return response


def _nothing() -> Response:
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def limit() -> int:
    """Read how many entries the request wants of a page."""
    text = request.args.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidRequestError(f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def known_parameters(names: Collection[str]) -> None:
    """Refuse other query parameters: a misspelt filter must not look like one that everything satisfies."""
    for name in request.args:
        if name not in names:
            raise InvalidRequestError(f"unknown query parameter {name!r}; there are {', '.join(names)}")

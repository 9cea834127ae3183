"""The routes of the wires: `/ag-ui/{agent}`, `/ai-sdk/{agent}` and `/mcp`.

A body becomes what `conversation.py` takes, and the answer is the run's stream in the client's own words. All that can
be refused is refused before the stream begins, with a problem as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, request

from agentkit.client.local import local_client
from agentkit.core.messages import Json
from agentkit.core.struct import encode
from agentkit.errors import ExtraMissingError
from agentkit.server import access, bodies
from agentkit.server.state import json_response, state
from agentkit.server.streams import StreamSlot, sse_response
from agentkit.wires import ai_sdk_input
from agentkit.wires.ai_sdk_chunks import HEADERS, AiSdkTranslator
from agentkit.wires.conversation import Conversation, Position, message_id
from agentkit.wires.translator import Translator, WireEncoder

__all__ = ["blueprint"]

blueprint = Blueprint("wires", __name__)


# -- AG-UI


@blueprint.post("/ag-ui/<agent>")
def run_ag_ui(agent: str) -> Response:
    wire = _ag_ui()
    given = wire.read_input(bodies.read_json())
    slot = StreamSlot.of_request()
    conversation = Conversation("ag-ui", agent, given.thread_id)
    principal = access.principal()
    position = conversation.take(given.user, lambda pending: given.answers(pending, principal))
    kit, run = state().kit, position.run

    def read_messages(count: int) -> list[Json]:
        return (kit.get(run.id).messages or [])[:count]

    is_from_start = position.how in ("started", "joined") or (position.how == "attached" and not _is_idle(position))
    before = None if is_from_start else read_messages(position.messages)
    is_new = position.how in ("started", "answered")
    translator = wire.AgUiTranslator(
        thread_id=given.thread_id,
        run_id=given.run_id,
        agent_run=run.id,
        before=before,
        messages=read_messages,
        resync=not is_new or _lacks_answers(run.messages if before is None else before, given.view.ids),
        pauses_after=_pauses_after(position),
        front_end_tools=given.front_end_tools,
        client=given.view,
        state=given.state,
    )
    since = 0 if before is None else run.last_seq
    return _stream(position, since, translator, slot)


@blueprint.get("/ag-ui/<agent>/capabilities")
def ag_ui_capabilities(agent: str) -> Response:
    return json_response(_ag_ui().capabilities(state().kit.bind(agent)))


def _ag_ui() -> Any:
    """Import what needs the package of an extra. Raises ExtraMissingError."""
    try:
        from agentkit.wires import ag_ui
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("ag_ui", "pydantic"):
            raise
        raise ExtraMissingError(
            "this server speaks AG-UI with the package ag-ui-protocol only: pip install 'agentkit-celery[ag-ui]'"
        ) from error
    return ag_ui


def _is_idle(position: Position) -> bool:
    return position.run.ended or position.run.status == "paused"


def _lacks_answers(messages: Sequence[Json] | None, ids: Sequence[str]) -> bool:
    """Whether the client lacks an answer of those that the run has, or begins with."""
    expected, since = set(), 0
    for index, message in enumerate(messages or ()):
        if message["role"] == "user":
            since = message["timestamp"]
        elif message["role"] == "assistant" and message["content"]:
            expected.add(message_id(index, since))
    return not expected <= set(ids)


# -- the AI SDK


@blueprint.post("/ai-sdk/<agent>")
def run_ai_sdk(agent: str) -> Response:
    given = ai_sdk_input.read_input(bodies.read_json())
    slot = StreamSlot.of_request()
    conversation = Conversation("ai-sdk", agent, given.chat_id)
    principal = access.principal()
    if given.is_regenerating:
        position = conversation.again(given.message_id, given.user)
    else:
        position = conversation.take(given.user, lambda pending: given.answers(pending, principal), edits=True)
    run, since, writes = position.run, position.since, position.run.id
    if position.how == "joined":
        writes = f"{run.id}.{since}"  # the answer to what was said before is another message of the chat
    elif position.how == "attached" and given.ends_with_user:
        since = 0  # the client has nothing of the answer
    return _stream(
        position,
        since,
        AiSdkTranslator(
            run_id=run.id,
            message_id=writes,
            known_calls=given.calls_of.get(writes, ()) if since else (),
            others=[call for other, calls in given.calls_of.items() if other != writes for call in calls],
            pauses_after=_pauses_after(position),
            user=[message.content for message in given.user],
            begun=since > 0,
            is_idle=position.how == "attached" and since > 0,
        ),
        slot,
        HEADERS,
    )


@blueprint.get("/ai-sdk/<agent>/<chat_id>/stream")
def reconnect_ai_sdk(agent: str, chat_id: str) -> Response:
    slot = StreamSlot.of_request()
    position = Conversation("ai-sdk", agent, chat_id).attach()
    if position is None or position.run.ended:
        slot.release()
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response
    run = position.run
    translator = AiSdkTranslator(run_id=run.id, message_id=run.id, pauses_after=run.last_seq)
    return _stream(position, 0, translator, slot, HEADERS)


# -- MCP


@blueprint.post("/mcp")
def serve_mcp() -> Response:
    """Answer one message of an MCP client, whose tools may do what its credentials may do over HTTP."""
    try:
        from agentkit.wires import mcp_http
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types", "pydantic", "starlette"):
            raise
        raise ExtraMissingError(
            "this server speaks MCP with the official SDK only: pip install 'agentkit-celery[mcp]'"
        ) from error
    message = encode(bodies.read_json())
    client = local_client(current_app.wsgi_app, request.environ, request.path.removesuffix("/mcp"))
    status, headers, body = mcp_http.answer(request.headers.items(), message, client)
    response = Response(body, status)
    del response.headers["Content-Type"]
    response.headers.update({name.title(): value for name, value in headers if name != "content-length"})
    return response


# -- both


def _pauses_after(position: Position) -> int:
    """Return the seq up to which a pause in the log is over: the request came after it."""
    return 0 if position.how == "started" else position.run.last_seq


def _stream(
    position: Position, since: int, translator: Translator[Any], slot: StreamSlot, headers: dict[str, str] | None = None
) -> Response:
    """Stream the run from the seq `since` on, until it pauses or ends, as `translator` has it."""
    handle = position.handle
    encoder = WireEncoder(translator, state().settings.keepalive_seconds, lambda: handle.run)
    response = sse_response(
        handle,
        since,
        slot=slot,
        encoder=encoder,
        pauses_after=_pauses_after(position),
    )
    response.headers.update(headers or {})
    response.headers["Location"] = quote(f"{request.root_path}{state().prefix}/runs/{handle.id}")
    return response

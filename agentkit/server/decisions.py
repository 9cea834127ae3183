"""The inbox over HTTP: what waits for an answer, over all runs that the caller may read."""

from __future__ import annotations

from typing import cast, get_args

from flask import Blueprint, Response, request

from agentkit.core.events import ItemKind
from agentkit.core.inbox import ItemFilter
from agentkit.errors import InvalidRequestError
from agentkit.runtime.inbox import InboxFilter
from agentkit.server import access
from agentkit.server.answers import DecisionPage
from agentkit.server.runs import ID, known_parameters, limit
from agentkit.server.state import json_response, state

__all__ = ["blueprint"]

blueprint = Blueprint("decisions", __name__)

_SELECTING = ("kind", "agent", "tool", "owner")


@blueprint.get("/decisions")
def list_decisions() -> Response:
    known_parameters(("state", *_SELECTING, "limit", "cursor"))
    if request.args.get("state", "pending") != "pending":
        raise InvalidRequestError("state takes one value: pending")
    cursor = request.args.get("cursor")
    if cursor is not None and not ID.fullmatch(cursor):
        raise InvalidRequestError("cursor must be the nextCursor of another page")
    items, following = state().kit.pending_page(_wanted(), limit=limit(), cursor=cursor)
    return json_response(DecisionPage(items, following))


@blueprint.get("/decisions/count")
def count_decisions() -> Response:
    known_parameters(_SELECTING)
    return json_response(state().kit.count_pending(_wanted()))


def _wanted() -> InboxFilter:
    """Read which items the request wants, of those that its caller may read."""
    kind = request.args.get("kind")
    if kind is not None and kind not in get_args(ItemKind):
        raise InvalidRequestError(f"kind must be one of {', '.join(get_args(ItemKind))}")
    agent, tool, owner = (request.args.get(name) for name in ("agent", "tool", "owner"))
    wanted = ItemFilter(agent, tool, cast(ItemKind | None, kind), owner)
    return state().kit.readable_by(access.principal(), wanted)

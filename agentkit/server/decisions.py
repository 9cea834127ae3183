"""The inbox over HTTP: what waits for an answer, and what was answered, over all runs that the caller may read."""

from __future__ import annotations

import re
from typing import cast, get_args

from flask import Blueprint, Response, request

from agentkit.core.events import ItemKind
from agentkit.core.inbox import ItemFilter
from agentkit.errors import InvalidRequestError
from agentkit.runtime.inbox import InboxFilter
from agentkit.server import access
from agentkit.server.answers import AnswerPage, DecisionPage
from agentkit.server.runs import ID, known_parameters, limit
from agentkit.server.state import json_response, state

__all__ = ["blueprint"]

blueprint = Blueprint("decisions", __name__)

_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_SELECTING = ("kind", "agent", "tool", "owner")


@blueprint.get("/decisions")
def list_decisions() -> Response:
    known_parameters(("state", *_SELECTING, "limit", "cursor"))
    which = request.args.get("state", "pending")
    if which not in ("pending", "resolved"):
        raise InvalidRequestError("state must be pending or resolved")
    cursor = request.args.get("cursor")
    if cursor is not None and not (ID if which == "pending" else _NUMBER).fullmatch(cursor):
        raise InvalidRequestError("cursor must be the nextCursor of another page of the same state")
    if which == "pending":
        items, following = state().kit.pending_page(_wanted(), limit=limit(), cursor=cursor)
        return json_response(DecisionPage(items, following))
    answers, following = state().kit.answers_page(_wanted(), limit=limit(), cursor=cursor)
    return json_response(AnswerPage(answers, following))


@blueprint.get("/decisions/count")
def count_decisions() -> Response:
    known_parameters(("state", *_SELECTING))
    if request.args.get("state", "pending") != "pending":
        raise InvalidRequestError("only what is pending is counted")
    return json_response(state().kit.count_pending(_wanted()))


def _wanted() -> InboxFilter:
    """Read which items the request wants, of those that its caller may read."""
    kind = request.args.get("kind")
    if kind is not None and kind not in get_args(ItemKind):
        raise InvalidRequestError(f"kind must be one of {', '.join(get_args(ItemKind))}")
    agent, tool, owner = (request.args.get(name) for name in ("agent", "tool", "owner"))
    wanted = ItemFilter(agent, tool, cast(ItemKind | None, kind), owner)
    return state().kit.readable_by(access.principal(), wanted)

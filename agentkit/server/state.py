"""What the routes of one kit share in an application: the kit, its settings, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, Response, current_app, request

from agentkit.core.struct import dumps
from agentkit.kit import AgentKit
from agentkit.settings import Settings

__all__ = [
    "EXTENSION",
    "WebState",
    "endpoint",
    "json_response",
    "state",
    "state_or_none",
    "states",
]

EXTENSION = "agentkit"
"""The key in `app.extensions` of the kits' states, by the names of their blueprints."""


@dataclass(frozen=True)
class WebState:
    """The state of one kit in one Flask application.

    `name`: that of its blueprint, with which its endpoints begin. `prefix`: the path below which it is, without a slash
    at the end. `left_out`: the protocol's paths that it does not
    serve.
    """

    name: str
    prefix: str
    kit: AgentKit
    settings: Settings
    left_out: frozenset[str] = frozenset()


def states(app: Flask) -> dict[str, WebState]:
    """Return the states of an application's kits, by the names of their blueprints, in the order of their arrival."""
    return cast("dict[str, WebState]", app.extensions.setdefault(EXTENSION, {}))


def state() -> WebState:
    """Return the state of the kit that serves the current request."""
    found = state_or_none()
    assert found is not None, "agentkit is not in this application"
    return found


def state_or_none() -> WebState | None:
    """Return the state of the kit that serves the current request.

    In the application's own routes, and where no route fits, that of its first kit; None where it has none.
    """
    kits: dict[str, WebState] = current_app.extensions.get(EXTENSION, {})
    name = (request.blueprint or "").partition(".")[0]
    return kits.get(name) or next(iter(kits.values()), None)


def endpoint() -> str:
    """Return the current request's endpoint without the name of the kit's blueprint, as in "runs.get_run".

    The empty text for a route of the application's own, and where no route fits.
    """
    name, _, rest = (request.endpoint or "").partition(".")
    return rest if name in current_app.extensions.get(EXTENSION, {}) else ""


def json_response(body: Any, status: int = 200) -> Response:
    """Make a response of `body` as JSON in UTF-8, which no cache may keep: it may be a conversation, or a secret."""
    return Response(dumps(body), status, {"Cache-Control": "no-store"}, content_type="application/json")

"""Who calls, and what they may do: the kit's hooks, stream tokens, and pages of other origins.

Without `AgentKit(authenticate=…)` everything is open. With it, a run belongs to the principal that started it,
unless `may` says otherwise; a run that the caller may not read is not there for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from flask import Flask, g, request
from flask_cors import CORS
from itsdangerous import BadSignature, URLSafeSerializer

from agentkit.core.ids import now_ms
from agentkit.core.run import Run
from agentkit.errors import (
    ForbiddenError,
    InvalidRequestError,
    RunNotFoundError,
    UnauthenticatedError,
)
from agentkit.server.state import state

__all__ = ["ACTIONS", "OPEN", "allows", "check", "install", "principal", "stream_token"]

ACTIONS: Mapping[str, str] = {
    "agentkit_runs.get_run": "read",
    "agentkit_runs.run_events": "read",
    "agentkit_runs.new_stream_token": "read",
    "agentkit_runs.resume_run": "resume",
    "agentkit_runs.extend_item": "extend",
    "agentkit_runs.abort_run": "abort",
    "agentkit_runs.send_message": "message",
    "agentkit_runs.delete_run": "delete",
    "agentkit_ws.run_socket": "read",
}
"""What each endpoint of one run does to it. An endpoint that is missing here fails its first request."""

OPEN = frozenset(
    {"agentkit_page.index", "agentkit_page.asset"}
    | {f"agentkit_system.{name}" for name in ("alive", "ready", "metrics", "openapi")}
)
"""Endpoints that ask nobody who they are: they tell nothing of any run."""

_OURS = frozenset({"agentkit_page", "agentkit_runs", "agentkit_system", "agentkit_ws"})
_BY_TOKEN = frozenset({"agentkit_runs.run_events", "agentkit_ws.run_socket"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def install(app: Flask) -> None:
    """Ask every request of `app` who it comes from, and let pages of the allowed origins call."""
    app.before_request(_admit)
    origins = app.extensions["agentkit"].settings.cors_origins
    if origins:
        CORS(
            app,
            origins=[_literal(origin) for origin in origins],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After"],
            methods=["GET", "POST", "DELETE"],
            supports_credentials=origins != ("*",),
            send_wildcard=True,
            always_send=False,
            max_age=600,
        )


def _literal(origin: str) -> str | re.Pattern[str]:
    """The origin for flask-cors, which takes a text with a bracket, as an IPv6 address has one, for a pattern."""
    return re.compile(re.escape(origin) + r"\Z", re.IGNORECASE) if "[" in origin else origin


def principal() -> str | None:
    """Who the current request comes from; None where the kit asks nobody."""
    return cast("str | None", g.get("agentkit_principal"))


def allows(action: str, run: Run) -> bool:
    """Whether the caller may do this to the run."""
    kit = state().kit
    who = principal()
    if kit.authenticate is None or who is None:
        return kit.authenticate is None
    return run.owner == who if kit.may is None else bool(kit.may(who, action, run))


def check(run_id: str, action: str) -> None:
    """Raises RunNotFoundError where the caller may not read the run, ForbiddenError where it may not do more."""
    kit = state().kit
    if kit.authenticate is None:
        return
    run = Run.of(kit.store.load(run_id), None)
    if not allows("read", run):
        raise RunNotFoundError(f"there is no run {run_id}")  # as the store says it
    if action != "read" and not allows(action, run):
        raise ForbiddenError(f"you may read this run, but not {action} it")


def _admit() -> None:
    """Before every request: who it is from, and whether it may do what it asks of a run."""
    if request.method == "OPTIONS" or request.endpoint in OPEN or request.blueprint not in _OURS:
        return
    kit = state().kit
    run_id = (request.view_args or {}).get("run_id")
    token = request.args.get("token") if request.endpoint in _BY_TOKEN else None
    socket = request.endpoint == "agentkit_ws.run_socket"
    if socket or (kit.authenticate is not None and request.method not in _SAFE):
        _refuse_foreign_page(by_cookie=kit.authenticate is not None and token is None and "Cookie" in request.headers)
    if token is not None:
        g.agentkit_principal = _principal_of(token, run_id)
    elif kit.authenticate is not None:
        who = kit.authenticate(request)
        if who is None:
            raise UnauthenticatedError
        if not isinstance(who, str) or not who:
            raise TypeError(f"authenticate must return a principal as a string, or None, not {who!r:.80}")
        g.agentkit_principal = who
    if run_id is not None:
        check(run_id, ACTIONS[request.endpoint or ""])


def _refuse_foreign_page(*, by_cookie: bool) -> None:
    """A browser sends its cookies whatever page asks, and asks no leave for a WebSocket: its Origin is what tells.

    `by_cookie`: the request may stand for a person without the page's knowing how. `*` lets no page do that.
    """
    origin = request.headers.get("Origin")
    allowed = state().settings.cors_origins
    if origin is None or origin.lower() in allowed or (allowed == ("*",) and not by_cookie):
        return
    if origin.partition("://")[2].lower() != request.host.lower():
        raise ForbiddenError(
            f"a page of {origin[:200]} may not do this: it is not of this server ({request.host}), "
            "and AGENTKIT_CORS_ORIGINS does not name it"
        )


# -- stream tokens


def stream_token(run_id: str) -> tuple[str, int]:
    """A token that opens the run's streams for the caller, and until when (ms)."""
    expires_at = now_ms() + state().settings.stream_token_seconds * 1000
    return str(_serializer().dumps([run_id, principal(), expires_at])), expires_at


def _principal_of(token: str, run_id: str | None) -> str | None:
    """The principal that the token was given to. Raises UnauthenticatedError that says what is wrong."""
    try:
        bound, who, expires_at = _serializer().loads(token)
    except BadSignature as error:
        raise UnauthenticatedError("the stream token is not one of this server's") from error
    if expires_at <= now_ms():
        raise UnauthenticatedError("the stream token has expired: ask for another")
    if bound != run_id:
        raise UnauthenticatedError("the stream token is for another run")
    if who is None and state().kit.authenticate is not None:
        raise UnauthenticatedError("the stream token names nobody")
    return cast("str | None", who)


def _serializer() -> URLSafeSerializer:
    secret = state().settings.secret_key
    if secret is None:
        raise InvalidRequestError("stream tokens are off: this server has no AGENTKIT_SECRET_KEY")
    return URLSafeSerializer(secret, salt="agentkit.stream-token")

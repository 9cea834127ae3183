"""Authentication and authorization of requests: the kit's hooks, stream tokens, and CORS.

Without `AgentKit(authenticate=…)` every request is allowed. With it, only the principal that started a run has access
to it, unless `may` says otherwise; to others the run does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from flask import Blueprint, Flask, g, request
from itsdangerous import BadSignature, URLSafeSerializer

from agentkit.core.events import PendingItem
from agentkit.core.messages import Json
from agentkit.core.requests import TokenScope
from agentkit.core.run import Run
from agentkit.core.why import Why
from agentkit.errors import (
    ConfigurationError,
    ForbiddenError,
    InvalidRequestError,
    RunNotFoundError,
    UnauthenticatedError,
)
from agentkit.server.state import endpoint, state

__all__ = [
    "ACTIONS",
    "CALLER",
    "HOST_REQUEST",
    "PUBLIC",
    "allow_origins",
    "allows",
    "authorize",
    "caller",
    "check",
    "check_forced",
    "check_history",
    "check_item",
    "check_operator",
    "check_source",
    "check_start",
    "explained",
    "principal",
    "stream_token",
]

ACTIONS: Mapping[str, str] = {
    "runs.get_run": "read",
    "runs.explain_run": "read",
    "runs.run_events": "read",
    "runs.new_stream_token": "read",
    "runs.resume_run": "resume",
    "runs.extend_item": "extend",
    "runs.abort_run": "abort",
    "runs.send_message": "message",
    "runs.delete_run": "delete",
    "ws.run_socket": "read",
}
"""The action that each endpoint of one run needs. An endpoint that is missing here fails its first request."""

ITEM_ACTIONS = ("resume", "extend")
"""The actions on a pending item, which is known when the body was read."""

PUBLIC = frozenset({"page.index", "page.asset", "agents.openapi", "system.alive", "system.ready", "system.metrics"})
"""Endpoints without authentication: they show nothing of any run."""

CALLER = "agentkit.caller"
"""Where the WSGI environment of a WebSocket's message names who opened the WebSocket: `caller()`."""

HOST_REQUEST = "agentkit.request"
"""Where the WSGI environment has the request that `authenticate` gets, where that is of another framework."""

_OTHERS_ROLES = ("assistant", "toolResult")
"""The roles of messages that are not a client's to write."""

_TOKEN_ENDPOINTS = frozenset({"runs.run_events", "ws.run_socket"})


def allow_origins(scaffold: Flask | Blueprint, origins: Sequence[str]) -> None:
    """Answer CORS for the allowed origins, in all of an application or in a blueprint alone.

    Raises ConfigurationError where there are some and flask-cors is missing.
    """
    if origins:
        try:
            from flask_cors import CORS  # of an extra
        except ImportError as error:
            text = "AGENTKIT_CORS_ORIGINS needs the package flask-cors: pip install 'agentkit-celery[web]'"
            raise ConfigurationError(text) from error
        CORS(
            scaffold,
            origins=[_literal(origin) for origin in origins],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After"],
            methods=["GET", "POST", "DELETE"],
            supports_credentials=tuple(origins) != ("*",),
            send_wildcard=True,
            always_send=False,
            max_age=600,
        )


def _literal(origin: str) -> str | re.Pattern[str]:
    """Return the origin for flask-cors, which takes text with a bracket (an IPv6 address) for a pattern."""
    return re.compile(re.escape(origin) + r"\Z", re.IGNORECASE) if "[" in origin else origin


def principal() -> str | None:
    """Return the principal of the current request; None where the kit has no `authenticate`."""
    return cast("str | None", g.get("agentkit_principal"))


def caller() -> tuple[str | None, str]:
    """Return the principal of the current request, and the scope of the stream token that named it."""
    return principal(), g.get("agentkit_token_scope", "answer")


def allows(action: str, run: Run, item: Json | None = None) -> bool:
    """Return whether the caller may do `action` to the run, or to its pending item."""
    return state().kit.permits(principal(), action, run, item)


def check(run_id: str, action: str) -> None:
    """Check that the caller may do `action` to the run.

    Raises RunNotFoundError where it may not read the run, ForbiddenError where it may read it, but not do that. What
    is done to an item is checked by `check_item`, when the body has named it.
    """
    if action != "read" and caller()[1] != "answer":
        raise ForbiddenError('this stream token only reads: request one with {"scope": "answer"}')
    kit = state().kit
    if kit.authenticate is None:
        return
    owner = kit.only_owner(principal())
    if owner is not None:
        if kit.store.load(run_id, call=0).record.owner != owner:
            raise RunNotFoundError(f"there is no run {run_id}")
        return
    run = Run.of(kit.store.load(run_id), None)
    if not allows("read", run):
        raise RunNotFoundError(f"there is no run {run_id}")  # the same text as the store's
    if action not in ("read", *ITEM_ACTIONS) and not allows(action, run):
        raise ForbiddenError(f"{principal()!r} may read run {run_id}, but not {action} it")


def check_item(run_id: str, action: str, *, tool_call_id: str | None, decision_id: str | None) -> str | None:
    """Check that the caller may do `action` to a pending item; the item's id, None where the ids name none.

    The right to the run that owns the item counts: of an item of a sub-agent's run, that run. Raises ForbiddenError,
    and DecisionAmbiguousError where it is not certain which item is meant.
    """
    kit = state().kit
    if decision_id is not None and (kit.authenticate is None or kit.only_owner(principal()) is not None):
        return (
            decision_id  # who may read the run may answer all its items, those of sub-agents' runs, of one owner, too
        )
    run, item = kit.find_item(run_id, tool_call_id=tool_call_id, decision_id=decision_id)
    if not allows(action, run, item):
        raise ForbiddenError(f"{principal()!r} may read run {run_id}, but not {action} this item of run {run.id}")
    return decision_id if item is None else str(item["decisionId"])


def explained(run_id: str) -> Why:
    """Explain a run to the current request's caller: what it may do itself, and workers and queues if it operates."""
    kit = state().kit

    def may_answer(item: PendingItem) -> bool:
        run, shown = kit.find_item(run_id, decision_id=item.decision_id)
        return allows("resume", run, shown)

    return kit.why(run_id, may_answer=may_answer, operator=kit.is_operator(principal()))


def check_operator() -> None:
    """Check that the caller may see the state of the installation. Raises ForbiddenError."""
    if not state().kit.is_operator(principal()):
        raise ForbiddenError(f"{principal()!r} is no operator here: AgentKit(operator=…) says who is")


def check_forced(run_id: str) -> None:
    """Check that who may delete the run may also abort it, where it has not ended. Raises ForbiddenError."""
    if not state().kit.store.load(run_id).record.terminal:
        check(run_id, "abort")


def check_history(messages: Sequence[Any]) -> None:
    """Check that the caller may write the history that a run is to begin with, whatever else is wrong with it.

    Raises ForbiddenError.
    """
    kit = state().kit
    if kit.authenticate is None or kit.client_history:
        return
    if any(isinstance(message, dict) and message.get("role") in _OTHERS_ROLES for message in messages):
        raise ForbiddenError(
            "messages of the roles assistant and toolResult are not taken from clients here: send the user's alone "
            "(AgentKit(client_history=True) takes them)"
        )


def check_source(run_id: str) -> None:
    """Check that the caller may read the run that another is to begin from. Raises RunNotFoundError."""
    check(run_id, "read")


def check_start(run: Run) -> None:
    """Check that the caller may start the run that would begin. Raises ForbiddenError."""
    if not allows("start", msgspec.structs.replace(run, messages=None)):
        raise ForbiddenError(f"{principal()!r} may not start agent {run.agent!r}")


def authorize() -> None:
    """Find the request's principal, and check that it may do to the run what it asks for; before every request."""
    for left in ("agentkit_principal", "agentkit_token_scope"):
        g.pop(left, None)  # within one application context, as tests push it, `g` outlives a request
    if CALLER in request.environ:  # what a message of a WebSocket may do is checked when it has been read
        g.agentkit_principal, g.agentkit_token_scope = request.environ[CALLER]
        return
    name = endpoint()
    if request.method == "OPTIONS" or name in PUBLIC:
        return
    kit = state().kit
    run_id = (request.view_args or {}).get("run_id")
    token = request.args.get("token") if name in _TOKEN_ENDPOINTS else None
    if token is not None:
        g.agentkit_principal, g.agentkit_token_scope = _read_token(token, run_id)
    elif kit.authenticate is not None:
        name_of_caller = kit.authenticate(request.environ.get(HOST_REQUEST, request))
        if name_of_caller is None:
            raise UnauthenticatedError
        if not isinstance(name_of_caller, str) or not name_of_caller:
            raise TypeError(f"authenticate must return a principal as a string, or None, not {name_of_caller!r:.80}")
        g.agentkit_principal = name_of_caller
    if run_id is not None:
        check(run_id, ACTIONS[name])


# -- stream tokens


def stream_token(run_id: str, scope: TokenScope) -> tuple[str, int]:
    """Make a token that opens the run's streams for the caller; return it and its expiry (ms).

    `scope`: "read", or "answer" for one whose holder may do over a WebSocket what the caller may.
    """
    expires_at = state().kit.store.now() + state().settings.stream_token_seconds * 1000
    return str(_serializer().dumps([run_id, principal(), expires_at, scope])), expires_at


def _read_token(token: str, run_id: str | None) -> tuple[str | None, str]:
    """Return the principal that the token was made for, and its scope.

    Raises UnauthenticatedError, which says what is wrong.
    """
    try:
        token_run_id, token_principal, expires_at, scope = _serializer().loads(token)
    except BadSignature as error:
        raise UnauthenticatedError("the stream token was not signed with this server's AGENTKIT_SECRET_KEY") from error
    except ValueError as error:
        raise UnauthenticatedError("the stream token is of an earlier agentkit: request another") from error
    if expires_at <= state().kit.store.now():
        raise UnauthenticatedError("the stream token has expired: request another")
    if token_run_id != run_id:
        raise UnauthenticatedError("the stream token is for another run")
    if token_principal is None and state().kit.authenticate is not None:
        raise UnauthenticatedError("the stream token has no principal: request another")
    return token_principal, scope


def _serializer() -> URLSafeSerializer:
    secret = state().settings.secret_key
    if secret is None:
        raise InvalidRequestError("stream tokens are off: this server has no AGENTKIT_SECRET_KEY")
    return URLSafeSerializer(secret, salt="agentkit.stream-token")

"""Errors as RFC 9457 problems: ours, Flask's, and unexpected exceptions. Never HTML, never a traceback.

`type` is "about:blank", for which the RFC wants the status's own phrase as `title`; `code` says what happened, and
`detail` explains it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import cast

from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    default_exceptions,
)

from agentkit.core.struct import encode
from agentkit.errors import (
    AgentKitError,
    DecryptionError,
    InvalidRequestError,
    QuotaExceededError,
    SchemaProblem,
    StoreUnavailableError,
    TooManyWatchersError,
    UnauthenticatedError,
    ValidationError,
)
from agentkit.server.answers import Problem
from agentkit.server.state import state

__all__ = ["STATUSES", "from_error", "install", "problem"]

log = logging.getLogger(__name__)

MAX_DETAIL = 1000

STATUSES: Mapping[str, int] = {
    "invalid_request": 400,
    "invalid_last_event_id": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "run_not_found": 404,
    "agent_not_found": 404,
    "decision_not_found": 404,
    "method_not_allowed": 405,
    "run_not_paused": 409,
    "run_not_terminal": 409,
    "tool_not_registered": 409,
    "decision_conflict": 409,
    "decision_ambiguous": 409,
    "idempotency_conflict": 409,
    "decision_expired": 410,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "decision_invalid": 422,
    "input_invalid": 422,
    "quota_exceeded": 429,
    "internal_error": 500,
    "unsupported_schema_version": 500,
    "decryption_failed": 500,
    "store_unavailable": 503,
    "too_many_watchers": 503,
}
"""The HTTP status of every error code."""

_HTTP_CODES: Mapping[int, str] = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[SchemaProblem] = (),
    headers: Mapping[str, str] | None = None,
    login_url: str | None = None,
) -> Response:
    """Make a response of a problem document. `detail` may quote the request; it is cut at MAX_DETAIL characters."""
    if len(detail) > MAX_DETAIL:
        detail = detail[: MAX_DETAIL - 1] + "…"
    body = Problem(HTTPStatus(status).phrase, status, detail, code, list(errors) or None, login_url)
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(encode(body), status, all_headers, content_type="application/problem+json")


def from_error(error: Exception) -> Response:
    """Make the response to an exception. What is not meant for clients is logged and answered with 500."""
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, AgentKitError) and error.code in STATUSES and error.code != "internal_error":
        redact = state().kit.texts.redact
        detail = redact(error.message)
        if isinstance(error, StoreUnavailableError):  # its text names the store's host
            log.warning("%s %s answered 503: %s", request.method, request.path, str(error))
            detail = "the store cannot be used at the moment: try again"
        elif isinstance(error, DecryptionError):  # what it says beside its message is for the operator
            log.error("%s %s answered 500: %s", request.method, request.path, str(error))
        problems = error.errors if isinstance(error, ValidationError | InvalidRequestError) else ()
        errors = [SchemaProblem(path=each["path"], message=redact(each["message"])) for each in problems]
        login_url = state().settings.login_url if isinstance(error, UnauthenticatedError) else None
        headers = _headers(error)
        return problem(STATUSES[error.code], error.code, detail, errors=errors, headers=headers, login_url=login_url)
    log.error("%s %s answered 500: unexpected error", request.method, request.path, exc_info=error)
    return problem(500, "internal_error", "unexpected error in the server: its log has the traceback")


def _headers(error: AgentKitError) -> dict[str, str]:
    if isinstance(error, QuotaExceededError | StoreUnavailableError | TooManyWatchersError):
        return {"Retry-After": str(error.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthenticatedError) else {}


def _from_http(error: HTTPException) -> Response:
    status = error.code or 500
    if error.response is not None:  # from `abort(response)`
        return cast(Response, error.response)
    phrase = HTTPStatus(status).phrase
    code = _HTTP_CODES.get(status, "internal_error" if status >= 500 else phrase.lower().replace(" ", "_"))
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return problem(status, code, _explain(error), headers=headers)


def _explain(error: HTTPException) -> str:
    if isinstance(error, MethodNotAllowed):
        return f"{request.path} allows {', '.join(sorted(error.valid_methods or ()))}, not {request.method}"
    if isinstance(error, NotFound):
        return f"there is no resource at {request.path}; openapi.json lists all"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is larger than {state().settings.max_body_bytes} bytes (AGENTKIT_MAX_BODY_BYTES)"
    return error.description or HTTPStatus(error.code or 500).phrase


def install(scaffold: Flask | Blueprint) -> None:
    """Answer every error of an application, or of a blueprint alone, with a problem.

    Also by each status: Flask prefers an application's handler of the status to a blueprint's of all exceptions.
    """
    for status in default_exceptions:
        scaffold.register_error_handler(status, from_error)
    scaffold.register_error_handler(Exception, from_error)

"""Turns the errors of vendors into ProviderError: what happened, what to do, whether to try again.

Pure: statuses, headers and bodies in, errors out. It must not know the HTTP client.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agentkit.core.strictjson import without_half_surrogates
from agentkit.errors import ProviderError

__all__ = ["retry_after", "status_error", "stream_error", "vendor_message"]

_MAX_MESSAGE_LENGTH = 500
_MAX_ID_LENGTH = 100
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
_TOO_LONG = re.compile(
    r"context.?(length|size|window)|(prompt|input|request) is too long|prompt too long|too many (input )?tokens",
    re.IGNORECASE,
)
_TRANSIENT_KINDS = re.compile(
    r"overload|throttl|rate.?limit|server.?error|api_error|internal|timeout|unavailable", re.IGNORECASE
)
_QUOTA_EXHAUSTED = "insufficient_quota"


def status_error(
    vendor: str, status: int, headers: Mapping[str, str], body: str, *, key_setting: str, url_setting: str
) -> ProviderError:
    """Make the error for an HTTP answer that is no success. `headers` is keyed case-insensitively or in lower case."""
    problem = _parsed(body)
    reason = vendor_message(problem)
    message = f"{vendor} answered HTTP {status}" + (f": {reason}" if reason else "")
    hint = _hint(status, _kind(problem), reason)
    if hint:
        message += f" ({hint})"
    request_id = (headers.get("x-request-id") or headers.get("request-id") or "")[:_MAX_ID_LENGTH] or None
    if request_id:
        message += f" [request {request_id}]"
    return ProviderError(
        message,
        retryable=_retryable(status, headers.get("x-should-retry"), _kind(problem)),
        status=status,
        retry_after=retry_after(headers),
        vendor=vendor,
        request_id=request_id,
        internal=_setting_to_check(status, key_setting, url_setting),
    )


def stream_error(vendor: str, problem: Any) -> ProviderError:
    """Make the error for one inside a stream that began with HTTP 200. `problem`: its JSON or text."""
    reason, kind, status = vendor_message(problem), _kind(problem), _status_of(problem)
    if status is not None:
        retryable = _retryable(status, None, kind)
    else:
        # The request was accepted, so the vendor's own failure is likelier than ours, unless its kind is another.
        retryable = not kind or bool(_TRANSIENT_KINDS.search(kind))
    hint = _hint(status or 0, kind, reason)
    message = f"{vendor} failed while answering: {reason or 'it gave no reason'}" + (f" ({hint})" if hint else "")
    return ProviderError(message, retryable=retryable, status=status, vendor=vendor)


def vendor_message(problem: Any) -> str:
    """Return a vendor's description of an error in one line, from any of the shapes in which vendors send errors."""
    if isinstance(problem, str):
        if re.match(r"\s*<(!doctype|html|head|body)", problem, re.IGNORECASE):
            title = re.search(r"<title>(.*?)</title>", problem, re.IGNORECASE | re.DOTALL)
            return _shortened("an HTML page" + (f", {title[1]!r}" if title else ""))
        return _shortened(problem)
    if isinstance(problem, dict):
        inner = problem.get("error") or problem.get("detail") or problem.get("message") or problem.get("msg")
        message = vendor_message(inner) if inner else _shortened(json.dumps(problem))
        metadata = problem.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: its upstream's message
        return _shortened(f"{message}: {raw}") if isinstance(raw, str) and raw else message
    if isinstance(problem, list):
        return _shortened("; ".join(vendor_message(entry) for entry in problem))
    return "" if problem is None else _shortened(json.dumps(problem))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds to wait: from `retry-after-ms` where it is a number over 0, else `Retry-After` (RFC 9110)."""
    if millis := _number(headers.get("retry-after-ms")):
        return millis / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _retryable(status: int, advice: str | None, kind: str) -> bool:
    if advice in ("true", "false"):
        return advice == "true"
    return (status in _RETRYABLE_STATUSES or status >= 500) and _QUOTA_EXHAUSTED not in kind


def _hint(status: int, kind: str, reason: str) -> str:
    """Return what people can do about an error; "" where nothing is known."""
    if status == 413 or _TOO_LONG.search(f"{kind} {reason}"):
        return "the conversation is longer than the model's context: shorten it or choose another model"
    if _QUOTA_EXHAUSTED in kind:
        return "the account's quota is used up: check its plan and billing"
    return ""


def _setting_to_check(status: int, key_setting: str, url_setting: str) -> str | None:
    """Return what the operator can do about an error; None where nothing is known."""
    if status in (401, 403) and key_setting:
        return f"check {key_setting}"
    if status == 404 and url_setting:
        return f"check the model's name and {url_setting}"
    if 300 <= status < 400 and url_setting:
        return f"redirects are not followed: set {url_setting} to where it leads"
    return None


def _kind(problem: Any) -> str:
    """Return the vendor's names for the kind of error: its `type` and its `code`, which may be a number or null."""
    if not isinstance(problem, dict):
        return ""
    inner = problem.get("error")
    error = inner if isinstance(inner, dict) else problem
    return " ".join(value for value in (error.get("type"), error.get("code")) if isinstance(value, str))


def _status_of(problem: Any) -> int | None:
    for key in ("status_code", "status", "code"):
        value = problem.get(key) if isinstance(problem, dict) else None
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _shortened(value: str) -> str:
    line = " ".join(without_half_surrogates(value).split())
    return line if len(line) <= _MAX_MESSAGE_LENGTH else line[: _MAX_MESSAGE_LENGTH - 1] + "…"

"""Turns the errors of vendors into ProviderError: what happened, what to do, whether to try again.

Pure: statuses, headers and bodies in, errors out. It must not know the HTTP client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agentkit.core.strictjson import without_half_surrogates
from agentkit.errors import ProviderError
from agentkit.providers.error_kinds import Kind, kind_of
from agentkit.providers.waits import named_wait, rate_limit_reset, retry_after

__all__ = ["status_error", "stream_error", "vendor_message"]

_MAX_MESSAGE_LENGTH = 500
_MAX_ID_LENGTH = 100
_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid")
_TOO_MANY = 429
_PROXY_WANTS_CREDENTIALS = 407
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
_TRANSIENT_KINDS = re.compile(
    r"overload|throttl|exhausted|rate.?limit|server.?error|api_error|internal|timeout|unavailable", re.IGNORECASE
)
_TOO_LARGE = 413
_PAYMENT_REQUIRED = 402
_HINTS: dict[Kind, str] = {
    "too_long": "the conversation is longer than the model's context: shorten it or choose another model",
    "money": "the account's credit or quota is used up: check its plan and billing",
    "moderation": "the vendor's moderation refused it",
}


def status_error(
    vendor: str, status: int, headers: Mapping[str, str], body: str, *, key_setting: str, url_setting: str
) -> ProviderError:
    """Make the error for an HTTP answer that is no success. `headers` is keyed case-insensitively or in lower case."""
    problem = _parsed(body)
    reason = vendor_message(problem)
    wait = retry_after(headers)
    if wait is None:
        wait = named_wait(problem, reason)
    kind = _kind(problem, reason, status, wait)
    if wait is None and status == _TOO_MANY:
        wait = rate_limit_reset(headers)
    message = f"{vendor} answered HTTP {status}" + (f": {reason}" if reason else "")
    if hint := _HINTS.get(kind):
        message += f" ({hint})"
    request_id = next((value for name in _ID_HEADERS if (value := headers.get(name))), "")[:_MAX_ID_LENGTH] or None
    if request_id:
        message += f" [request {request_id}]"
    return ProviderError(
        message,
        retryable=_retryable(status, headers.get("x-should-retry"), kind),
        status=status,
        retry_after=wait,
        vendor=vendor,
        request_id=request_id,
        internal=_setting_to_check(status, kind, key_setting, url_setting),
    )


def stream_error(vendor: str, problem: Any) -> ProviderError:
    """Make the error for one inside a stream that began with HTTP 200. `problem`: its JSON or text."""
    reason, names, status = vendor_message(problem), _names(problem), _status_of(problem)
    wait = named_wait(problem, reason)
    kind = _kind(problem, reason, status or 0, wait)
    if status is not None:
        retryable = _retryable(status, None, kind)
    else:
        # The request was accepted, so the vendor's own failure is likelier than ours, unless its kind is another.
        retryable = kind == "other" and (not names or bool(_TRANSIENT_KINDS.search(names)))
    hint = f" ({_HINTS[kind]})" if kind in _HINTS else ""
    message = f"{vendor} failed while answering: {reason or 'it gave no reason'}{hint}"
    return ProviderError(message, retryable=retryable, status=status, retry_after=wait, vendor=vendor)


def vendor_message(problem: Any) -> str:
    """Return a vendor's description of an error in one line, from any of the shapes in which vendors send errors."""
    if isinstance(problem, str):
        if re.match(r"\s*<(!doctype|html|head|body)", problem, re.IGNORECASE):
            title = re.search(r"<title>(.*?)</title>", problem, re.IGNORECASE | re.DOTALL)
            return _shortened("an HTML page" + (f", {title[1]!r}" if title else ""))
        return _shortened(problem)
    if isinstance(problem, dict):
        names = ("error", "errors", "detail", "message", "msg", "error_msg", "status_msg")
        inner = next((problem[name] for name in names if problem.get(name)), None)
        message = vendor_message(inner) if inner else _shortened(json.dumps(problem))
        metadata = problem.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: its upstream's message
        return _shortened(f"{message}: {raw}") if isinstance(raw, str) and raw else message
    if isinstance(problem, list):
        return _shortened("; ".join(vendor_message(entry) for entry in problem))
    return "" if problem is None else _shortened(json.dumps(problem))


def _retryable(status: int, advice: str | None, kind: Kind) -> bool:
    if advice in ("true", "false"):
        return advice == "true"
    return kind == "other" and (status in _RETRYABLE_STATUSES or status >= 500)


def _setting_to_check(status: int, kind: Kind, key_setting: str, url_setting: str) -> str | None:
    """Return what the operator can do about an error; None where nothing is known."""
    if status in (401, 403) and kind == "other" and key_setting:
        return f"check {key_setting}"
    if status == 404 and url_setting:
        return f"check the model's name and {url_setting}"
    if status == _PROXY_WANTS_CREDENTIALS:
        return "the proxy wants a user and a password: check HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
    if 300 <= status < 400 and url_setting:
        return f"redirects are not followed: set {url_setting} to where it leads"
    return None


def _kind(problem: Any, reason: str, status: int, wait: float | None) -> Kind:
    if status == _TOO_LARGE:
        return "too_long"
    if status == _PAYMENT_REQUIRED:
        return "money"
    words = f"{reason} {_quota_of(problem)}"
    kind = kind_of(words, names=_names(problem), status=status, waits=wait is not None)
    if kind == "other" and "PerDay" in words:
        return "money"  # Google names a wait of seconds with it, which is that of another limit
    return kind


def _quota_of(problem: Any) -> str:
    """Return the names of the quotas that Google says were exceeded."""
    details = _error_of(problem).get("details")
    violations = [
        violation
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, dict) and isinstance(detail.get("violations"), list)
        for violation in detail["violations"]
        if isinstance(violation, dict)
    ]
    return " ".join(str(violation.get("quotaId") or "")[:_MAX_ID_LENGTH] for violation in violations[:10])


def _names(problem: Any) -> str:
    """Return the vendor's names for an error: its `type`, `code` and `status`, of which some may be numbers or null."""
    error = _error_of(problem)
    names = (error.get("type"), error.get("code"), error.get("status"))
    return " ".join(value for value in names if isinstance(value, str))


def _error_of(problem: Any) -> dict[str, Any]:
    """Return the object that describes an error; Google's stand in a list."""
    if isinstance(problem, list) and problem:
        problem = problem[0]
    if not isinstance(problem, dict):
        return {}
    inner = problem.get("error")
    return inner if isinstance(inner, dict) else problem


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

"""How long a vendor asks to wait, in any of the places and forms in which vendors say so. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["named_wait", "rate_limit_reset", "retry_after"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PIECE = re.compile(
    r"(\d{1,12}(?:\.\d{1,9})?)\s*"
    r"(milliseconds?|millis|msecs?|ms|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])\s*(?:and\s*)?",
    re.IGNORECASE,
)
_DURATION = re.compile(rf"(?:{_PIECE.pattern})+", re.IGNORECASE)
_PHRASE = re.compile(
    r"(?:try|retry)(?:ing)?(?:\s+again)?\s+(?:in|after)\s+(?:about\s+)?|please\s+wait\s+(?:for\s+)?|resets?\s+in\s+",
    re.I,
)
_SECONDS_KEYS = ("retry_after", "retryAfter", "retry_after_seconds", "retry_after_secs", "retryDelay", "retry_delay")
_MILLIS_KEYS = ("retry_after_ms", "retryAfterMs")
_DEPTH = 6
_LEAST_DATE = 1_000_000_000  # a larger number is no number of seconds to wait, but a time since 1970
_LEAST_DATE_MS = 1_000_000_000_000
_LONGEST = 366 * 86400.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds to wait: from `retry-after-ms` where it is a number over 0, else `Retry-After` (RFC 9110)."""
    if millis := _number(headers.get("retry-after-ms")):
        return millis / 1000
    return _moment(headers.get("retry-after"))


def named_wait(problem: Any, words: str) -> float | None:
    """Read the seconds to wait from an error's body: its JSON, or else the words of its message."""
    for holder in _objects(problem, _DEPTH):
        for key in _SECONDS_KEYS:
            if (seconds := _seconds(holder.get(key))) is not None:
                return seconds
        for key in _MILLIS_KEYS:
            if (millis := _seconds(holder.get(key))) is not None:
                return millis / 1000
    for phrase in _PHRASE.finditer(words):
        if duration := _DURATION.match(words, phrase.end()):
            return _duration(duration[0])
    return None


def rate_limit_reset(headers: Mapping[str, str]) -> float | None:
    """Read the seconds until rate limits are reset from `x-ratelimit-reset…`: of those used up, else the longest."""
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        head, separator, tail = name.lower().partition("ratelimit-reset")
        seconds = _moment(value) if separator else None
        if seconds is not None:
            remaining = headers.get(f"{head}ratelimit-remaining{tail}")
            (used_up if remaining is not None and _number(remaining) == 0 else others).append(seconds)
    return max(used_up or others, default=None)


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the objects in a JSON value, the outer ones first."""
    if depth == 0:
        return
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner, depth - 1)


def _moment(value: str | None) -> float | None:
    """Read a header: seconds, a duration such as 6m0s, or a date, as HTTP or ISO 8601 write it, or in seconds or ms."""
    if value is None:
        return None
    number = _number(value)
    if number is not None and number >= _LEAST_DATE:
        at = number / 1000 if number >= _LEAST_DATE_MS else number
        return _bounded(at - datetime.now(UTC).timestamp())
    if number is not None:
        return number
    if _DURATION.fullmatch(value.strip()):
        return _duration(value)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parse(value.strip())
        except ValueError:
            continue
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return _bounded((date - datetime.now(UTC)).total_seconds())
    return None


def _seconds(value: Any) -> float | None:
    """Read a JSON value: a number, its text, or a duration such as "37s"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)[:40].strip()
    number = _number(text)
    if number is not None:
        return number if number < _LONGEST else None
    return _duration(text) if _DURATION.fullmatch(text) else None


def _duration(text: str) -> float:
    return _bounded(sum(float(amount) * _UNITS[_unit(unit)] for amount, unit in _PIECE.findall(text)))


def _unit(unit: str) -> str:
    unit = unit.lower()
    return "ms" if unit.startswith(("ms", "milli")) else unit[0]


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None

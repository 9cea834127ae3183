"""What a caller may give a run besides its words: metadata, limits and more time, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.core import strictjson
from agentkit.core.messages import Json
from agentkit.core.struct import encode
from agentkit.errors import InvalidRequestError

__all__ = ["MAX_EXTENSION_SECONDS", "check_extension", "check_limits", "check_metadata"]

MAX_METADATA_BYTES = 16_384
MAX_LIMIT = 2**53 - 1  # what every JSON reader takes as a whole number
MAX_EXTENSION_SECONDS = 1_000_000_000  # 31 years


def check_metadata(metadata: Any) -> Json:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise InvalidRequestError("metadata must be a JSON object")
    try:
        kept: Json = strictjson.plain(metadata)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"metadata must be a JSON object: {error}") from error
    size = len(encode(kept))
    if size > MAX_METADATA_BYTES:
        raise InvalidRequestError(f"metadata has {size} bytes, over {MAX_METADATA_BYTES}")
    return kept


_LIMITS: Mapping[str, type[Any]] = {"maxTurns": int, "maxTokens": int, "maxCost": float, "timeout": float}


def check_limits(limits: Any) -> Json:
    if limits is None:
        return {}
    if not isinstance(limits, dict):
        raise InvalidRequestError("limits must be an object")
    for key, value in limits.items():
        if key not in _LIMITS:
            raise InvalidRequestError(f"limits has the unknown field {key!r}; the limits are {', '.join(_LIMITS)}")
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
        if not 0 < number <= MAX_LIMIT or (_LIMITS[key] is int and not isinstance(value, int)):
            kind = "a whole number" if _LIMITS[key] is int else "a number"
            raise InvalidRequestError(f"limits.{key} must be {kind} over 0, at most {MAX_LIMIT}")
    return limits


def check_extension(by: Any) -> float:
    """Seconds by which an expiry is moved."""
    if not isinstance(by, int | float) or isinstance(by, bool) or not 0 < by <= MAX_EXTENSION_SECONDS:
        raise InvalidRequestError(f"by must be a number of seconds over 0, at most {MAX_EXTENSION_SECONDS}")
    return by

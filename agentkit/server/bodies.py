"""Request bodies: read within bounds, as strict JSON, and checked against the structures of agentkit.core.requests.

What the values mean (which agents, which content blocks, which limits) is checked by the kit, for Python callers too.
"""

from __future__ import annotations

from typing import TypeVar

from flask import request
from msgspec import UNSET
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from agentkit.core import strictjson
from agentkit.core.messages import Json
from agentkit.core.requests import RequestBody, ResumeBody, or_none
from agentkit.core.struct import check
from agentkit.errors import InvalidRequestError
from agentkit.loop import Answer
from agentkit.server import access
from agentkit.server.state import state

__all__ = ["answer_of", "parse", "read", "read_json"]

T = TypeVar("T", bound=RequestBody)


def read(type: type[T], *, optional: bool = False) -> T:
    """Read the current request's body as a `type`; an empty one that is `optional` as if it were `{}`.

    Raises UnsupportedMediaType, RequestEntityTooLarge and InvalidRequestError.
    """
    return check(read_json(optional=optional), type)


def read_json(*, optional: bool = False) -> Json:
    """Read the current request's body as a JSON object; see `read`."""
    is_json = request.mimetype == "application/json"
    if not is_json and not optional:
        raise UnsupportedMediaType(_WANTED)
    data = _limited()
    if optional and not data:
        return {}
    if not is_json:
        raise UnsupportedMediaType(_WANTED)
    return parse(data)


_WANTED = "send the body as Content-Type: application/json"


def _limited() -> bytes:
    """Return the body, unless it is over the limit.

    Of a chunked body over its limit, werkzeug returns the beginning as if it were all. So the application lets werkzeug
    read one byte more than ours.
    """
    try:
        data = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # each server has its own, for chunks that are none and clients that went away
        raise InvalidRequestError(f"the body could not be read: {type(error).__name__}") from error
    if len(data) > state().settings.max_body_bytes:
        raise RequestEntityTooLarge
    return data


def parse(data: bytes) -> Json:
    """Parse a JSON object that holds nothing which could not be written again as JSON in UTF-8.

    Raises InvalidRequestError.
    """
    try:
        value = strictjson.loads(data.decode(), unique=True)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise InvalidRequestError(f"the body is not JSON as it is taken here: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return value


def answer_of(body: ResumeBody) -> Answer:
    """Make an answer of the current request's caller from a body that gives one."""
    for kind in ("decision", "reject", "result"):
        value = getattr(body, kind)
        if value is not UNSET:
            return Answer(kind, value, or_none(body.input), access.principal(), body.remember)
    raise AssertionError("a ResumeBody has one of the three")

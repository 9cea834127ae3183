"""Request bodies, read strictly: what is unknown, missing or of the wrong type is refused and says what to do.

It checks the shape of a request. What the values mean (which agents, which content blocks, which limits) is
checked by the kit, for Python callers too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from flask import request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from agentkit.core import strictjson
from agentkit.core.messages import Json
from agentkit.errors import InvalidRequestError
from agentkit.loop import Answer
from agentkit.server.state import state

__all__ = [
    "Extension",
    "NewRun",
    "Resume",
    "UserInput",
    "abort_reason",
    "extension",
    "new_run",
    "parse",
    "read",
    "resume",
    "user_input",
]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "a string": (str,),
    "an object": (dict,),
    "a list": (list,),
    "a number": (int, float),
    "a string or a list of content blocks": (str, list),
    "any JSON": (object,),
}


# -- JSON


def read(*, optional: bool = False) -> Json:
    """The JSON object in the current request's body; `{}` for an empty one that is `optional`.

    Raises UnsupportedMediaType, RequestEntityTooLarge and InvalidRequestError.
    """
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
    """The body, unless it is over the limit. Of a chunked one that is, werkzeug gives the beginning as if it were all.

    So the application lets werkzeug read one byte more than the limit.
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
    """A JSON object from bytes, with nothing in it that could not be written down again as JSON in UTF-8."""
    try:
        value = strictjson.loads(data.decode(), unique=True)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise InvalidRequestError(f"the body is not JSON as it is taken here: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return value


# -- the bodies of the protocol


@dataclass(frozen=True)
class NewRun:
    """POST /runs."""

    agent: str
    input: Any
    messages: Any
    model: str | None
    metadata: Json | None
    limits: Json | None


def new_run(body: Json) -> NewRun:
    fields = {
        "agent": "a string",
        "input": "a string or a list of content blocks",
        "messages": "a list",
        "model": "a string",
        "metadata": "an object",
        "limits": "an object",
    }
    _check(body, fields, required=("agent",))
    _exactly_one(body, ("input", "messages"))
    rest: list[Any] = [body.get(name) for name in ("input", "messages", "model", "metadata", "limits")]
    return NewRun(body["agent"], *rest)


@dataclass(frozen=True)
class Resume:
    """POST /runs/{id}/resume: an answer, and which item it is for."""

    answer: Answer
    tool_call_id: str | None
    decision_id: str | None


def resume(body: Json) -> Resume:
    fields = {
        "decision": "any JSON",
        "reject": "an object",
        "result": "any JSON",
        "toolCallId": "a string",
        "decisionId": "a string",
        "input": "an object",
    }
    _check(body, fields)
    kind = cast(Literal["decision", "reject", "result"], _exactly_one(body, ("decision", "reject", "result")))
    if kind == "reject":
        _check(body["reject"], {"reason": "a string"}, required=("reason",), where="reject")
    return Resume(Answer(kind, body[kind], body.get("input")), body.get("toolCallId"), body.get("decisionId"))


@dataclass(frozen=True)
class Extension:
    """POST /runs/{id}/extend."""

    decision_id: str
    by: float


def extension(body: Json) -> Extension:
    _check(body, {"decisionId": "a string", "by": "a number"}, required=("decisionId", "by"))
    return Extension(body["decisionId"], body["by"])


def abort_reason(body: Json) -> str | None:
    """POST /runs/{id}/abort."""
    _check(body, {"reason": "a string"})
    return body.get("reason")


@dataclass(frozen=True)
class UserInput:
    """POST /runs/{id}/messages."""

    message: Any
    when: str


def user_input(body: Json) -> UserInput:
    _check(
        body,
        {"message": "a string or a list of content blocks", "when": "a string"},
        required=("message", "when"),
    )
    if body["when"] not in ("steer", "followUp"):
        raise InvalidRequestError("when must be 'steer' or 'followUp'")
    return UserInput(body["message"], body["when"])


def _check(body: Json, fields: Mapping[str, str], *, required: Iterable[str] = (), where: str = "") -> None:
    prefix = f"{where}." if where else ""
    for name, value in body.items():
        expected = fields.get(name)
        if expected is None:
            raise InvalidRequestError(f"unknown field {prefix + name!r}; the fields are {', '.join(fields)}")
        if not isinstance(value, _TYPES[expected]):
            hint = ": leave it out where there is none" if value is None and name not in required else ""
            raise InvalidRequestError(f"{prefix}{name} must be {expected}{hint}")
    for name in required:
        if name not in body:
            raise InvalidRequestError(f"{prefix}{name} is missing; it must be {fields[name]}")


def _exactly_one(body: Json, names: tuple[str, ...]) -> str:
    given = [name for name in names if name in body]
    if len(given) != 1:
        found = f"not {' and '.join(given)}" if given else "there is none"
        raise InvalidRequestError(f"give exactly one of {', '.join(names)}; {found}")
    return given[0]

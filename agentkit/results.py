"""What tools return, as the content of messages: texts, blocks, and whatever Python has that can become JSON.

Knows neither tools nor runs. `to_result` is strict and `result_of` is not: a tool that has done its work must not be
asked again because of what it returned.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import math
import sys
from collections import UserList, deque
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from agentkit.core import strictjson
from agentkit.core.messages import ContentBlock, Json, TextBlock, check_tool_content
from agentkit.core.strictjson import without_half_surrogates
from agentkit.errors import InvalidRequestError, SchemaProblem

__all__ = [
    "CheckedResult",
    "InputRequired",
    "OutcomeUnknown",
    "ToolResult",
    "error_result",
    "invalid_arguments",
    "refusal_text",
    "result_of",
    "to_json_value",
    "to_result",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool may return where a text or JSON is not enough.

    `content`: what the model sees, a text or a list of blocks of text, images, documents and audio, say
    `{"type": "text", "text": "…"}` or `{"type": "document", "data": "<base64>", "mimeType": "application/pdf"}`. Where
    the model does not take a block, it reads a text that names it. `is_error`: whether the model is to take it for a
    failure. `details`: JSON for clients alone, which no model sees; what `json` cannot write becomes JSON as a tool's
    result does. What is none of this is an error result of the call.
    """

    content: str | Sequence[ContentBlock | Json]
    is_error: bool = False
    details: Any = None


@dataclass(frozen=True, slots=True)
class InputRequired:
    """What a tool returns that cannot go on until somebody has answered: its call becomes a pending item.

    `message`: what is asked. `schema`: the JSON Schema of the answer. `memo`: JSON that the tool needs to go on, in
    whatever process that is: it is called again with the same arguments, `ToolContext.memo` and `ToolContext.reply`.
    """

    message: str
    schema: Json
    memo: Json


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """What a tool of effects "once" returns where nobody can know whether it was executed: a person says so.

    `reason`: what happened.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class CheckedResult:
    """A tool's result as the content of a message: what `to_result` makes of whatever a tool returned."""

    content: list[ContentBlock]
    is_error: bool = False
    details: Any = None


def error_result(message: str) -> CheckedResult:
    """Make the result of a call that failed; the model reads `message`."""
    return CheckedResult([TextBlock(without_half_surrogates(message))], is_error=True)


def invalid_arguments(problems: Sequence[SchemaProblem], redact: Callable[[str], str] = str) -> CheckedResult:
    """Make the result of a call whose arguments do not satisfy the tool's parameters: the model can correct it.

    `redact`: applied to its text, in which a validator of the application may have had a say.
    """
    return error_result(redact(refusal_text(problems)))


def refusal_text(problems: Sequence[SchemaProblem]) -> str:
    """Say in one line what is wrong with a call's arguments."""
    listed = "; ".join(f"{p['path'] or '/'}: {p['message']}" for p in problems)
    return f"the arguments do not satisfy the tool's parameters: {listed}"


def to_result(value: Any) -> CheckedResult:
    """Turn what a tool returned into content blocks: blocks stay, everything else becomes one text.

    Texts stay as they are, None is empty, other values are written as JSON. Raises TypeError where `value` can be no
    part of a message.
    """
    if isinstance(value, ToolResult):
        details = None if value.details is None else to_json_value(value.details)
        return CheckedResult(_content(value.content), bool(value.is_error), details)
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        value = ""
    if isinstance(value, str) or (isinstance(value, list) and value and all(map(_looks_like_block, value))):
        return CheckedResult(_content(value))
    return CheckedResult([TextBlock(_json(value))])


def result_of(value: Any) -> CheckedResult:
    """Turn what a tool returned into its result, whatever it is: it has done its work, and must not be asked again.

    What can be no part of a message is named instead of shown.
    """
    try:
        return to_result(value)
    except TypeError as error:
        name = type(value.content if isinstance(value, ToolResult) else value).__name__
        log.warning("a tool's result, a %s, cannot be shown to the model: %s", name, error)
        return CheckedResult([TextBlock(f"Done. The result, a {name}, cannot be shown.")])


_CONTENT_TYPES = ("text", "image", "document", "audio")


def _looks_like_block(item: Any) -> bool:
    return isinstance(item, ContentBlock) or (isinstance(item, dict) and item.get("type") in _CONTENT_TYPES)


def _content(content: Any) -> list[ContentBlock]:
    if isinstance(content, str):
        return [TextBlock(without_half_surrogates(content))]
    try:
        blocks = check_tool_content(content, "the tool's content")
    except InvalidRequestError as error:
        raise TypeError(str(error)) from error
    return [TextBlock(without_half_surrogates(b.text), b.cache) if isinstance(b, TextBlock) else b for b in blocks]


def to_json_value(value: Any) -> Any:
    """Copy details or an update of a tool through JSON; dates, paths and models are converted as in results.

    Raises TypeError for what cannot be stored and shown.
    """
    try:
        return strictjson.loads(_json(value))
    except ValueError as error:
        raise TypeError(f"the tool gave JSON that cannot be kept: {error}") from error


def _json(value: Any) -> str:
    try:
        return without_half_surrogates(json.dumps(_with_text_keys(value), ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the tool returned a {type(value).__name__} that is no JSON: {error}") from error


def _with_text_keys(value: Any, depth: int = 0) -> Any:
    """Copy a value in which everything is JSON: what is not is converted, and the keys of objects become text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > strictjson.MAX_DEPTH:
        raise TypeError(f"it nests deeper than {strictjson.MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        return [_with_text_keys(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(item, depth + 1) for key, item in value.items()}
    return _with_text_keys(_plain(value), depth + 1)


def _key(key: Any) -> str:
    if key is None or isinstance(key, bool | int | float | str):
        return key if isinstance(key, str) else json.dumps(key)
    plain = key if isinstance(key, tuple) else _plain(key)
    return plain if isinstance(plain, str) else str(plain)


def _plain(value: Any) -> Any:
    """Find the JSON form of what `json` does not know. Raises TypeError where there is none."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID() | PurePath():
            return str(value)
        case Enum():
            return value.value
        case set() | frozenset():
            return sorted(value, key=lambda item: (type(item).__name__, str(item)))
        case Mapping():
            return dict(value)
        case KeysView() | ValuesView() | ItemsView() | range() | deque() | UserList():
            return list(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if (fields := getattr(type(value), "__attrs_attrs__", None)) is not None:
        return {each.name: getattr(value, each.name) for each in fields}
    for method in ("tolist", "item"):  # numbers and arrays of NumPy and its kin
        convert = getattr(value, method, None)
        if callable(convert) and getattr(value, "dtype", None) is not None:
            return convert()
    if isinstance(value, Number):  # a fraction, a complex number, those of mpmath
        return str(value)
    base_model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    if base_model is not None and isinstance(value, base_model):
        return value.model_dump(mode="json")
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("a coroutine: declare the tool with async def")
    raise TypeError(f"{type(value).__name__} has no JSON form: return text, JSON or content blocks")

"""The base of everything that has a shape on the wire, and its way to JSON and back.

A shape is defined once, as a `Wire` structure. From it come the Python type, the check of what comes in, the component
of the OpenAPI document and the TypeScript type. Attributes are snake_case, JSON keys camelCase; an optional attribute
that has its default is left out of the JSON; an unknown key is refused.

msgspec does the work: it checks and decodes in C, five to ten times as fast as `json` and dataclasses.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar, overload

import msgspec

from agentkit.errors import InvalidRequestError

__all__ = ["Json", "Value", "Wire", "check", "decode", "dumps", "encode", "to_json"]

T = TypeVar("T")

Json = dict[str, Any]
"""A JSON object that nobody but its owner knows the shape of: metadata, arguments, schemas."""


class Wire(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A structure with a shape on the wire."""


class Value(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    """A structure with a shape on the wire, or in the store, that never changes once it is made."""


_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """Write a value as compact JSON in UTF-8, the only form in which agentkit writes.

    Raises TypeError or ValueError for what JSON cannot say, among it half of a surrogate pair.
    """
    return _encoder.encode(value)


def dumps(value: Any) -> str:
    """Write a value as compact JSON text; see `encode`."""
    return _encoder.encode(value).decode()


@overload
def decode(data: bytes | str, type: type[T]) -> T: ...
@overload
def decode(data: bytes | str, type: Any) -> Any: ...
def decode(data: bytes | str, type: Any) -> Any:
    """Read stored JSON as a value of `type`. Raises msgspec.ValidationError where it has another shape."""
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:  # records of 0.1 may hold half of a surrogate pair as an escape, which msgspec refuses
        return msgspec.convert(json.loads(data), type)


def to_json(value: Any) -> Any:
    """Turn structures, also inside lists and objects, into the dictionaries that stand for them on the wire."""
    return msgspec.to_builtins(value)


_PATH = re.compile(r"^(?P<text>.*?)(?: - at (?:`(?P<path>\$.*)`|`key.*` in `(?P<keys>\$.*)`))?$", re.DOTALL)


@overload
def check(value: Any, type: type[T], where: str = "") -> T: ...
@overload
def check(value: Any, type: Any, where: str = "") -> Any: ...
def check(value: Any, type: Any, where: str = "") -> Any:
    """Read what came from outside, as Python values, as a value of `type`.

    `where` names it in errors, say "messages". Raises InvalidRequestError that names the place, also as a JSON Pointer.
    """
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        match = _PATH.match(str(error))
        assert match is not None
        path = (match["path"] or match["keys"] or "$").removeprefix("$")
        text = match["text"]
        place = f"{where}{path}".removeprefix(".")
        pointer = re.sub(r"\[([^\]]*)\]", r"/\1", place).replace(".", "/")
        raise InvalidRequestError(
            f"{place}: {text}" if place else text, errors=[{"path": f"/{pointer}" if pointer else "", "message": text}]
        ) from error

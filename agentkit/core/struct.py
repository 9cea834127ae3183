"""The base of everything that has a shape on the wire, and its way to JSON and back.

A shape is defined once, as a `Wire` structure. From it come the Python type, the check of what comes in, the component
of the OpenAPI document and the TypeScript type. Attributes are snake_case, JSON keys camelCase; an optional attribute
that has its default is left out of the JSON; an unknown key is refused.

msgspec does the work: it checks and decodes in C, five to ten times as fast as `json` and dataclasses.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, overload

import msgspec
from msgspec import StructMeta
from msgspec.structs import FieldInfo, fields

from agentkit.core.forks import ForkSafeLock
from agentkit.errors import InvalidRequestError

__all__ = [
    "Json",
    "Value",
    "Wire",
    "check",
    "convert",
    "decode",
    "dumps",
    "encode",
    "half_surrogate",
    "refusal",
    "to_json",
]

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
        return _decoder(type).decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:  # records of 0.1 may hold half of a surrogate pair as an escape, which msgspec refuses
        return convert(json.loads(data), type)


@overload
def convert(value: Any, type: type[T]) -> T: ...
@overload
def convert(value: Any, type: Any) -> Any: ...
def convert(value: Any, type: Any) -> Any:
    """Read Python values as a value of `type`. Raises msgspec.ValidationError where they have another shape."""
    _decoder(type)
    return msgspec.convert(value, type)


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = ForkSafeLock(reentrant=True)


def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type, made by one thread at a time.

    What msgspec knows of a structure it finds out when that is first read, and shows it to other threads before it is
    complete: one that reads the same structure meanwhile ends the process by a segmentation fault.
    """
    decoder = _decoders.get(type)
    if decoder is None:
        with _making:
            decoder = _decoders[type] = msgspec.json.Decoder(type)
    return decoder


def to_json(value: Any) -> Any:
    """Turn structures, also inside lists and objects, into the dictionaries that stand for them on the wire."""
    return msgspec.to_builtins(value)


def canonical(value: Any) -> str:
    """Write a value as the JSON text that is the same for two that are equal, whatever the order of their keys."""
    return json.dumps(to_json(value), sort_keys=True)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


# -- what comes from outside


@overload
def check(value: Any, type: type[T], where: str = "") -> T: ...
@overload
def check(value: Any, type: Any, where: str = "") -> Any: ...
def check(value: Any, type: Any, where: str = "") -> Any:
    """Read what came from outside, as Python values, as a value of `type`.

    `where` names it in errors, say "messages". Raises InvalidRequestError that names the place, also as a JSON Pointer.
    """
    try:
        return convert(value, type)
    except UnicodeEncodeError as error:
        raise half_surrogate(where or "what was sent") from error
    except msgspec.ValidationError as error:
        match = _PATH.match(str(error))
        assert match is not None
        path = (match["path"] or match["keys"] or "$").removeprefix("$")
        place = f"{where}{path}".removeprefix(".")
        text = _explain(match["text"], place, _field(type, path), None if path else type)
        pointer = re.sub(r"\[([^\]]*)\]", r"/\1", place).replace(".", "/")
        raise InvalidRequestError(text, errors=[{"path": f"/{pointer}" if pointer else "", "message": text}]) from error


def half_surrogate(what: str) -> InvalidRequestError:
    """Make the error of half a surrogate pair, which Python can hold and no JSON in UTF-8. `what`: what holds it."""
    return InvalidRequestError(f"{what} holds half of a surrogate pair (\\ud800 to \\udfff), which is no text")


def refusal(place: str, text: str) -> InvalidRequestError:
    """Make the error of a place in what came from outside, say `messages[0].content[1]`, with its JSON Pointer.

    `text`: what is wrong, after the name of the place.
    """
    path = "/" + re.sub(r"\[([^\]]*)\]", r"/\1", place).replace(".", "/")
    return InvalidRequestError(f"{place} {text}", errors=[{"path": path, "message": f"{place} {text}"}])


_PATH = re.compile(r"^(?P<text>.*?)(?: - at (?:`(?P<path>\$.*)`|`key.*` in `(?P<keys>\$.*)`))?$", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<kinds>[a-z| ]+)`(?: (?P<sign>[<>]=?) (?P<bound>\S+))?(?:, got `(?P<kind>\w+)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_INVALID = re.compile(r"Invalid (?:enum )?value (?P<value>.*)", re.DOTALL)
_KINDS = {
    "array": "a list",
    "bool": "true or false",
    "dict": "an object",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
_SIGNS = {">=": "from", ">": "over", "<=": "up to", "<": "under"}
_MAX_NAME = 60
"""Of what is repeated from the value; it may be as long as a request."""


def _explain(text: str, place: str, field: FieldInfo | None, type: Any) -> str:
    """Say in plain words what msgspec found at `place`: in `field`, or in a whole that should be of `type`."""
    name = place or "the value"
    if found := _EXPECTED.fullmatch(text):
        kinds = " or ".join(_KINDS.get(kind, kind) for kind in found["kinds"].split(" | "))
        bound = f" {_SIGNS[found['sign']]} {found['bound']}" if found["sign"] else ""
        instead = f", not {_KINDS.get(found['kind'], found['kind'])}" if found["kind"] else ""
        hint = ": leave it out where there is none" if found["kind"] == "null" and field and not field.required else ""
        return f"{name} must be {kinds}{bound}{instead}{hint}"
    if found := _MISSING.fullmatch(text):
        return f"{_join(place, found['name'])} is missing"
    if found := _UNKNOWN.fullmatch(text):
        names = ", ".join(known.encode_name for known in _fields(type))
        return f"unknown field {_join(place, found['name'])!r}{f'; the fields are {names}' if names else ''}"
    if found := _INVALID.fullmatch(text):
        types = (field.type, *get_args(field.type)) if field else ()
        values = ", ".join(str(value) for t in types if get_origin(t) is Literal for value in get_args(t))
        return f"{name} has the unknown value {found['value'][:_MAX_NAME]}{f'; it takes {values}' if values else ''}"
    return f"{place}: {text}" if place else text


def _join(place: str, name: str) -> str:
    return f"{place}.{name[:_MAX_NAME]}".removeprefix(".")


def _fields(type: Any) -> tuple[FieldInfo, ...]:
    return fields(cast(msgspec.Struct, type)) if isinstance(type, StructMeta) else ()


def _field(type: Any, path: str) -> FieldInfo | None:
    """The field of the structure `type` that `path` names, where it is one of its own."""
    return next((field for field in _fields(type) if path == f".{field.encode_name}"), None)

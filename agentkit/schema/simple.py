"""Accepts values of simple schemas without the library: flat or nested objects and lists of plain types.

Most arguments of tools have such a schema and satisfy it, and the library takes a twelfth of a step's time to say so.
What is not accepted here is not refused: the library checks it, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Accepts", "compile_simple"]

Accepts = Callable[[Any], bool]
"""Whether a value surely satisfies a schema; False also where that is not known."""

_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "format", "$comment", "deprecated"})
_KEYWORDS = {
    **dict.fromkeys(_SCALARS, frozenset({"type"})),
    "string": frozenset({"type", "enum"}),
    "object": frozenset({"type", "properties", "required", "additionalProperties"}),
    "array": frozenset({"type", "items"}),
}


def compile_simple(schema: Any) -> Accepts | None:
    """Compile a valid schema whose keywords are all known here; None for another."""
    if not isinstance(schema, dict):
        return None
    if "anyOf" in schema and schema.keys() <= {"anyOf", *_ANNOTATIONS}:
        return _compile_choice(schema["anyOf"])
    kind = schema.get("type")
    if not isinstance(kind, str) or not schema.keys() <= _KEYWORDS[kind] | _ANNOTATIONS:
        return None
    if kind == "object":
        return _compile_object(schema)
    if kind == "array":
        return _compile_array(schema)
    if "enum" in schema:
        texts = [text for text in schema["enum"] if type(text) is str]
        return lambda value: type(value) is str and value in texts
    types = _SCALARS[kind]
    return lambda value: type(value) in types  # True is an int, but no integer


def _compile_choice(schemas: list[Any]) -> Accepts | None:
    checks = [check for schema in schemas if (check := compile_simple(schema)) is not None]
    return (lambda value: any(check(value) for check in checks)) if checks else None


def _compile_object(schema: dict[str, Any]) -> Accepts | None:
    members = {name: compile_simple(member) for name, member in schema.get("properties", {}).items()}
    known = {name: accepts for name, accepts in members.items() if accepts is not None}
    more = schema.get("additionalProperties", True)
    if len(known) < len(members) or not isinstance(more, bool):
        return None
    required = frozenset(schema.get("required", ()))

    def accepts(value: Any) -> bool:
        if type(value) is not dict or not required <= value.keys():
            return False
        for name, member in value.items():
            check = known.get(name)
            if not more if check is None else not check(member):
                return False
        return True

    return accepts


def _compile_array(schema: dict[str, Any]) -> Accepts | None:
    if "items" not in schema:
        return lambda value: type(value) is list
    item = compile_simple(schema["items"])
    return None if item is None else lambda value: type(value) is list and all(map(item, value))

"""Writes a schema so that the vendors of models accept it, without changing what it means.

What they refuse, each of them something else: an array without `items`, also beside `prefixItems` (OpenAI, Gemini);
`$ref` beside other keywords (Moonshot, OpenAI's strict mode); an `anyOf` in an `anyOf` (parsers of open servers);
`allOf`, where it holds a single schema (OpenAI's strict mode). What a vendor refuses beyond that, say compositions at
the top, is the business of that vendor's provider.
"""

from __future__ import annotations

from typing import Any

from agentkit.core.messages import Json

__all__ = ["OPEN", "accepted", "portable"]

OPEN = "x-agentkit-open"
"""Marks a schema whose value a validator of the application sees before its type does, and may change.

It never leaves the process: `portable` drops the mark, `accepted` accepts any value there.
"""

_ONE = ("items", "additionalProperties", "contains", "contentSchema", "else", "if", "not", "propertyNames", "then")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_BY_NAME = ("$defs", "dependentSchemas", "patternProperties", "properties")
_NOTES = {"description", "title"}


def portable(schema: Json) -> Json:
    """Copy a schema in the form that is shown and sent."""
    return _root(schema, any_open=False)


def accepted(schema: Json) -> Json:
    """Copy a schema in the form that values are checked against: what is marked OPEN may be anything."""
    return _root(schema, any_open=True)


def _root(schema: Json, any_open: bool) -> Json:
    result = _copy(schema, any_open)
    # Only here a $ref stays beside other keywords: vendors refuse a composition at the top altogether.
    return {"$ref": schema["$ref"], **_members(schema, any_open)} if "$ref" in schema else result


def _copy(schema: Any, any_open: bool) -> Any:
    if not isinstance(schema, dict):
        return schema  # true and false are schemas too, and what is no schema is for others to refuse
    if schema.get(OPEN) and any_open:
        return {}
    result = _members(schema, any_open)
    _add_items(result)
    if "$ref" in result and len(result) > 1:
        return {"anyOf": [{"$ref": result.pop("$ref")}], **result}
    if "anyOf" not in result and isinstance(result.get("allOf"), list) and len(result["allOf"]) == 1:
        result["anyOf"] = result.pop("allOf")
    if isinstance(result.get("anyOf"), list):
        _flatten(result)
    return result


def _members(schema: Json, any_open: bool) -> Json:
    """Copy a schema with the schemas in it."""
    result = {}
    for key, value in schema.items():
        if key in _ONE:
            value = _copy(value, any_open)
        elif key in _LIST and isinstance(value, list):
            value = [_copy(item, any_open) for item in value]
        elif key in _BY_NAME and isinstance(value, dict):
            value = {name: _copy(member, any_open) for name, member in value.items()}
        if key != OPEN:
            result[key] = value
    return result


def _add_items(schema: Json) -> None:
    """Give an array `items`: anything, or what the places of a tuple hold. Equal places are not listed beside it."""
    if "items" in schema or not (schema.get("type") == "array" or "array" in _list(schema.get("type"))):
        return
    places = _list(schema.get("prefixItems"))
    schema["items"] = {}
    if places and schema.get("maxItems") == len(places):
        different = _distinct(places)
        schema["items"] = different[0] if len(different) == 1 else {"anyOf": different}
        if len(different) == 1:
            del schema["prefixItems"]
        else:
            _flatten(schema["items"])


def _flatten(schema: Json) -> None:
    """Lift the alternatives of an `anyOf` in an `anyOf`, and list none twice."""
    alternatives: list[Any] = []
    for member in schema["anyOf"]:
        inner = member.get("anyOf") if isinstance(member, dict) else None
        if not isinstance(inner, list) or set(member) - _NOTES != {"anyOf"}:
            alternatives.append(member)
            continue
        alternatives += inner
        for note in _NOTES & set(member):
            schema.setdefault(note, member[note])
    schema["anyOf"] = _distinct(alternatives)


def _distinct(schemas: list[Any]) -> list[Any]:
    return [s for i, s in enumerate(schemas) if not any(_same(s, other) for other in schemas[:i])]


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: 1 is not true."""
    return one == other and repr(one) == repr(other)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""JSON Schemas as Google's models take them: a part of the standard, of which the rest is refused or not seen. Pure."""

from __future__ import annotations

from typing import Any

from agentkit.core.messages import Json

__all__ = ["google_schema"]

_ONE = ("additionalProperties", "items")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_BY_NAME = ("$defs", "properties")
_LEFT_OUT = {"$schema", "contentSchema", "deprecated", "discriminator", "examples", "readOnly", "title", "writeOnly"}
_IN_WORDS = ("format", "pattern", "minLength", "maxLength", "multipleOf", "uniqueItems")
"""Keywords that the model reads in the description: values are checked against them here."""
_TYPES: tuple[tuple[type, str], ...] = ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"))


def google_schema(schema: Any) -> Any:
    """Copy a schema such as Google takes it. What it cannot say of values stands in the descriptions."""
    if not isinstance(schema, dict):
        return schema  # true and false are schemas too
    result: Json = {}
    for key, value in schema.items():
        if key in _ONE:
            result[key] = google_schema(value)
        elif key in _LIST and isinstance(value, list):
            result[key] = [google_schema(member) for member in value]
        elif key in _BY_NAME and isinstance(value, dict):
            result[key] = {name: google_schema(member) for name, member in value.items()}
        elif key not in _LEFT_OUT:
            result[key] = value
    _write_const(result)
    _write_bounds(result)
    _describe(result)
    return result


def _write_const(schema: Json) -> None:
    """Write `const` as a list of one, which Google knows, or as the type of null."""
    if "const" not in schema:
        return
    value = schema.pop("const")
    if value is None:
        schema["type"] = "null"
        return
    kind = next((name for python_type, name in _TYPES if isinstance(value, python_type)), None)
    if kind is not None:
        schema["enum"] = [value]
        schema.setdefault("type", kind)


def _write_bounds(schema: Json) -> None:
    """Write exclusive bounds, which Google has not, as such that include all that they allow."""
    step = 1 if schema.get("type") == "integer" else 0
    for exclusive, inclusive, by in (("exclusiveMinimum", "minimum", step), ("exclusiveMaximum", "maximum", -step)):
        bound = schema.pop(exclusive, None)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            schema.setdefault(inclusive, bound + by if isinstance(bound, int) else bound)


def _describe(schema: Json) -> None:
    """Put keywords that Google does not know into the description."""
    constraints = [f"{key}: {schema.pop(key)}" for key in _IN_WORDS if key in schema]
    if constraints:
        description = schema.get("description")
        words = f"({', '.join(constraints)})"
        schema["description"] = f"{description} {words}" if isinstance(description, str) and description else words

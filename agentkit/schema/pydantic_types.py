"""Has pydantic read what it knows best: constraints, validators, models, dates and all the other types of Python.

The one module that imports pydantic, which is an extra: `agentkit.schema.annotations` imports this module where an
annotation needs it. Values go to pydantic as JSON, so that strict models take what JSON can say of a date.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from typing_extensions import TypedDict

from agentkit.core.messages import Json
from agentkit.errors import SchemaProblem
from agentkit.schema.annotations import UnsupportedError, is_field, note_of, type_name
from agentkit.schema.check import MAX_PROBLEMS, pointer, problem
from agentkit.schema.conversion import ConversionError, Convert
from agentkit.schema.portable import OPEN

__all__ = ["Member", "read", "read_member"]


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter that is declared by a `Field`: its name in JSON, which may be an alias, and its schema.

    `required`: whether its JSON must be there. `convert` takes an object that has it or not, and returns the keyword
    arguments, with the default that the Field has.
    """

    key: str
    schema: Json
    required: bool
    convert: Convert


def read(
    t: Any, scope: Mapping[str, Any], names: set[str], defs: Json, declared: Any = None
) -> tuple[Json, Convert, Json]:
    """Read a type: its schema, its conversion, and the `$defs` that it adds to `defs`.

    `scope`: the names that strings in it may use. `names`: those of `$defs` that are being written. `declared`: the
    type that the error names, if not `t`. Raises UnsupportedError.
    """
    try:
        adapter = _adapter(_with_notes(t), scope)
        prefix, n = "", 1
        while True:
            schema = adapter.json_schema(ref_template=f"#/$defs/{prefix}{{model}}", schema_generator=_Generator)
            added = {prefix + name: value for name, value in schema.pop("$defs", {}).items()}
            if names.isdisjoint(added) and all(defs.get(name, value) == value for name, value in added.items()):
                return schema, _conversion(adapter), added
            prefix, n = f"{getattr(t, '__name__', 'T')}{n}_", n + 1
    except Exception as error:  # it calls code of the types: anything may be raised
        reason = " ".join(str(error).split("\n\n")[0].split(". Set `")[0].split()).rstrip(".") or type(error).__name__
        raise UnsupportedError(f"{type_name(declared or t)} is not supported: {reason}") from error


def read_member(name: str, annotation: Any, default: Any, scope: Mapping[str, Any], defs: Json) -> Member:
    """Read a parameter with a `Field` in its annotation or as its default. Raises UnsupportedError.

    The `$defs` of its type are added to `defs`.
    """
    field = default if is_field(default) else None
    annotation = Any if annotation is Parameter.empty else _with_notes(annotation)
    if default is None or (field is not None and field.default is None):
        annotation = _nullable(annotation)  # `x: int = None`, as without a Field
    if field is not None:
        annotation = Annotated[annotation, field]
    elif default is not Parameter.empty:
        annotation = NotRequired[annotation]
    arguments = TypedDict("Arguments", {name: annotation})  # type: ignore[misc]  # made of what is declared
    schema, convert, added = read(arguments, scope, set(), defs, declared=annotation)
    defs.update(added)
    [(key, member)] = schema["properties"].items()
    if field is not None or default is Parameter.empty:
        return Member(key, member, key in schema.get("required", ()), convert)
    # Python fills in the function's own default, which comes before that of a Field in the annotation.
    return Member(key, member, False, lambda sent: convert(sent) if sent else {})


def _nullable(annotation: Any) -> Any:
    if typing.get_origin(annotation) is not Annotated:
        return typing.Optional[annotation]  # noqa: UP045  # `|` does not know every annotation
    base, *metadata = typing.get_args(annotation)
    return Annotated[(typing.Optional[base], *metadata)]  # noqa: UP045


def _adapter(t: Any, scope: Mapping[str, Any]) -> TypeAdapter[Any]:
    """Make the adapter of a type; strings in it mean the names that the frame which calls `TypeAdapter` has."""
    adapter: TypeAdapter[Any] = eval("__adapter__(__type__)", {"__adapter__": TypeAdapter, "__type__": t}, dict(scope))
    return adapter


def _conversion(adapter: TypeAdapter[Any]) -> Convert:
    def convert(value: Any) -> Any:
        try:
            return adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            raise ConversionError(_problems(error, value)) from error
        except Exception as error:  # validators are the application's
            raise ConversionError.of(error) from error

    return convert


# -- schemas


class _Generator(GenerateJsonSchema):
    """Writes schemas as agentkit sends them: without titles made of names, and with what is open marked as such."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # pydantic's own form

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: Any) -> JsonSchemaValue:
        # The tags exclude each other, and fewer vendors know oneOf and discriminator.
        result = super().tagged_union_schema(schema)
        result.pop("discriminator", None)
        if "oneOf" in result:
            result["anyOf"] = result.pop("oneOf")
        return result

    def is_subclass_schema(self, schema: Any) -> JsonSchemaValue:
        return self.handle_invalid_for_json_schema(schema, "a class")  # no JSON is one

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        return self._open(schema, super().function_before_schema)

    def function_wrap_schema(self, schema: Any) -> JsonSchemaValue:
        return self._open(schema, super().function_wrap_schema)

    def function_plain_schema(self, schema: Any) -> JsonSchemaValue:
        return self._open(schema, super().function_plain_schema if "json_schema_input_schema" in schema else _anything)

    @staticmethod
    def _open(schema: Any, write: Callable[[Any], JsonSchemaValue]) -> JsonSchemaValue:
        """Mark what a validator sees before the type does; unless it is declared what it may be."""
        declared = schema.get("json_schema_input_schema", {}).get("type", "any") != "any"
        result = write(schema)
        return result if declared else {**result, OPEN: True}


def _anything(_schema: Any) -> JsonSchemaValue:
    return {}


@dataclass(frozen=True)
class _Note:
    """Adds to a schema what an `Annotated` says in a text or a dict, which pydantic does not read."""

    extra: Json

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Json]) -> Json:
        return {**handler(core_schema), **self.extra}

    def __hash__(self) -> int:
        return id(self)


def _with_notes(t: Any) -> Any:
    """Copy an annotation with each of our notes in it as pydantic's own kind of metadata."""
    origin, args = typing.get_origin(t), typing.get_args(t)
    if origin is None or origin is Literal or not args:
        return t
    if origin is Annotated:
        notes = [extra if (note := note_of(extra)) is None else _Note(note) for extra in args[1:]]
        return Annotated[(_with_notes(args[0]), *notes)]
    replaced = tuple(_with_notes(arg) for arg in args)
    if all(new is old for new, old in zip(replaced, args, strict=True)):
        return t
    if origin is types.UnionType:
        return typing.Union[replaced]  # noqa: UP007  # of a tuple
    return t.copy_with(replaced) if hasattr(t, "copy_with") else origin[replaced]


# -- refusals


def _problems(error: ValidationError, value: Any) -> list[SchemaProblem]:
    problems: list[SchemaProblem] = []
    for each in error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]:
        place, message = _place(each["loc"], value), each["msg"]
        raised = each.get("ctx", {}).get("error")
        if each["type"] == "missing":
            message = f"the required property {json.dumps(each['loc'][-1], ensure_ascii=False)} is missing"
        elif isinstance(raised, Exception):
            message = ConversionError.of(raised).problems[0]["message"]
        found = problem(pointer(place), message)
        if found not in problems:
            problems.append(found)
    return problems


def _place(location: tuple[int | str, ...], value: Any) -> list[int | str]:
    """Find the part of pydantic's location that leads into the JSON; the rest names branches of unions and the like."""
    place: list[int | str] = []
    for key in location:
        in_list = isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value)
        if in_list or (isinstance(value, dict) and key in value):
            value = value[key]
            place.append(key)
    return place

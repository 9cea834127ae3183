"""Schemas in the form that vendors take: nothing that one of them refuses, and the same meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field

from agentkit import tool
from agentkit.schema.check import compile_schema
from agentkit.schema.portable import OPEN, accepted, portable
from tests.tools import APPROVAL


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
        ({"type": "array", "items": False}, {"type": "array", "items": False}),
        ({"items": {"type": "array"}}, {"items": {"type": "array", "items": {}}}),
        (
            {"type": "array", "prefixItems": [{"type": "null"}, {"type": "null"}], "maxItems": 2},
            {"type": "array", "items": {"type": "null"}, "maxItems": 2},
        ),
        (
            {"type": "array", "prefixItems": [{"const": 1}, {"const": True}], "maxItems": 2},
            {
                "type": "array",
                "prefixItems": [{"const": 1}, {"const": True}],
                "items": {"anyOf": [{"const": 1}, {"const": True}]},
                "maxItems": 2,
            },
        ),
        (
            {"type": "array", "prefixItems": [{"const": 1}]},
            {"type": "array", "prefixItems": [{"const": 1}], "items": {}},
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/A", "default": None}}},
            {"properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}], "default": None}}},
        ),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array"}}},
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {}}}},
        ),
        ({"allOf": [{"$ref": "#"}], "title": "A"}, {"anyOf": [{"$ref": "#"}], "title": "A"}),
        (
            {"anyOf": [{"anyOf": [{"type": "null"}, {"anyOf": [{"const": 1}]}], "description": "x"}, {"type": "null"}]},
            {"anyOf": [{"type": "null"}, {"const": 1}], "description": "x"},
        ),
        ({"anyOf": [{"anyOf": [{"const": 1}], "minimum": 1}]}, {"anyOf": [{"anyOf": [{"const": 1}], "minimum": 1}]}),
        (
            {"default": {"type": "array"}, "enum": [{"type": "array"}]},
            {"default": {"type": "array"}, "enum": [{"type": "array"}]},
        ),
        ({"properties": {"items": {"type": "array"}}}, {"properties": {"items": {"type": "array", "items": {}}}}),
        ({"additionalProperties": {"type": "array"}}, {"additionalProperties": {"type": "array", "items": {}}}),
    ],
)
def test_a_schema_is_rewritten_with_the_same_meaning(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(schema)
    assert portable(schema) == accepted(schema) == expected
    assert repr(schema) == before
    assert portable(expected) == expected


def test_what_a_validator_sees_first_is_shown_as_its_type_and_accepted_as_anything() -> None:
    schema = {"properties": {"a": {"type": "array", OPEN: True}, "b": {"anyOf": [{"const": 1, OPEN: True}]}}}
    assert portable(schema) == {"properties": {"a": {"type": "array", "items": {}}, "b": {"anyOf": [{"const": 1}]}}}
    assert accepted(schema) == {"properties": {"a": {}, "b": {"anyOf": [{}]}}}


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    parent: Annotated[Node | None, "where it hangs"] = None


class Pair(NamedTuple):
    a: int
    b: str


class Cat(BaseModel):
    kind: Literal["cat"]
    friends: list = []
    home: Annotated[tuple[int, str], Field(description="where")] = (1, "a")


class Dog(BaseModel):
    kind: Literal["dog"]
    friend: Annotated[Cat, Field(description="a cat")] = None  # type: ignore[assignment]


@tool
def everything(
    a: list,
    b: set,
    c: tuple,
    d: list[Any],
    e: tuple[int, str, date],
    f: Pair,
    g: Annotated[Node, "where to begin"],
    h: Annotated[Cat | Dog, Field(discriminator="kind", description="a pet")],
    i: Annotated[Dog, Field(description="a dog")],
    j: dict[str, list] | list[tuple[int, int]] | None = None,
    k: Node | None = None,
    m: Annotated[Cat | None, "perhaps"] = None,
    **others: list,
) -> None: ...


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for key, member in value.items():
            if key not in ("default", "enum", "const", "examples"):
                yield from schemas_in(member)
    elif isinstance(value, list):
        for member in value:
            yield from schemas_in(member)


def test_no_derived_schema_has_what_a_vendor_refuses() -> None:
    compile_schema(everything.parameters, "the parameters")
    assert not {"anyOf", "oneOf", "allOf", "enum", "not"} & set(everything.parameters)
    for schema in schemas_in(everything.parameters):
        assert schema.get("type") != "array" or "items" in schema
        assert "$ref" not in schema or set(schema) == {"$ref"}
        assert not any("anyOf" in each for each in schema.get("anyOf", ()))
        assert not {"oneOf", "allOf", "discriminator"} & set(schema)


def test_explicit_parameters_are_sent_in_that_form_too() -> None:
    @tool(parameters={"properties": {"xs": {"type": "array"}}}, decision=APPROVAL)
    def given(xs: list[Any]) -> None: ...

    assert given.parameters == {"type": "object", "properties": {"xs": {"type": "array", "items": {}}}}

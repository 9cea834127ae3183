"""Values that are accepted without the library: it accepts each of them, and has the last word on the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agentkit.schema.check import compile_schema
from agentkit.schema.simple import compile_simple

NAMES = st.sampled_from("abc")
SCALARS = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.just({"type": "string", "enum": ["a", "b"]}),
    st.just({"type": "integer", "description": "A number.", "default": 1}),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, unique=True, max_size=2),
            "additionalProperties": st.booleans(),
        },
    )
    lists = st.fixed_dictionaries({"type": st.just("array")}, optional={"items": inner})
    return st.one_of(objects, lists, st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}))


SCHEMAS = st.recursive(SCALARS, nested, max_leaves=5)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, "a", "c"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


@given(SCHEMAS, VALUES)
def test_what_is_accepted_satisfies_the_schema(schema: dict[str, Any], value: Any) -> None:
    accepts = compile_simple(schema)
    assert accepts is not None
    valid = Draft202012Validator(schema).is_valid(value)
    assert valid or not accepts(value)
    assert (compile_schema(schema, "it").problems(value) == []) is valid


OBJECT = {
    "type": "object",
    "properties": {
        "order": {"type": "string", "description": "Its id."},
        "cents": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "number"}}}},
    },
    "required": ["order"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(("value", "accepted"), [
    ({"order": "A-1"}, True),
    ({"order": "A-1", "cents": 5, "lines": [{"n": 1.5}, {}]}, True),
    ({"order": "A-1", "cents": True}, False),
    ({"order": "A-1", "more": 1}, False),
    ({"cents": 5}, False),
    ([], False),
])  # fmt: skip
def test_the_arguments_of_a_tool_are_accepted_at_once(value: Any, accepted: bool) -> None:
    accepts = compile_simple(OBJECT)
    assert accepts is not None
    assert accepts(value) is accepted


@pytest.mark.parametrize("schema", [
    {"type": "string", "pattern": "^a+$"},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"type": ["string", "null"]},
    {"const": 1},
    {},
    True,
])  # fmt: skip
def test_a_schema_that_says_more_is_left_to_the_library(schema: Any) -> None:
    assert compile_simple(schema) is None

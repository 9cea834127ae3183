"""Schema checking: which values pass, and how well the problems point at what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.schema.check import MAX_MESSAGE, MAX_PROBLEMS, compile_schema

TAGGED = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "card"}, "cents": {"type": "integer"}},
            "required": ["kind", "cents"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "voucher"}, "code": {"type": "string"}},
            "required": ["kind", "code"],
        },
    ]
}
LIST = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}


def problems(schema: dict[str, Any], value: Any) -> list[tuple[str, str]]:
    return [(p["path"], p["message"]) for p in compile_schema(schema, "the schema").problems(value)]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 1.0, -3], [True, 1.5, "1", None]),
        ({"type": "number"}, [1, 1.5], [False, "1"]),
        ({"type": "boolean"}, [True], [0, 1]),
        ({"type": "null"}, [None], [0, ""]),
        ({"const": 1}, [1, 1.0], [True, "1"]),
        ({"enum": ["a", None, 0]}, ["a", None, 0], [False, ""]),
        ({"type": ["string", "null"]}, ["", None], [1]),
        ({"not": {"type": "string"}}, [1], ["a"]),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["a", 3], [2]),
        ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 5]),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, [["a"], []], [[1], ["a", 1]]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, [1, "ab"], ["a"]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 1}], [{"a": 1}]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, [1], ["1"]),
        ({"$defs": {"n": {"$id": "n", "type": "integer"}}, "items": {"$ref": "n"}}, [[1]], [["1"]]),
        (TAGGED, [{"kind": "card", "cents": 1}, {"kind": "voucher", "code": "x"}], [{}, None, {"kind": "card"}]),
        ({}, [1, None, {}], []),
    ],
)
def test_values_are_judged_by_draft_2020_12(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if problems(schema, value)] == []
    assert [value for value in bad if not problems(schema, value)] == []


@pytest.mark.parametrize(
    ("schema", "value", "path", "message"),
    [
        ({"type": "integer"}, "1", "", "must be an integer, not a string"),
        ({"properties": {"a/b": {"properties": {"c~": {"type": "null"}}}}}, {"a/b": {"c~": 1}}, "/a~1b/c~0", "null"),
        ({"items": {"type": "string"}}, ["a", 2], "/1", "must be a string, not an integer"),
        ({"properties": {"x": {"required": ["y"]}}}, {"x": {}}, "/x", 'the required property "y" is missing'),
        ({"additionalProperties": False}, {"z": 1}, "", 'not allowed: "z"'),
        ({"additionalProperties": False, "patternProperties": {"^a": {}}}, {"a1": 1, "z": 1}, "", 'not allowed: "z"'),
        ({"propertyNames": {"pattern": "^a"}}, {"b": 1}, "", 'the property name "b" must match'),
        ({"enum": ["a", "b", "c"]}, "d", "", 'must be "a", "b" or "c", not "d"'),
        ({"const": {"a": 1}}, 3, "", 'must be {"a": 1}, not 3'),
        ({"minimum": 3}, 2, "", "must be at least 3"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 5, "", "must be a string or null, not an integer"),
        (TAGGED, {"kind": "voucher", "code": 1}, "/code", "must be a string, not an integer"),
        (TAGGED, {"kind": "card"}, "", 'the required property "cents" is missing'),
        (TAGGED, {"kind": "cash", "code": "x"}, "/kind", 'must be "card" or "voucher", not "cash"'),
        (TAGGED, 5, "", "must be an object, not an integer"),
        (
            {"properties": {"a": {"anyOf": [TAGGED, {"type": "null"}]}}},
            {"a": {"kind": "card", "cents": ""}},
            "/a/cents",
            "integer",
        ),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3, "", "matches several"),
        ({"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}, {"n": ""}, "/n", "integer"),
        ({"contains": {"const": 1}}, [], "", "does not contain"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", "'b'"),
    ],
)
def test_a_problem_says_where_and_what(schema: dict[str, Any], value: Any, path: str, message: str) -> None:
    found = problems(schema, value)
    assert len(found) == 1
    assert found[0][0] == path
    assert message in found[0][1]


def test_every_missing_property_is_a_problem_of_its_own() -> None:
    found = problems({"required": ["a", "b"]}, {})
    assert [message for _, message in found] == [f'the required property "{n}" is missing' for n in "ab"]


def test_there_are_at_most_twenty_problems() -> None:
    assert len(problems({"items": {"type": "string"}}, list(range(1000)))) == MAX_PROBLEMS


@pytest.mark.parametrize(
    "schema", [{"type": "integer"}, {"enum": ["a"]}, {"maxLength": 3}, {"pattern": "^y"}, {"not": {}}]
)
def test_a_large_value_is_not_echoed(schema: dict[str, Any]) -> None:
    assert all(len(message) <= MAX_MESSAGE for _, message in problems(schema, "x" * 1_000_000))


def test_a_large_property_name_is_not_echoed() -> None:
    [(_, message)] = problems({"additionalProperties": False}, {"x" * 1_000_000: 1})
    assert len(message) <= MAX_MESSAGE


@pytest.mark.parametrize("schema", [LIST, {"type": "string"}, {"$ref": "#"}])
def test_endless_nesting_is_a_problem_and_no_crash(schema: dict[str, Any]) -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    assert problems(schema, value) == [("", "is nested too deeply to be checked")]


def test_a_number_beyond_arithmetic_is_a_problem_and_no_crash() -> None:
    assert problems({"multipleOf": 0.1}, 10**5000)[0][1].startswith("cannot be checked")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strng"}, "at /type"),
        ({"properties": {"a": {"required": "b"}}}, "at /properties/a/required: must be an array"),
        ({"properties": {"a": {"pattern": "("}}}, "at /properties/a/pattern"),
        ({"items": {"$ref": "#/$defs/nope"}}, '"#/$defs/nope" leads nowhere'),
        ({"minimum": float("nan")}, "not JSON"),
        ({"default": object()}, "not JSON"),
        (True, "must be a JSON Schema"),
        (None, "must be a JSON Schema"),
    ],
)
def test_a_bad_schema_is_refused_by_name_and_place(schema: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_schema(schema, "the decision of tool 'pay'")
    assert "the decision of tool 'pay'" in caught.value.message
    assert message in caught.value.message


def test_a_reference_behind_a_place_of_no_meaning_is_resolved_too() -> None:
    schema = {"x-shared": {"y": {"$ref": "#/nope"}}, "$ref": "#/x-shared/y"}
    with pytest.raises(ConfigurationError, match="leads nowhere"):
        compile_schema(schema, "the schema")


def test_equal_schemas_are_compiled_once() -> None:
    one = compile_schema({"type": "object", "minProperties": 1}, "one")
    assert compile_schema({"minProperties": 1, "type": "object"}, "two") is one
    assert compile_schema({"type": "object", "minProperties": 2}, "three") is not one


def test_a_schema_changed_after_compiling_has_no_effect() -> None:
    schema = {"type": "object", "required": ["a"]}
    compiled = compile_schema(schema, "the schema")
    schema["required"] = []
    assert compiled.problems({}) != []


def test_multiples_are_those_of_the_decimals_that_stand_in_the_json() -> None:
    cents = compile_schema({"type": "number", "multipleOf": 0.01}, "x")
    assert not [amount for amount in range(10_001) if cents.problems(amount / 100)]
    for value in (19.99, 0, -0.07, 1e15, 123456789.12, 10**30, 1e-2, 1.1e22):
        assert cents.problems(value) == []
    for value in (0.001, 19.999, 1e-3, -0.005, 1.15e-1, 5e-324):
        assert len(cents.problems(value)) == 1


@pytest.mark.parametrize(
    ("divisor", "value", "fits"),
    [(0.1, 0.3, True), (0.1, 0.35, False), (3, 9.0, True), (3, 10, False), (1e-7, 3e-7, True), (2.5, 10**400, True),
     (0.3, 1e308, False), (1e300, 3e300, True)],
)  # fmt: skip
def test_multiples_of_large_small_and_whole_numbers(divisor: Any, value: Any, fits: bool) -> None:
    assert (compile_schema({"multipleOf": divisor}, "x").problems(value) == []) is fits

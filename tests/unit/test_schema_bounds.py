"""What a check of a value may cost: whatever the schema and the value, a moment, and nothing is ever fetched."""

from __future__ import annotations

import builtins
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.schema import keywords
from agentkit.schema.check import compile_schema

LONG = "a" * 60 + "!"


def doubling(keyword: str, depth: int = 40) -> dict[str, Any]:
    """A schema of a few lines that asks 2**depth questions."""
    defs: dict[str, Any] = {str(depth): {"type": "integer"}}
    for level in range(depth):
        defs[str(level)] = {keyword: [{"$ref": f"#/$defs/{level + 1}"}, {"$ref": f"#/$defs/{level + 1}"}]}
    return {"$ref": "#/$defs/0", "$defs": defs}


def mixed(count: int) -> list[Any]:
    """Items of many types, which cannot be sorted; no two equal."""
    return [[n, str(n), {"n": n}][n % 3] for n in range(count)]


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Processor time since the beginning of the test. A check gets a fifth of a second here."""
    monkeypatch.setattr(keywords, "MAX_SECONDS", 0.2)
    before = time.process_time()
    return lambda: time.process_time() - before


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a|aa)+$"}, LONG),
        ({"items": {"pattern": "^(a|aa)+$"}}, [LONG] * 1000),
        ({"patternProperties": {"^(a|aa)+$": {"type": "null"}}}, {LONG: 1}),
        ({"patternProperties": {"^(a|aa)+$": {}}, "additionalProperties": False}, {LONG: 1}),
        ({"propertyNames": {"pattern": "^(a|aa)+$"}}, {LONG: 1}),
        (doubling("allOf"), 1),
        (doubling("anyOf"), "x"),
        (doubling("oneOf"), "x"),
        ({"unevaluatedProperties": False, **doubling("allOf")}, {}),
        ({"unevaluatedItems": False, "contains": {"type": "integer"}}, list(range(100_000))),
        ({"unevaluatedProperties": False, "properties": {"a": {}}}, {str(n): n for n in range(100_000)}),
        ({"items": {"type": ["integer", "string"], "minimum": 0}}, [1] * 1_000_000),
    ],
)
def test_what_would_take_hours_is_a_problem_within_a_moment(
    schema: dict[str, Any], value: Any, seconds: Callable[[], float]
) -> None:
    problem = compile_schema(schema, "the schema").problems(value)[-1]
    assert problem["path"] == ""
    assert problem["message"].startswith("cannot be checked: ")
    assert seconds() < 5


def test_a_check_after_one_that_took_too_long_has_its_own_time(seconds: Callable[[], float]) -> None:
    schema = compile_schema({"pattern": "^(a|aa)+$"}, "the schema")
    assert "takes too long" in schema.problems(LONG)[0]["message"]
    assert schema.problems("aaa") == []
    assert seconds() < 5


@pytest.mark.parametrize("items", [mixed(5_000), [[n] for n in range(5_000)], [{"n": n} for n in range(5_000)]])
def test_many_items_are_compared_in_one_pass(items: list[Any]) -> None:
    schema = compile_schema({"uniqueItems": True}, "the schema")
    assert schema.problems(items) == []
    assert schema.problems([*items, items[7]]) == [{"path": "", "message": "must not contain an item twice"}]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1], [1.0], True),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ([], {}, False),
        ("1", 1, False),
        (None, False, False),
    ],
)
def test_items_are_the_same_as_json_schema_has_it(one: Any, other: Any, same: bool) -> None:
    assert bool(compile_schema({"uniqueItems": True}, "the schema").problems([one, other])) == same


def test_patterns_find_names_and_values_anywhere() -> None:
    schema = compile_schema(
        {
            "patternProperties": {"^x-": {"pattern": r"\d{2}"}},
            "properties": {"known": {}},
            "additionalProperties": {"type": "null"},
        },
        "the schema",
    )
    assert schema.problems({"x-a": "no 12", "known": 1, "more": None}) == []
    found = schema.problems({"x-a": "1", "known": 1, "more": 1})
    assert {p["path"] for p in found} == {"/x-a", "/more"}


def test_letters_of_any_script_can_be_asked_for() -> None:
    schema = compile_schema({"pattern": r"^\p{Lu}\p{L}*$"}, "the schema")
    assert schema.problems("Ärger") == []
    assert schema.problems("ärger") != []


@pytest.mark.parametrize(
    "ref",
    [
        "http://127.0.0.1:9/schema.json",
        "https://example.invalid/schema#/a",
        "file:///etc/hostname",
        "//127.0.0.1/x",
        "other.json",
        "urn:x:y",
        "http://[",
        "#/allOf/x",
        "#/allOf/7",
        "#/title/x",
        "#nowhere",
    ],
)
@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_reference_out_of_the_schema_is_refused_and_never_fetched(
    keyword: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network or a file was touched")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(builtins, "open", forbidden)
    monkeypatch.setattr(Path, "open", forbidden)
    schema = {"title": "t", "allOf": [{}], "properties": {"a": {keyword: ref}}}
    with pytest.raises(ConfigurationError, match="leads nowhere"):
        compile_schema(schema, "the schema")


@pytest.mark.parametrize("shared", [{"type": 5}, {"pattern": "("}, {"$ref": "#/nope"}, "text", 5, [1]])
def test_what_a_reference_leads_to_must_be_a_schema(shared: Any) -> None:
    with pytest.raises(ConfigurationError, match="the schema is not a valid JSON Schema"):
        compile_schema({"x-shared": shared, "properties": {"a": {"$ref": "#/x-shared"}}}, "the schema")


def test_the_schema_of_another_draft_is_not_fetched_either() -> None:
    schema = compile_schema({"$schema": "https://example.invalid/draft", "type": "integer"}, "the schema")
    assert schema.problems("x") != []


def test_patterns_where_their_cost_could_not_be_bounded_are_refused() -> None:
    schema = {"patternProperties": {"a": {}}, "allOf": [{"unevaluatedProperties": False}]}
    with pytest.raises(ConfigurationError, match="cannot be used together"):
        compile_schema(schema, "the schema")


@pytest.mark.parametrize("ref", ["#", "#/$defs/a", "#a"])
def test_a_reference_in_a_circle_is_a_problem_and_no_crash(ref: str) -> None:
    schema = {"$ref": ref, "$defs": {"a": {"$anchor": "a", "$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    [problem] = compile_schema(schema, "the schema").problems(1)
    assert problem["path"] == ""
    # Some milliseconds, but for a process that collects its garbage just then.
    assert re.search("is nested too deeply to be checked|cannot be checked: it takes more", problem["message"])


def test_a_huge_name_is_not_echoed_in_paths() -> None:
    schema = compile_schema({"additionalProperties": {"additionalProperties": {"type": "null"}}}, "the schema")
    found = schema.problems({"x" * 100_000: {str(n): n for n in range(50)}})
    assert len(str(found)) < 20_000


def test_a_schema_that_is_itself_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"items": schema}
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        compile_schema(schema, "the schema")

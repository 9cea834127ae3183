from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentkit.cli.decisions import Answer, ask_for_answer

APPROVAL = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "description": "Pay it back?"},
        "note": {"type": "string"},
    },
    "required": ["approved"],
}


def answers(schema: Any, lines: Sequence[str], kind: str = "decision") -> tuple[Answer, list[str], list[str]]:
    """The answer that these lines give, the prompts, and what was said."""
    waiting = list(lines)
    prompts: list[str] = []
    said: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    answer = ask_for_answer({"kind": kind, "schema": schema}, ask, said.append)
    assert not waiting, "it asked too little"
    return answer, prompts, said


def decide(schema: Any, *lines: str) -> Any:
    answer, _, _ = answers(schema, lines)
    assert answer.kind == "decision"
    return answer.value


def test_fields_are_asked_for_one_by_one_with_their_descriptions() -> None:
    answer, prompts, _ = answers(APPROVAL, ["y", "broken"])
    assert answer == Answer("decision", {"approved": True, "note": "broken"})
    assert prompts == ["Pay it back?\napproved (y/n): ", "note (text, optional): "]


def test_an_optional_field_left_empty_is_left_out() -> None:
    assert decide(APPROVAL, "no", "") == {"approved": False}


def test_json_stands_in_for_all_fields() -> None:
    assert decide(APPROVAL, '{"approved": true, "note": "x"}') == {"approved": True, "note": "x"}


def test_a_reason_rejects_at_any_field() -> None:
    assert answers(APPROVAL, ["/reject too much"])[0] == Answer("reject", "too much")
    assert answers(APPROVAL, ["y", "/reject"])[0] == Answer("reject", "rejected")


def test_a_line_that_is_no_answer_is_asked_for_again() -> None:
    _, prompts, said = answers(APPROVAL, ["maybe", "", "y", ""])
    assert [prompt.rpartition("\n")[2][:8] for prompt in prompts] == ["approved"] * 3 + ["note (te"]
    assert "  answer y or n" in said
    assert "  approved is required" in said


def of(field: Any, required: bool = True) -> Any:
    return {"type": "object", "properties": {"x": field}, "required": ["x"] if required else []}


@pytest.mark.parametrize(
    ("field", "lines", "value"),
    [
        ({"enum": ["low", "high"]}, ["2"], "high"),
        ({"enum": ["low", "high"]}, ["LOW"], "low"),
        ({"enum": [3, 1]}, ["1"], 1),
        ({"enum": ["a", None]}, ["c", "null"], None),
        ({"type": "integer"}, ["1.5", "12"], 12),
        ({"type": "number"}, ["nan", "1.5"], 1.5),
        ({"type": "number"}, ["3"], 3),
        ({"type": "string"}, [" padded "], "padded"),
        ({"type": "string", "default": "d"}, [""], "d"),
        ({"type": "array"}, ["[1", "[1, 2]"], [1, 2]),
        ({"type": "object"}, ['{"a": 1}'], {"a": 1}),
        ({"const": "always"}, [], "always"),
        ({"type": ["string", "null"]}, [""], None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["4"], 4),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, ['"s"'], "s"),
        (True, ["[]"], []),
    ],
)
def test_a_field_is_read_by_its_type(field: Any, lines: list[str], value: Any) -> None:
    assert decide(of(field), *lines) == {"x": value}


def test_choices_are_listed() -> None:
    _, prompts, _ = answers(of({"enum": ["low", "high"]}), ["1"])
    assert prompts == ["    1) low\n    2) high\nx (choose): "]


def test_references_into_the_schema_are_followed() -> None:
    schema = {**of({"$ref": "#/$defs/level"}), "$defs": {"level": {"enum": ["low", "high"]}}}
    assert decide(schema, "2") == {"x": "high"}


def test_a_reference_that_leads_nowhere_asks_for_json() -> None:
    assert decide(of({"$ref": "#/$defs/none"}), "1") == {"x": 1}
    assert decide(of({"$ref": "#/properties/x"}), "1") == {"x": 1}


@pytest.mark.parametrize(
    ("schema", "line", "value"),
    [({"type": "boolean"}, "y", True), ({}, "[1]", [1]), ({"oneOf": [of({}), of({})]}, '{"x": 1}', {"x": 1})],
)
def test_a_schema_without_fields_asks_for_one_value(schema: Any, line: str, value: Any) -> None:
    assert decide(schema, line) == value


def test_a_client_side_tool_is_asked_for_its_result() -> None:
    assert answers({}, ['{"a": 1}'], kind="client_execute")[0] == Answer("result", {"a": 1})
    assert answers({}, ["plain text"], kind="client_execute")[0] == Answer("result", "plain text")
    assert answers({}, ["/reject cannot"], kind="client_execute")[0] == Answer("reject", "cannot")


def test_an_in_doubt_call_is_explained_and_asked_for_a_verdict() -> None:
    verdict = {
        "type": "object",
        "properties": {"verdict": {"enum": ["retry", "done", "failed"]}, "result": {"type": "string"}},
        "required": ["verdict"],
    }
    answer, _, said = answers(verdict, ["done", "sent"], kind="in_doubt")
    assert answer == Answer("decision", {"verdict": "done", "result": "sent"})
    assert "it may have taken effect or not" in said[0]


def test_nobody_there_is_an_end_of_file() -> None:
    with pytest.raises(EOFError):
        answers(APPROVAL, ["y"])

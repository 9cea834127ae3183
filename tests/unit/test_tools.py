"""Tools: what a declaration makes, what it refuses, how a tool is called and what its result becomes."""

from __future__ import annotations

import asyncio
import json
from collections import UserList, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from agentkit.core.messages import ContentBlock, ImageBlock, TextBlock
from agentkit.core.struct import to_json
from agentkit.errors import ConfigurationError
from agentkit.results import CheckedResult, ToolResult, error_result, invalid_arguments, to_result
from agentkit.tools import Tool, ToolContext, tool
from tests.tools import APPROVAL


class Color(str, Enum):  # noqa: UP042  # the older spelling is what people have
    RED = "red"


@dataclass
class Point:
    x: int
    when: Any = None


class Place(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    at: datetime


def context(**values: Any) -> ToolContext:
    return ToolContext(**{"run_id": "r", "tool_call_id": "c", "idempotency_key": "k", **values})


def plain(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


def test_a_bare_decorator_takes_everything_from_the_function() -> None:
    made = tool(plain)
    assert isinstance(made, Tool)
    assert (made.name, made.label, made.description) == ("plain", "plain", "Add.")
    assert made.parameters["required"] == ["a"]
    assert (made.decision, made.decision_timeout, made.on_expire) == (None, None, "reject")
    assert (made.runs, made.effects, made.timeout) == ("server", "idempotent", None)
    assert (made.is_async, made.wants_ctx, made.wants_decision) == (False, False, False)
    assert made.fn is plain


def test_options_win_over_the_function() -> None:
    made = tool(
        name="add", label="Add up", description="Adds.", effects="once", timeout=3, decision={}, decision_timeout=0.5
    )(plain)
    assert (made.name, made.label, made.description) == ("add", "Add up", "Adds.")
    assert (made.effects, made.timeout, made.decision, made.decision_timeout) == ("once", 3, {}, 0.5)


def test_a_tool_is_still_the_function_and_is_frozen() -> None:
    made = tool(plain)
    assert made(1, b=4) == 5
    with pytest.raises(FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]
    assert made in {made}


def test_a_call_converts_and_python_fills_in_defaults() -> None:
    @tool
    def f(color: Color, points: list[Point], n: int = 7) -> Any:
        return color, points, n

    assert f.call({"color": "red", "points": [{"x": 1}]}, context()) == (Color.RED, [Point(1)], 7)


def test_a_call_passes_the_context_and_the_decision() -> None:
    @tool(decision=APPROVAL)
    def f(a: int, ctx: ToolContext, decision: dict[str, Any]) -> Any:
        return a, ctx.run_id, decision

    assert f.call({"a": 1}, context(decision={"approved": True})) == (1, "r", {"approved": True})
    assert list(f.parameters["properties"]) == ["a"]


def test_a_declared_decision_need_not_be_a_parameter() -> None:
    @tool(decision=APPROVAL)
    def f(a: int) -> int:
        return a

    assert not f.wants_decision
    assert f.call({"a": 1}, context(decision={"approved": True})) == 1


def test_an_async_tool_gives_its_coroutine() -> None:
    @tool
    async def f(a: int) -> int:
        return a + 1

    assert f.is_async
    assert asyncio.run(f.call({"a": 1}, context())) == 2


def test_inputs_and_decisions_are_checked() -> None:
    made = tool(decision=APPROVAL)(plain)
    assert made.input_problems({"a": 1}) == []
    assert made.input_problems({"a": "1"})[0]["path"] == "/a"
    assert made.input_problems({"a": 1, "c": 1})[0]["path"] == ""
    assert made.input_problems([]) != []
    assert made.decision_problems({"approved": True}) == []
    assert made.decision_problems({"approved": 1})[0]["path"] == "/approved"
    assert tool(plain).decision_problems("anything") == []


def test_given_parameters_are_what_models_see() -> None:
    made = tool(parameters={"properties": {"a": {"type": "integer", "minimum": 5}}})(plain)
    assert made.parameters["type"] == "object"
    assert made.input_problems({"a": 4})[0]["path"] == "/a"


def test_a_client_tool_needs_no_body() -> None:
    @tool(runs="client", decision_timeout=5)
    def pick_file(folder: str) -> str:  # type: ignore[empty-body]
        """Let the user pick a file."""

    assert (pick_file.runs, pick_file.decision_timeout) == ("client", 5)


@pytest.mark.parametrize("value", ["reject", "abort", {"approved": False}])
def test_on_expire_is_a_keyword_or_a_valid_decision(value: Any) -> None:
    assert tool(decision=APPROVAL, decision_timeout=1, on_expire=value)(plain).on_expire == value


def test_on_expire_reject_is_the_keyword_also_for_a_decision_that_is_a_string() -> None:
    made = tool(decision={"type": "string"}, on_expire="reject")(plain)
    assert made.on_expire == "reject"
    assert tool(decision={"type": "string"}, on_expire="later")(plain).on_expire == "later"


def yields(a: int) -> Iterator[int]:
    yield a


async def yields_async(a: int) -> AsyncIterator[int]:
    yield a


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "has space"}, "name="),
        ({"name": ""}, "name="),
        ({"name": "x" * 65}, "name="),
        ({"name": "good\n"}, "name="),
        ({"runs": "browser"}, "'server' or 'client'"),
        ({"effects": "twice"}, "'idempotent' or 'once'"),
        ({"timeout": 0}, "positive number"),
        ({"timeout": True}, "positive number"),
        ({"timeout": float("inf")}, "positive number"),
        ({"decision": {}, "decision_timeout": -1}, "positive number"),
        ({"decision": {}, "decision_timeout": "5"}, "positive number"),
        ({"decision_timeout": 5}, "give it a decision="),
        ({"decision": {"type": "strng"}}, "the decision of tool 'plain' is not a valid JSON Schema: at /type"),
        ({"decision": True}, "must be a JSON Schema"),
        ({"decision": APPROVAL, "on_expire": {"approved": "no"}}, "at /approved it must be a boolean"),
        ({"decision": APPROVAL, "on_expire": "rejct"}, "'reject', 'abort' or a valid decision"),
        ({"decision": {}, "on_expire": object()}, "on_expire is not JSON"),
        ({"on_expire": {"approved": True}}, "where there is no decision="),
        ({"parameters": {"type": "array"}}, "must describe an object"),
        ({"parameters": {"type": "objct"}}, "the parameters of tool 'plain'"),
    ],
)
def test_a_wrong_declaration_is_a_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tool(**options)(plain)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda a: a, "name="),
        (yields, "yields"),
        (yields_async, "yields"),
        (Point, "must be a function"),
        ("name", "must be a function"),
        (tool(plain), "a tool already"),
    ],
)
def test_what_is_no_function_is_refused(fn: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tool(fn)
    assert message in caught.value.message


def test_the_context_reaches_its_owner() -> None:
    seen: list[Any] = []
    ctx = context(on_update=seen.append, is_aborted=lambda: bool(seen), attempt=2, metadata={"user": 1})
    before = ctx.aborted
    ctx.update({"done": 1})
    assert seen == [{"done": 1}]
    assert (before, ctx.aborted) == (False, True)
    assert (ctx.attempt, ctx.metadata, ctx.idempotency_key) == (2, {"user": 1}, "k")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (None, ""),
        ("", ""),
        (Color.RED, "red"),
        ("caf\udce9", "caf\ufffd"),
        (5, "5"),
        (True, "true"),
        ([], "[]"),
        ({"ä": [1, None]}, '{"ä": [1, null]}'),
        ([{"type": "other"}], '[{"type": "other"}]'),
        (Point(1, date(2026, 1, 2)), '{"x": 1, "when": "2026-01-02"}'),
        (Place(1), '{"x": 1}'),
        ([Point(1)], '[{"x": 1, "when": null}]'),
        (Model(at=datetime(2026, 1, 2, tzinfo=UTC)), '{"at": "2026-01-02T00:00:00Z"}'),
        ({"d": Decimal("1.50"), "p": Path("a/b"), "s": {2, 1}}, '{"d": "1.50", "p": "a/b", "s": [1, 2]}'),
        ((1, UUID(int=0)), '[1, "00000000-0000-0000-0000-000000000000"]'),
    ],
)
def test_what_a_tool_returns_becomes_one_text_block(value: Any, expected: str) -> None:
    assert to_result(value) == CheckedResult([TextBlock(expected)])


def test_content_blocks_stay_as_they_are() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "image", "data": "aGk=", "mimeType": "image/png"}]
    content: list[ContentBlock] = [TextBlock("a"), ImageBlock("aGk=", "image/png")]
    assert to_result(blocks) == to_result(content) == to_result(ToolResult(blocks)) == CheckedResult(content)
    assert to_json(content) == blocks


def test_half_surrogates_in_blocks_are_replaced_and_cache_marks_stay() -> None:
    assert to_result([{"type": "text", "text": "a\udce9", "cache": "long"}]).content == [TextBlock("a\ufffd", "long")]


def test_a_tool_result_is_normalised() -> None:
    made = to_result(ToolResult("no", is_error=True, details={"at": date(2026, 1, 2)}))
    assert made == CheckedResult([TextBlock("no")], True, {"at": "2026-01-02"})
    assert to_result(ToolResult([])).content == []


def test_an_error_result_says_so() -> None:
    assert error_result("no") == CheckedResult([TextBlock("no")], is_error=True)
    assert invalid_arguments([{"path": "/a", "message": "must be an integer"}]) == error_result(
        "the arguments do not satisfy the tool's parameters: /a: must be an integer"
    )


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        object,
        lambda: b"bytes",
        lambda: {"a": object()},
        circular,
        coroutine,
        lambda: [{"type": "text"}],
        lambda: [{"type": "text", "text": "a", "extra": 1}],
        lambda: [{"type": "image", "data": "no base64!", "mimeType": "image/png"}],
        lambda: ToolResult(5),  # type: ignore[arg-type]
        lambda: ToolResult("a", details=object()),
    ],
)
def test_what_can_be_no_result_is_a_type_error(make: Any) -> None:
    with pytest.raises(TypeError, match="the tool"):
        to_result(make())


class Kind(Enum):
    GOOD = "good"


class Order:
    """What `attrs` makes of a class, without attrs."""

    __attrs_attrs__ = (SimpleNamespace(name="id"), SimpleNamespace(name="at"))

    def __init__(self) -> None:
        self.id, self.at = 7, date(2026, 1, 2)


class Number:
    """What a number of NumPy looks like."""

    dtype = "int64"

    def item(self) -> int:
        return 7


class Array(Number):
    def tolist(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({2: "a", None: "b", True: "c", 1.5: "d"}, {"2": "a", "null": "b", "true": "c", "1.5": "d"}),
        ({date(2026, 1, 2): 1, UUID(int=0): 2, Kind.GOOD: 3}, {"2026-01-02": 1, str(UUID(int=0)): 2, "good": 3}),
        ([float("nan"), float("inf"), -float("inf")], ["nan", "inf", "-inf"]),
        ({"n": Number(), "a": Array()}, {"n": 7, "a": [1, 2]}),
        ([Order()], [{"id": 7, "at": "2026-01-02"}]),
        ({"d": {Decimal("1.5"): {Decimal("2")}}}, {"d": {"1.5": ["2"]}}),
        ({Fraction(1, 3): [Fraction(2, 3), 1j]}, {"1/3": ["2/3", "1j"]}),
        ([{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()], [["a"], [1], [["a", 1]]]),
        ([range(2), deque([date(2026, 1, 2)]), UserList("a")], [[0, 1], ["2026-01-02"], ["a"]]),
    ],
)
def test_what_json_does_not_know_is_converted_also_as_a_key(value: Any, shown: Any) -> None:
    [block] = to_result(value).content
    assert isinstance(block, TextBlock)
    assert json.loads(block.text) == shown

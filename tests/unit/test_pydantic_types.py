"""What pydantic reads for us: constraints, fields, validators, models and the types that JSON does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import annotated_types
import pydantic
import pytest
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from typing_extensions import TypeAliasType

from agentkit import Tool, ToolContext, tool
from agentkit.errors import ConfigurationError, ToolError

CTX = ToolContext(run_id="r", tool_call_id="c", idempotency_key="k")
T = TypeVar("T")


class Place(NamedTuple):
    row: int
    day: date = date(2026, 1, 1)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1)


class Dog(BaseModel):
    kind: Literal["dog"]
    born: date | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    when: date
    amount: Decimal
    count: int


class Line(BaseModel):
    count: int = Field(ge=1)
    parts: list[Line] = []


class Order(BaseModel):
    to: str = Field(alias="shipTo")
    lines: list[Line]

    @pydantic.model_validator(mode="after")
    def _has_lines(self) -> Order:
        if not self.lines:
            raise ValueError("an order has lines")
        return self


class Trip(TypedDict):
    start: date
    note: NotRequired[Annotated[str, Field(max_length=3)]]


@dataclass
class Stay:
    start: datetime
    tags: list[Annotated[str, Field(min_length=1)]] = field(default_factory=list)


@dataclass
class Counted:
    n: int = Field(ge=1)


@pydantic.dataclasses.dataclass
class Checked:
    n: int = Field(ge=1)


@dataclass
class Box(Generic[T]):
    value: T


Dates = TypeAliasType("Dates", "dict[str, Dates] | list[Dates] | date")


def of(annotation: Any) -> Tool:
    def f(x: Any) -> Any:
        return x

    f.__annotations__["x"] = annotation
    return tool(f)


def paths(made: Tool, args: dict[str, Any]) -> list[str]:
    return [problem["path"] for problem in made.input_problems(args)]


@pytest.mark.parametrize(
    ("annotation", "schema", "value", "expected"),
    [
        (datetime, {"type": "string", "format": "date-time"}, "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001
        (date, {"type": "string", "format": "date"}, "2026-01-02", date(2026, 1, 2)),
        (time, {"type": "string", "format": "time"}, "03:04", time(3, 4)),
        (timedelta, {"type": "string", "format": "duration"}, "PT90S", timedelta(seconds=90)),
        (UUID, {"type": "string", "format": "uuid"}, str(UUID(int=7)), UUID(int=7)),
        (Path, {"type": "string", "format": "path"}, "a/b", Path("a/b")),
        (bytes, {"type": "string", "format": "binary"}, "hi", b"hi"),
        (
            list[date],
            {"type": "array", "items": {"type": "string", "format": "date"}},
            ["2026-01-02"],
            [date(2026, 1, 2)],
        ),
    ],
)
def test_types_that_json_does_not_have_are_texts_and_reach_the_function_converted(
    annotation: Any, schema: dict[str, Any], value: Any, expected: Any
) -> None:
    made = of(annotation)
    assert made.parameters["properties"]["x"] == schema
    assert made.input_problems({"x": value}) == []
    result = made.call({"x": value}, CTX)
    assert result == expected
    assert type(result) is type(expected)
    assert paths(made, {"x": "\0" if annotation in (Path, bytes) else "nonsense"}) == (
        [] if annotation in (Path, bytes) else ["/x"]
    )


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Decimal, "1.50", Decimal("1.50")),
        (Decimal, 1.1, Decimal("1.1")),
        (Place, [3, "2026-01-02"], Place(3, date(2026, 1, 2))),
        (Place, [3], Place(3)),
        (pydantic.HttpUrl, "https://a.example/b", pydantic.HttpUrl("https://a.example/b")),
        (set[date], ["2026-01-02"], {date(2026, 1, 2)}),
        (frozenset[UUID], [str(UUID(int=1))], frozenset({UUID(int=1)})),
        (tuple[int, date], [1, "2026-01-02"], (1, date(2026, 1, 2))),
        (dict[str, Decimal], {"a": 1}, {"a": Decimal(1)}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (date | None, None, None),
        (date | None, "2026-01-02", date(2026, 1, 2)),
        (date | datetime, "2026-01-02T03:00", datetime(2026, 1, 2, 3)),  # noqa: DTZ001
        (Cat | Dog, {"kind": "dog", "born": "2026-01-02"}, Dog(kind="dog", born=date(2026, 1, 2))),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cat"}, Cat(kind="cat")),
        (
            Strict,
            {"when": "2026-01-02", "amount": "1.5", "count": 2},
            Strict(when=date(2026, 1, 2), amount=Decimal("1.5"), count=2),
        ),
        (Order, {"shipTo": "a", "lines": [{"count": 1}]}, Order(shipTo="a", lines=[Line(count=1)])),
        (Trip, {"start": "2026-01-02"}, {"start": date(2026, 1, 2)}),
        (Trip | None, {"start": "2026-01-02"}, {"start": date(2026, 1, 2)}),
        (Stay, {"start": "2026-01-02T03:00"}, Stay(datetime(2026, 1, 2, 3))),  # noqa: DTZ001
        (Counted, {"n": 1}, Counted(1)),
        (Checked, {"n": 1}, Checked(1)),
        (Box[int], {"value": 1}, Box(1)),
        (Dates, {"a": ["2026-01-02"]}, {"a": [date(2026, 1, 2)]}),
        (Annotated[date, "the day"], "2026-01-02", date(2026, 1, 2)),
    ],
)
def test_converted_values_reach_the_function(annotation: Any, value: Any, expected: Any) -> None:
    made = of(annotation)
    assert made.input_problems({"x": value}) == []
    result = made.call({"x": value}, CTX)
    assert result == expected
    assert type(result) is type(expected)


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (Annotated[int, Field(ge=1, le=5000)], 999999, "/x"),
        (Annotated[int, Field(ge=1, le=5000)], 0, "/x"),
        (Annotated[str, Field(pattern="^a+$")], "b", "/x"),
        (Annotated[str, Field(min_length=2)], "b", "/x"),
        (Annotated[float, Field(multiple_of=0.5)], 0.7, "/x"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "/x"),
        (list[Annotated[str, Field(max_length=3)]], ["abc", "long"], "/x/1"),
        (dict[str, Annotated[int, Field(gt=0)]], {"a": 0}, "/x/a"),
        (Annotated[int, Field(ge=1)] | None, 0, "/x"),
        (Annotated[int, annotated_types.Le(3)], 99, "/x"),
        (Annotated[int, annotated_types.Interval(ge=0, le=3)], 9, "/x"),
        (Annotated[str, annotated_types.Len(1, 2)], "abc", "/x"),
        (Annotated[int, annotated_types.MultipleOf(5)], 4, "/x"),
        (Annotated[int, annotated_types.Predicate(lambda v: v != 4)], 4, "/x"),
        (Annotated[date, annotated_types.Gt(date(2026, 1, 1))], "2025-01-01", "/x"),
        (Annotated[Decimal, Field(max_digits=3)], "1234", "/x"),
        (Annotated[int, AfterValidator(_even)], 3, "/x"),
        (Annotated[int, {"multipleOf": 5}, Field(ge=1)], 4, "/x"),
        (Annotated[list[Annotated[int, {"minimum": 2}]], Field(max_length=3)], [2, 1], "/x/1"),
        (pydantic.HttpUrl, "no address", "/x"),
        (Place, [1, "x"], "/x/1"),
        (Cat, {"kind": "cat", "lives": 0}, "/x/lives"),
        (Strict, {"when": "x", "amount": 1, "count": 1}, "/x/when"),
        (Order, {"shipTo": "a", "lines": [{"count": 1, "parts": [{"count": 0}]}]}, "/x/lines/0/parts/0/count"),
        (Order, {"shipTo": "a", "lines": []}, "/x"),
        (list[Order], [{"shipTo": "a", "lines": [{"count": 1}]}, {"shipTo": "a", "lines": []}], "/x/1"),
        (Trip, {"start": "2026-01-02", "note": "long"}, "/x/note"),
        (Stay, {"start": "x"}, "/x/start"),
        (list[Stay], [{"start": "2026-01-02T03:00", "tags": [""]}], "/x/0/tags/0"),
        (Counted, {"n": 0}, "/x/n"),
        (Checked, {"n": 0}, "/x/n"),
    ],
)
def test_constraints_and_validators_are_enforced(annotation: Any, value: Any, path: str) -> None:
    assert paths(of(annotation), {"x": value}) == [path]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (
            Annotated[int, Field(ge=1, le=5000, description="how many")],
            {"type": "integer", "minimum": 1, "maximum": 5000, "description": "how many"},
        ),
        (Annotated[str, annotated_types.Len(1, 2)], {"type": "string", "minLength": 1, "maxLength": 2}),
        (
            Annotated[date, "the day", Field(examples=["2026-01-02"])],
            {"type": "string", "format": "date", "description": "the day", "examples": ["2026-01-02"]},
        ),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]},
        ),
        (Annotated[int, Field(ge=1)] | None, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}),
    ],
)
def test_constraints_are_in_the_schema(annotation: Any, schema: dict[str, Any]) -> None:
    assert of(annotation).parameters["properties"]["x"] == schema


def test_a_field_as_the_default_declares_a_parameter() -> None:
    @tool
    def f(
        city: str = Field(description="The city."),
        days: int = Field(3, ge=1, le=5),
        user: str = Field("me", alias="user-id"),
        tags: list[str] = Field(default_factory=lambda: ["new"]),  # noqa: B008
        limit: int = Field(None, le=9),
        room: Annotated[str, Field(max_length=3)] = "any",
        kind: int = Field(0, validation_alias=AliasChoices("kind-of", "sort-of")),
    ) -> Any:
        return city, days, user, tags, limit, room, kind

    assert f.parameters["required"] == ["city"]
    assert f.parameters["properties"] == {
        "city": {"type": "string", "description": "The city."},
        "days": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
        "user-id": {"type": "string", "default": "me"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "limit": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}], "default": None},
        "room": {"type": "string", "maxLength": 3, "default": "any"},
        "kind-of": {"type": "integer", "default": 0},
    }
    assert f.call({"city": "Ulm"}, CTX) == ("Ulm", 3, "me", ["new"], None, "any", 0)
    sent = {"city": "Ulm", "days": 5, "user-id": "you", "tags": [], "limit": 9, "room": "a", "kind-of": 2}
    assert f.input_problems(sent) == []
    assert f.call(sent, CTX) == ("Ulm", 5, "you", [], 9, "a", 2)
    assert paths(f, {"city": "Ulm", "days": 6, "limit": 10, "room": "long"}) == ["/days", "/limit", "/room"]
    assert paths(f, {"city": "Ulm", "user": "you"}) == [""]


def test_the_functions_default_comes_before_that_of_a_field_in_the_annotation() -> None:
    @tool
    def f(a: Annotated[int, Field(default=5)], b: Annotated[int, Field(default=5, ge=1)] = 6) -> Any:
        return a, b

    assert {name: schema["default"] for name, schema in f.parameters["properties"].items()} == {"a": 5, "b": 6}
    assert "required" not in f.parameters
    assert f.call({}, CTX) == (5, 6)
    assert f.call({"a": 1, "b": 2}, CTX) == (1, 2)


def test_the_functions_own_name_for_an_aliased_parameter_is_no_further_argument() -> None:
    @tool
    def f(n: int = Field(alias="n-of", ge=1), **rest: int) -> Any:
        return n, rest

    assert paths(f, {"n-of": 1, "n": 0}) == ["/n"]
    assert f.call({"n-of": 1, "rest": 2}, CTX) == (1, {"rest": 2})


def test_two_arguments_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two arguments are called 'b' in JSON"):

        @tool
        def f(a: int = Field(alias="b"), b: int = 1) -> None: ...


def test_keyword_arguments_have_constraints_too() -> None:
    @tool
    def f(**amounts: Annotated[Decimal, Field(ge=1)]) -> Any:
        return amounts

    assert paths(f, {"a": "0.5", "b": 2}) == ["/a"]
    assert f.call({"a": "1.5"}, CTX) == {"a": Decimal("1.5")}


def test_defaults_are_shown_as_json() -> None:
    @tool
    def f(
        day: date = date(2026, 1, 2),
        amount: Decimal = Decimal("1.5"),
        pet: Cat = Cat(kind="cat"),  # noqa: B008
        home: Path = Path("a/b"),
        url: pydantic.HttpUrl = pydantic.HttpUrl("https://a.example/"),  # noqa: B008
    ) -> None: ...

    assert {name: schema["default"] for name, schema in f.parameters["properties"].items()} == {
        "day": "2026-01-02",
        "amount": "1.5",
        "pet": {"kind": "cat", "lives": 9},
        "home": "a/b",
        "url": "https://a.example/",
    }


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class Sloppy(BaseModel):
    n: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"n": value} if isinstance(value, int) else value


def test_a_validator_that_comes_before_the_type_sees_what_was_sent() -> None:
    @tool
    def f(
        tags: Annotated[list[str], BeforeValidator(_split)],
        many: list[Sloppy],
        any_text: Annotated[str, PlainValidator(lambda v: str(v) * 2)] = "",
    ) -> Any:
        return tags, many, any_text

    assert f.parameters["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert "x-agentkit" not in json.dumps(f.parameters)
    sent = {"tags": "a,b", "many": [1, {"n": 2}], "any_text": 1}
    assert f.input_problems(sent) == []
    assert f.call(sent, CTX) == (["a", "b"], [Sloppy(n=1), Sloppy(n=2)], "11")
    assert paths(f, {"tags": 5, "many": [{"n": "x"}]}) == ["/tags", "/many/0/n"]


def _fails(value: Any) -> Any:
    raise KeyError("the host db.internal is down")


@pytest.mark.parametrize("validator", [AfterValidator(_fails), BeforeValidator(_fails)])
def test_a_validator_that_fails_refuses_the_value_without_its_text(validator: Any) -> None:
    assert of(Annotated[int, validator]).input_problems({"x": 1}) == [
        {"path": "/x", "message": "cannot be checked: a validator failed with KeyError"}
    ]


def test_what_a_validator_says_is_the_message() -> None:
    assert of(Order).input_problems({"x": {"shipTo": "a", "lines": []}}) == [
        {"path": "/x", "message": "an order has lines"}
    ]
    assert of(Annotated[list[Sloppy], Field(max_length=1)]).input_problems({"x": [{}]}) == [
        {"path": "/x/0", "message": 'the required property "n" is missing'}
    ]


def test_models_and_dataclasses_local_to_a_function_are_read() -> None:
    class Inner(BaseModel):
        day: date

    @dataclass
    class Outer:
        inner: Inner

    @tool
    def f(outer: Outer, more: Annotated[list[Outer], Field(max_length=1)]) -> Any:
        return outer, more

    sent = {"outer": {"inner": {"day": "2026-01-02"}}, "more": [{"inner": {"day": "2026-01-02"}}]}
    assert f.input_problems(sent) == []
    outer = Outer(Inner(day=date(2026, 1, 2)))
    assert f.call(sent, CTX) == (outer, [outer])


def test_explicit_parameters_are_enforced_and_then_converted() -> None:
    @tool(parameters={"properties": {"day": {"type": "string", "maxLength": 10}, "x": {}}})
    def f(day: date, x: Any) -> Any:
        return day

    assert paths(f, {"day": "2026-01-02T03:00", "x": 1}) == ["/day"]
    assert paths(f, {"day": "nonsense", "x": 1}) == ["/day"]
    assert f.call({"day": "2026-01-02", "x": 1}, CTX) == date(2026, 1, 2)


def test_a_stricter_tool_than_the_one_that_was_called_gives_an_error_for_the_model() -> None:
    with pytest.raises(ToolError, match="do not satisfy the tool's parameters: /x: must be even"):
        of(Annotated[int, AfterValidator(_even)]).call({"x": 1}, CTX)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Callable[[], int], "Cannot generate a JsonSchema"),
        (type[int], "Cannot generate a JsonSchema for a class"),
        (Annotated[str, Field(pattern="(?=a)")], "look-around"),
    ],
)
def test_what_pydantic_cannot_read_is_refused_with_its_reason(annotation: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        of(annotation)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


WITHOUT_PYDANTIC = """
import sys
sys.modules["pydantic"] = sys.modules["pydantic_core"] = None
import datetime
import sys
from typing import Annotated
from agentkit.errors import ConfigurationError, ToolError
from agentkit.schema.signatures import read_signature

def read(fn, parameters=None):
    return read_signature(fn, has_decision=False, parameters=parameters, caller=sys._getframe(1))

def plain(n: Annotated[int, "how many"], tags: list[str] = ()): ...
def dated(n: int, days: list[datetime.date]): ...
def limited(n: Annotated[int, slice(1, 2)]): ...

assert read(plain).bind({"n": 1.0}) == {"n": 1}
for fn, parameters in ((dated, None), (limited, None), (dated, {"properties": {"n": {}, "days": {}}})):
    try:
        read(fn, parameters)
    except ConfigurationError as error:
        print(error.message)
"""


def test_without_pydantic_an_annotation_that_needs_it_is_refused_and_the_extra_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYDANTIC], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    needs = "needs pydantic, which is not installed: pip install 'agentkit-celery[pydantic]'"
    assert done.stdout.splitlines() == [
        f"dated: the parameter 'days': date {needs}",
        f"limited: the parameter 'n': typing.Annotated[int, slice(1, 2, None)] {needs}",
        f"dated: the parameter 'days': date {needs}",
    ]

"""From signatures to schemas, and from JSON to what a function declares."""

# ruff: noqa: UP006, UP007, UP035, UP045  # the old spellings of types must be understood too

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Dict,
    List,
    Literal,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    Union,
    Unpack,
)

import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from agentkit.errors import ConfigurationError
from agentkit.schema.check import compile_schema
from agentkit.schema.conversion import ConversionError
from agentkit.schema.signatures import Signature, read_signature

if TYPE_CHECKING:
    from nowhere import Unresolvable  # type: ignore[import-not-found]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


@dataclass
class Node:
    name: str
    color: Color = Color.RED
    children: list[Node] = field(default_factory=list)


class Address(TypedDict):
    city: str
    at: NotRequired[Point]


class Item(pydantic.BaseModel):
    sku: str
    count: int = pydantic.Field(default=1, ge=1)


class Order(pydantic.BaseModel):
    items: list[Item]


UserId = NewType("UserId", int)
ANY_OF_THREE = {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}
POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer"},
        "y": {"type": "number", "default": 0.0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["x"],
    "additionalProperties": False,
}


def read(fn: Callable[..., Any], decision: bool = False, parameters: dict[str, Any] | None = None) -> Signature:
    return read_signature(fn, has_decision=decision, parameters=parameters, caller=sys._getframe(1))


def of(annotation: Any) -> Signature:
    def f(x: Any) -> None: ...

    f.__annotations__["x"] = annotation
    return read(f)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (object, {}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (List[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (list[Any], {"type": "array", "items": {}}),
        (list[list], {"type": "array", "items": {"type": "array", "items": {}}}),
        (set, {"type": "array", "items": {}, "uniqueItems": True}),
        (frozenset, {"type": "array", "items": {}, "uniqueItems": True}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (tuple, {"type": "array", "items": {}}),
        (tuple[()], {"type": "array", "items": {}, "minItems": 0, "maxItems": 0}),
        (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
        (tuple[Any, ...], {"type": "array", "items": {}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (dict, {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Dict[str, Any], {"type": "object"}),
        (Mapping[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Union[int, Annotated[Union[str, None], "x"]], {**ANY_OF_THREE, "description": "x"}),
        (Union[int, Any], {}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (Annotated[int, {"minimum": 1}, "n"], {"type": "integer", "minimum": 1, "description": "n"}),
        (list[Annotated[int, {"minimum": 1}]], {"type": "array", "items": {"type": "integer", "minimum": 1}}),
        (UserId, {"type": "integer"}),
        (Point, POINT),
        ("Point", POINT),
        ("list[Point]", {"type": "array", "items": POINT}),
        (
            Address,
            {
                "type": "object",
                "properties": {"city": {"type": "string"}, "at": POINT},
                "required": ["city"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_an_annotation_has_a_schema(annotation: Any, schema: dict[str, Any]) -> None:
    parameters = of(annotation).parameters
    assert parameters == {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"],
        "additionalProperties": False,
    }
    compile_schema(parameters, "the parameters")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 2.0, 2),
        (float, 2, 2.0),
        (Color, "blue", Color.BLUE),
        (Level, 2, Level.HIGH),
        (Literal["a", 1], 1.0, 1),
        (list[Color], ["red"], [Color.RED]),
        (set[int], [1, 2], {1, 2}),
        (frozenset[Color], ["red"], frozenset({Color.RED})),
        (tuple[int, Color], [1, "red"], (1, Color.RED)),
        (tuple[Color, ...], ["red", "blue"], (Color.RED, Color.BLUE)),
        (dict[str, Color], {"a": "red"}, {"a": Color.RED}),
        (Optional[Color], None, None),
        (Optional[Color], "red", Color.RED),
        (Union[Point, Color, str], "red", Color.RED),
        (Union[Point, Color, str], "else", "else"),
        (Union[Point, Color, str], {"x": 1}, Point(1)),
        (Point, {"x": 1, "y": 2, "tags": ["a"]}, Point(1, 2.0, ["a"])),
        (Optional[list[Point]], [{"x": 1}], [Point(1)]),
        (
            Node,
            {"name": "a", "children": [{"name": "b", "color": "blue"}]},
            Node("a", children=[Node("b", Color.BLUE)]),
        ),
        (Optional[Node], {"name": "a"}, Node("a")),
        (Address, {"city": "Ulm", "at": {"x": 1}}, {"city": "Ulm", "at": Point(1)}),
        (Item, {"sku": "a"}, Item(sku="a")),
        (Order, {"items": [{"sku": "a", "count": 2}]}, Order(items=[Item(sku="a", count=2)])),
        (list[Item] | None, [{"sku": "a"}], [Item(sku="a")]),
        (Annotated[Color, "the colour"], "red", Color.RED),
        (Any, {"a": [1]}, {"a": [1]}),
    ],
)
def test_valid_json_becomes_what_the_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    signature = of(annotation)
    assert compile_schema(signature.parameters, "the parameters").problems({"x": value}) == []
    bound = signature.bind({"x": value})["x"]
    assert bound == expected
    assert type(bound) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (Point, {"x": "1"}, "/x/x"),
        (Node, {"name": "a", "children": [{"name": 1}]}, "/x/children/0/name"),
        (Item, {"sku": "a", "count": 0}, "/x/count"),
        (Order, {"items": [{}]}, "/x/items/0"),
        (Address, {"city": "a", "zip": "b"}, "/x"),
        (tuple[int, str], [1], "/x"),
        (set[int], [1, 1], "/x"),
        (int, True, "/x"),
    ],
)
def test_invalid_json_is_found_by_the_derived_schema(annotation: Any, value: Any, path: str) -> None:
    found = compile_schema(of(annotation).parameters, "the parameters").problems({"x": value})
    assert [problem["path"] for problem in found] == [path]


def test_a_type_that_contains_itself_goes_to_defs() -> None:
    def f(a: Node, b: list[Node]) -> None: ...

    parameters = read(f).parameters
    assert list(parameters["$defs"]) == ["Node"]
    assert parameters["properties"]["a"] == {"$ref": "#/$defs/Node"}


def test_pydantic_models_of_one_name_do_not_collide() -> None:
    def twin() -> type[pydantic.BaseModel]:
        class Item(pydantic.BaseModel):
            other: bool

        class Basket(pydantic.BaseModel):
            items: list[Item]

        return Basket

    def f(a: Any, b: Any) -> None: ...

    f.__annotations__.update(a=Order, b=twin())
    schema = compile_schema(read(f).parameters, "the parameters")
    assert schema.problems({"a": {"items": [{"sku": "a"}]}, "b": {"items": [{"other": True}]}}) == []
    assert schema.problems({"a": {"items": [{"other": True}]}, "b": {"items": []}}) != []


def test_defaults_that_are_no_json_are_shown_as_such() -> None:
    def f(a: Point = Point(1), b: set[str] = {"b", "a"}, c: tuple[Color, ...] = (Color.RED,)) -> None: ...  # noqa: B006, B008

    shown = {name: schema["default"] for name, schema in read(f).parameters["properties"].items()}
    assert shown == {"a": {"x": 1, "y": 0.0, "tags": []}, "b": ["a", "b"], "c": ["red"]}


def test_defaults_are_in_the_schema_and_not_required() -> None:
    def f(a, b: int = 3, c: Color = Color.BLUE, d: Any = object(), *, e: bool) -> None: ...  # type: ignore[no-untyped-def]  # noqa: B008

    parameters = read(f).parameters
    assert parameters["required"] == ["a", "e"]
    assert parameters["properties"]["a"] == {}
    assert parameters["properties"]["b"] == {"type": "integer", "default": 3}
    assert parameters["properties"]["c"]["default"] == "blue"
    assert "default" not in parameters["properties"]["d"]


def test_a_default_of_none_allows_null() -> None:
    def f(a: Color = None) -> None: ...  # type: ignore[assignment]

    signature = read(f)
    assert compile_schema(signature.parameters, "p").problems({"a": None}) == []
    assert signature.bind({"a": "red"}) == {"a": Color.RED}
    assert signature.bind({}) == {}


def test_ctx_and_a_declared_decision_are_no_parameters() -> None:
    def f(a: int, ctx: Unresolvable, decision: Unresolvable) -> Unresolvable: ...

    signature = read(f, decision=True)
    assert list(signature.parameters["properties"]) == ["a"]
    assert signature.wants_ctx
    assert signature.wants_decision


def test_decision_is_an_ordinary_parameter_where_none_is_declared() -> None:
    def f(decision: str) -> None: ...

    signature = read(f)
    assert list(signature.parameters["properties"]) == ["decision"]
    assert not signature.wants_decision


def test_keyword_arguments_open_the_schema() -> None:
    def f(a: int, **rest: Any) -> None: ...

    assert read(f).parameters["additionalProperties"] is True


@pytest.mark.parametrize(
    ("rest", "schema"),
    [
        (int, {"type": "integer"}),
        (Annotated[str, "more"], {"type": "string", "description": "more"}),
        (list, {"type": "array", "items": {}}),
        (Any, True),
    ],
)
def test_the_type_of_keyword_arguments_is_in_the_schema(rest: Any, schema: Any) -> None:
    def f(a: int, **rest: Any) -> None: ...

    f.__annotations__["rest"] = rest
    assert read(f).parameters["additionalProperties"] == schema


def test_keyword_arguments_are_converted() -> None:
    def f(a: int, **rest: Color) -> None: ...

    signature = read(f)
    assert signature.bind({"a": 1, "b": "red", "rest": "blue"}) == {"a": 1, "b": Color.RED, "rest": Color.BLUE}
    assert compile_schema(signature.parameters, "p").problems({"a": 1, "b": "green"})[0]["path"] == "/b"


class Options(TypedDict, total=False):
    color: Color
    at: Required[Point]


def test_keyword_arguments_of_a_typed_dict_are_named() -> None:
    def f(a: int, **options: Unpack[Options]) -> None: ...

    signature = read(f)
    assert list(signature.parameters["properties"]) == ["a", "color", "at"]
    assert signature.parameters["required"] == ["a", "at"]
    assert signature.parameters["additionalProperties"] is False
    assert signature.bind({"a": 1, "at": {"x": 2}, "color": "red"}) == {"a": 1, "at": Point(2), "color": Color.RED}


def test_a_class_local_to_a_function_resolves() -> None:
    @dataclass
    class Local:
        n: int

    def f(x: Local) -> None: ...

    assert read(f).bind({"x": {"n": 1}}) == {"x": Local(1)}


def test_a_class_local_to_the_function_around_resolves_wherever_the_tool_is_declared() -> None:
    @dataclass
    class Local:
        n: int

    class Desk:
        def f(self, x: Local) -> None: ...

    def f(x: Local, more: list[Local]) -> None: ...

    for fn in (f, Desk().f):
        assert declared_elsewhere(fn).bind({"x": {"n": 1}}) == {"x": Local(1)}


def declared_elsewhere(fn: Callable[..., Any]) -> Signature:
    return read(fn)


Rows = TypeAliasType("Rows", "list[Rows] | dict[str, Rows] | Color | None")
Pairs = TypeAliasType("Pairs", list[tuple[int, int]])


def test_an_alias_that_contains_itself_goes_to_defs() -> None:
    def f(a: Rows, b: list[Rows], c: Pairs) -> None: ...

    signature = read(f)
    assert signature.parameters["properties"]["a"] == {"$ref": "#/$defs/Rows"}
    assert signature.parameters["properties"]["b"] == {"type": "array", "items": {"$ref": "#/$defs/Rows"}}
    assert list(signature.parameters["$defs"]) == ["Rows"]
    schema = compile_schema(signature.parameters, "p")
    assert schema.problems({"a": ["red", {"x": [None]}], "b": [], "c": [[1, 2]]}) == []
    assert schema.problems({"a": [{"x": [1]}], "b": [], "c": []}) != []
    assert signature.bind({"a": ["red", {"x": ["blue"]}]}) == {"a": [Color.RED, {"x": [Color.BLUE]}]}


@dataclass
class Span:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.low < 0:
            raise KeyError(self.low)


@pytest.mark.parametrize(
    ("annotation", "value", "problems"),
    [
        (Span, {"low": 2, "high": 1}, {"/x": "low is above high"}),
        (list[Span], [{"low": 1, "high": 1}, {"low": 2, "high": 1}], {"/x/1": "low is above high"}),
        (dict[str, Span], {"a/b": {"low": 2, "high": 1}}, {"/x/a~1b": "low is above high"}),
        (tuple[int, Span], [1, {"low": 2, "high": 1}], {"/x/1": "low is above high"}),
        (Optional[Span], {"low": 2, "high": 1}, {"/x": "low is above high"}),
        (Span, {"low": -1, "high": 1}, {"/x": "cannot be checked: a validator failed with KeyError"}),
        (set[Any], [[]], {"/x": "cannot be checked: a validator failed with TypeError"}),
    ],
)
def test_what_a_type_refuses_is_a_problem_at_its_place(annotation: Any, value: Any, problems: dict[str, str]) -> None:
    with pytest.raises(ConversionError) as caught:
        of(annotation).bind({"x": value})
    assert {problem["path"]: problem["message"] for problem in caught.value.problems} == problems


def test_an_alternative_that_refuses_a_value_leaves_it_to_the_next() -> None:
    signature = of(Union[Span, dict])
    assert signature.bind({"x": {"low": 2, "high": 1}}) == {"x": {"low": 2, "high": 1}}
    assert signature.bind({"x": {"low": 1, "high": 1}}) == {"x": Span(1, 1)}


class Opaque:
    pass


class Callable_:
    def __call__(self, x: Color) -> None: ...

    def method(self, x: Color) -> None: ...


@pytest.mark.parametrize("fn", [Callable_(), Callable_().method])
def test_bound_methods_and_callable_objects_are_read(fn: Callable[..., Any]) -> None:
    assert read(fn).bind({"x": "red"}) == {"x": Color.RED}


def _positional(x: int, /) -> None: ...
def _star(*x: int) -> None: ...


@pytest.mark.parametrize(
    ("fn", "message"), [(_positional, "x cannot be passed by name"), (_star, r"\*x cannot be passed by name")]
)
def test_what_cannot_be_passed_by_name_is_refused(fn: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(fn)


@pytest.mark.parametrize(
    "annotation",
    [
        Opaque,
        type[int],
        Callable[[], int],
        Annotated[int, msgspec.Meta(ge=1)],
        "Unresolvable",
        "1 +",
        Literal[b"a"],
        enum.Enum("E", {"A": (1,)}),
    ],
)
def test_an_unsupported_annotation_is_a_clear_error(annotation: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        of(annotation)
    for part in ("of.<locals>.f", "'x'", "give parameters="):
        assert part in caught.value.message


@dataclass
class Holder:
    data: Opaque


def test_an_unsupported_member_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"in Holder\.data: Opaque is not supported"):
        of(list[Holder])


def test_given_parameters_replace_the_derived_ones_and_annotations_still_convert() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ["red"]}, "y": {}}}

    def f(x: Color, y: Opaque) -> None: ...

    signature = read(f, parameters=schema)
    assert signature.parameters == schema
    assert signature.bind({"x": "red", "y": 1}) == {"x": Color.RED, "y": 1}


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"x": {}, "z": {}}, "lists 'z', which the function does not take"),
        ({}, "does not list 'x', which the function needs"),
        ({"x": {}, "ctx": {}}, "lists 'ctx', which agentkit passes itself"),
    ],
)
def test_explicit_parameters_must_fit_the_function(properties: dict[str, Any], message: str) -> None:
    def f(x: int, y: int = 0, ctx: Any = None) -> None: ...

    with pytest.raises(ConfigurationError, match=message):
        read(f, parameters={"type": "object", "properties": properties})


def test_a_type_of_defs_is_described_beside_its_reference() -> None:
    def f(root: Node, other: Node = None) -> None:  # type: ignore[assignment]
        """Walks.

        Args:
            root: Where to begin.
            other: Where to end.
        """

    properties = read(f).parameters["properties"]
    assert properties["root"] == {"anyOf": [{"$ref": "#/$defs/Node"}], "description": "Where to begin."}
    assert properties["other"] == {
        "anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}],
        "default": None,
        "description": "Where to end.",
    }


def test_an_optional_parameter_with_the_default_none_lists_null_once() -> None:
    def f(a: Optional[str] = None, b: int | str | None = None, c: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    string, null = {"type": "string"}, {"type": "null"}
    assert read(f).parameters["properties"] == {
        "a": {"anyOf": [string, null], "default": None},
        "b": {"anyOf": [{"type": "integer"}, string, null], "default": None},
        "c": {"anyOf": [string, null], "default": None},
    }

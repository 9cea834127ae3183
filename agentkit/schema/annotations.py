"""Reads type annotations: the JSON Schema of each, and the conversion from JSON to the Python value.

Knows types only: functions and their docstrings are the business of `agentkit.schema.signatures`. pydantic's models are
read where the application has imported it, which is never imported from here.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from agentkit.core import strictjson
from agentkit.core.messages import Json
from agentkit.schema.check import Schema, compile_schema

__all__ = ["NULL", "Convert", "Kind", "Types", "UnsupportedError", "json_default"]

Convert = Callable[[Any], Any]


class UnsupportedError(Exception):
    """Why an annotation has no JSON Schema."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an annotation means: the schema of its JSON, and the conversion where JSON's value is not yet Python's."""

    schema: Json
    convert: Convert | None = None


NULL = Kind({"type": "null"})
_SCALARS: dict[Any, Kind] = {
    str: Kind({"type": "string"}),
    bool: Kind({"type": "boolean"}),
    int: Kind({"type": "integer"}, lambda v: int(v) if isinstance(v, float) else v),
    float: Kind({"type": "number"}, lambda v: float(v) if isinstance(v, int) else v),
    type(None): NULL,
}
_LISTS: dict[Any, type] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    frozenset: frozenset,
}
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


class Types:
    """Reads annotations. `defs` collects the `$defs` of types that contain themselves, and of pydantic's models.

    `scope`: the names that annotations in strings may use.
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.defs: Json = {}
        self._scope = scope
        self._open: dict[type, tuple[str, _Record]] = {}
        self._recursive: set[type] = set()
        self._done: dict[type, Kind] = {}

    def resolve(self, annotation: Any) -> Any:
        """Evaluate the strings in one annotation; not all of a function at once: `ctx` and the result may fail.

        Raises UnsupportedError.
        """
        return self._hints(types.SimpleNamespace(__annotations__={"it": annotation}))["it"]

    def _hints(self, owner: Any) -> dict[str, Any]:
        names = dict(self._scope)
        try:
            if not isinstance(owner, type):
                return typing.get_type_hints(owner, names, include_extras=True)
            names.update(vars(sys.modules[owner.__module__]))  # a class means the names of its own module
            return typing.get_type_hints(owner, localns=names, include_extras=True)
        except Exception as error:  # annotations are code: evaluating them may raise anything
            hint = " (define it at module level, not under TYPE_CHECKING)" if isinstance(error, NameError) else ""
            raise UnsupportedError(f"its annotation cannot be evaluated: {error}{hint}") from error

    def kind(self, t: Any) -> Kind:
        """Find the schema and the conversion of a type. Raises UnsupportedError where it has no JSON Schema."""
        origin, args = typing.get_origin(t), typing.get_args(t)
        if origin is Annotated:
            return self._annotated(args)
        if t is Any or t is object:
            return Kind({})
        if t is None:
            return NULL
        if origin is Literal:
            return _literal(args)
        if origin is Union or origin is types.UnionType:
            return self.choice([self.kind(arg) for arg in args])
        container = origin or t
        if container in _LISTS:
            return self._list(_LISTS[container], args)
        if container is tuple:
            return self._tuple(t, args)
        if container in _DICTS:
            return self._dict(args)
        if isinstance(t, type) and origin is None:
            return self._class(t)
        for alias in ("__supertype__", "__value__"):  # NewType, and the `type` statement
            if hasattr(t, alias):
                return self.kind(getattr(t, alias))
        raise UnsupportedError(f"{_name(t)} is not supported")

    def _annotated(self, args: tuple[Any, ...]) -> Kind:
        kind = self.kind(args[0])
        schema = dict(kind.schema)
        for extra in args[1:]:
            if isinstance(extra, str):
                schema["description"] = extra
            elif isinstance(extra, dict):
                schema.update(extra)
            elif isinstance(getattr(extra, "description", None), str):
                schema["description"] = extra.description  # pydantic's Field and its like
        return Kind(schema, kind.convert)

    def choice(self, kinds: list[Kind]) -> Kind:
        """Join alternatives."""
        if any(kind.schema == {} for kind in kinds):
            return Kind({})
        convert = _Choice(kinds, self.defs) if any(kind.convert for kind in kinds) else None
        return Kind({"anyOf": [kind.schema for kind in kinds]}, convert)

    def _list(self, make: type, args: tuple[Any, ...]) -> Kind:
        item = self.kind(args[0]) if args else Kind({})
        schema: Json = {"type": "array"}
        if item.schema:
            schema["items"] = item.schema
        if make is not list:
            schema["uniqueItems"] = True
        return Kind(schema, None if make is list and not item.convert else _each(make, item.convert))

    def _tuple(self, t: Any, args: tuple[Any, ...]) -> Kind:
        if t is tuple or t is typing.Tuple:  # noqa: UP006  # the old spelling is one of those to recognise
            return Kind({"type": "array"}, _each(tuple, None))
        if len(args) == 2 and args[1] is Ellipsis:
            item = self.kind(args[0])
            return Kind({"type": "array", "items": item.schema}, _each(tuple, item.convert))
        kinds = [self.kind(arg) for arg in args]
        schema: Json = {"type": "array", "minItems": len(kinds), "maxItems": len(kinds)}
        if kinds:
            schema["prefixItems"] = [kind.schema for kind in kinds]

        def convert(value: Any) -> Any:
            if not isinstance(value, list):
                return value
            return tuple(k.convert(v) if k.convert else v for k, v in zip(kinds, value, strict=True))

        return Kind(schema, convert)

    def _dict(self, args: tuple[Any, ...]) -> Kind:
        if args and args[0] is not str and args[0] is not Any:
            raise UnsupportedError(f"the keys of a JSON object are str, not {_name(args[0])}")
        item = self.kind(args[1]) if args else Kind({})
        schema: Json = {"type": "object"}
        if item.schema:
            schema["additionalProperties"] = item.schema
        each = item.convert
        if each is None:
            return Kind(schema)
        return Kind(schema, lambda v: {k: each(x) for k, x in v.items()} if isinstance(v, dict) else v)

    def _class(self, cls: type) -> Kind:
        if cls in _SCALARS:
            return _SCALARS[cls]
        if issubclass(cls, Enum):
            return _enum(cls)
        base_model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
        if base_model is not None and issubclass(cls, base_model):
            return self._model(cls)
        if issubclass(cls, dict) and hasattr(cls, "__total__"):
            return self._record(cls, dict, self._keys)
        if dataclasses.is_dataclass(cls):
            return self._record(cls, cls, self._fields)
        raise UnsupportedError(f"{_name(cls)} is not supported")

    def _record(self, cls: type, make: Callable[..., Any], members: Callable[[type], dict[str, _Member]]) -> Kind:
        """Read a class with named, typed members. One that contains itself goes to `$defs`; the others are inline."""
        if cls in self._open:
            self._recursive.add(cls)
            name, record = self._open[cls]
            return Kind({"$ref": f"#/$defs/{name}"}, record)
        if cls in self._done:
            return self._done[cls]
        name, record = self._free_name(cls.__name__), _Record(make)
        self._open[cls] = name, record
        try:
            properties: Json = {}
            required = []
            for key, member in members(cls).items():
                try:
                    kind = self.kind(member.annotation)
                except UnsupportedError as error:
                    raise UnsupportedError(f"in {cls.__name__}.{key}: {error}") from error
                properties[key] = {**kind.schema, **member.extra}
                if kind.convert:
                    record.converts[key] = kind.convert
                if member.required:
                    required.append(key)
        finally:
            del self._open[cls]
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        if cls in self._recursive:
            self.defs[name] = schema
            schema = {"$ref": f"#/$defs/{name}"}
        self._done[cls] = Kind(schema, None if make is dict and not record.converts else record)
        return self._done[cls]

    def _fields(self, cls: type) -> dict[str, _Member]:
        hints = self._hints(cls)
        members = {}
        for f in dataclasses.fields(cls):
            if f.init:
                required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
                extra = {} if f.default is dataclasses.MISSING else json_default(f.default)
                members[f.name] = _Member(hints[f.name], required, extra)
        return members

    def _keys(self, cls: Any) -> dict[str, _Member]:
        members = {}
        for key, hint in self._hints(cls).items():
            # Under `from __future__ import annotations` only the hint itself shows NotRequired.
            required, origin = key in cls.__required_keys__, typing.get_origin(hint)
            if origin is Required or origin is NotRequired:
                required, hint = origin is Required, typing.get_args(hint)[0]
            members[key] = _Member(hint, required, {})
        return members

    def _model(self, cls: Any) -> Kind:
        prefix, n = "", 1
        while True:
            schema = cls.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
            defs = {prefix + name: value for name, value in schema.pop("$defs", {}).items()}
            taken = {**{name: None for name, _ in self._open.values()}, **self.defs}
            if all(taken.get(name, value) == value for name, value in defs.items()):
                break
            prefix, n = f"{cls.__name__}{n}_", n + 1
        self.defs.update(defs)
        return Kind(schema, cls.model_validate)

    def _free_name(self, name: str) -> str:
        taken = {*self.defs, *(name for name, _ in self._open.values())}
        return next(n for i in range(1, len(taken) + 3) if (n := name if i == 1 else f"{name}{i}") not in taken)


def json_default(value: Any) -> Json:
    """Return `{"default": value}`, or nothing where `value` is no JSON."""
    try:
        return {"default": strictjson.plain(value.value if isinstance(value, Enum) else value)}
    except (TypeError, ValueError):
        return {}


# -- conversions


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a dataclass or TypedDict; `extra` joins its schema."""

    annotation: Any
    required: bool
    extra: Json


class _Record:
    """Makes a dataclass or TypedDict of an object. `converts` is filled while the class is still being read."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.converts: dict[str, Convert] = {}

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return self._make(**{k: self.converts[k](v) if k in self.converts else v for k, v in value.items()})


class _Choice:
    """Converts by the first alternative whose schema the value satisfies."""

    def __init__(self, kinds: list[Kind], defs: Json) -> None:
        self._kinds = kinds
        self._defs = defs
        self._schemas: list[Schema] | None = None

    def __call__(self, value: Any) -> Any:
        if self._schemas is None:  # not sooner: `defs` is complete only when the whole signature has been read
            self._schemas = [compile_schema({**k.schema, "$defs": self._defs}, "an alternative") for k in self._kinds]
        for kind, schema in zip(self._kinds, self._schemas, strict=True):
            if not schema.problems(value):
                return kind.convert(value) if kind.convert else value
        return value


def _each(make: type, item: Convert | None) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return make(map(item, value) if item else value)

    return convert


def _literal(values: tuple[Any, ...]) -> Kind:
    return Kind(_constants([v.value if isinstance(v, Enum) else v for v in values]), _back_to(values))


def _enum(cls: type[Enum]) -> Kind:
    members = tuple(cls)
    return Kind(_constants([member.value for member in members]), _back_to(members))


def _constants(values: list[Any]) -> Json:
    for value in values:
        if value is not None and type(value) not in (str, int, float, bool):
            raise UnsupportedError(f"{value!r} is no JSON string, number, boolean or null")
    kinds = {_SCALARS[type(value)].schema["type"] for value in values}
    return {"type": kinds.pop(), "enum": values} if len(kinds) == 1 else {"enum": values}


def _back_to(choices: tuple[Any, ...]) -> Convert:
    """Make the conversion of a JSON constant to the declared one: an Enum member, or 1 where the JSON has 1.0."""

    def convert(value: Any) -> Any:
        for choice in choices:
            constant = choice.value if isinstance(choice, Enum) else choice
            if constant == value and isinstance(constant, bool) == isinstance(value, bool):
                return choice
        return value

    return convert


def _name(t: Any) -> str:
    return t.__qualname__ if isinstance(t, type) and not typing.get_args(t) else str(t)

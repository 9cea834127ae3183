"""Reads type annotations: the JSON Schema of each, and the conversion from JSON to the Python value.

Read here is what JSON itself has: texts, numbers, lists, tuples, objects, constants, alternatives, and the dataclasses
and TypedDicts made of them. All other types, and all constraints, are pydantic's business
(`agentkit.schema.pydantic_types`), which is imported where an annotation needs it. What an annotation means depends on
the annotation alone: where pydantic is missing, one that needs it is refused.

Knows types only: functions and their docstrings are the business of `agentkit.schema.signatures`.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Required, Union

import msgspec

from agentkit.core import strictjson
from agentkit.core.messages import Json
from agentkit.schema.check import Schema, compile_schema
from agentkit.schema.conversion import (
    ChoiceConversion,
    Convert,
    Deferred,
    RecordConversion,
    constant,
    each,
    members,
    values,
)
from agentkit.schema.portable import accepted

if TYPE_CHECKING:
    from agentkit.schema.pydantic_types import Member

__all__ = [
    "NULL",
    "Kind",
    "MissingExtraError",
    "Types",
    "UnsupportedError",
    "is_field",
    "json_default",
    "note_of",
    "type_name",
]


class UnsupportedError(Exception):
    """Why an annotation has no JSON Schema."""


class MissingExtraError(UnsupportedError):
    """The annotation needs pydantic, which is not installed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an annotation means: the schema of its JSON, and the conversion where JSON's value is not yet Python's.

    `foreign`: whether pydantic reads it, or something in it.
    """

    schema: Json
    convert: Convert | None = None
    foreign: bool = False


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
        self._open: dict[Any, tuple[str, Convert]] = {}
        self._recursive: set[Any] = set()
        self._done: dict[Any, Kind] = {}

    def resolve(self, annotation: Any, module: str | None = None) -> Any:
        """Evaluate the strings in one annotation; not all of a function at once: `ctx` and the result may fail.

        `module`: the module where the annotation stands, if not in the function's. Raises UnsupportedError.
        """
        return self._hints(types.SimpleNamespace(__annotations__={"it": annotation}), module)["it"]

    def _hints(self, owner: Any, module: str | None = None) -> dict[str, Any]:
        names = dict(self._scope)
        try:
            if not isinstance(owner, type):
                names.update(vars(sys.modules[module]) if module in sys.modules else {})
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
            return self._annotated(t, args)
        if t is Any or t is object:
            return Kind({})
        if t is None:
            return NULL
        if origin is Literal:
            return _literal(args)
        if origin is Union or origin is types.UnionType:
            return self._union(t, args)
        container = origin or t
        if container in _LISTS:
            return self._list(_LISTS[container], args)
        if container is tuple:
            return self._tuple(t, args)
        if container in _DICTS and (not args or args[0] is str or args[0] is Any):
            return self._dict(args)
        if isinstance(t, type) and origin is None:
            return self._class(t)
        if hasattr(t, "__supertype__"):  # NewType
            return self.kind(t.__supertype__)
        if hasattr(t, "__value__") and origin is None and not getattr(t, "__type_params__", ()):
            return self._alias(t)
        return self._foreign(t)

    def _annotated(self, t: Any, args: tuple[Any, ...]) -> Kind:
        if any(isinstance(extra, msgspec.Meta) for extra in args[1:]):
            raise UnsupportedError("msgspec.Meta is not read: write pydantic's Field, or a dict of JSON Schema")
        notes = [note_of(extra) for extra in args[1:]]
        kind = self._foreign(t) if None in notes else self.kind(args[0])
        return dataclasses.replace(
            kind, schema={**kind.schema, **{k: v for note in notes for k, v in (note or {}).items()}}
        )

    def _foreign(self, t: Any) -> Kind:
        """Have pydantic read a type."""
        schema, convert, defs = self._pydantic(t).read(
            t, self._scope, {name for name, _ in self._open.values()}, self.defs
        )
        self.defs.update(defs)
        return Kind(schema, convert, foreign=True)

    def member(self, name: str, annotation: Any, default: Any) -> Member:
        """Have pydantic read a parameter that is declared by a `Field`, as the member of an object."""
        member: Member = self._pydantic(annotation).read_member(name, annotation, default, self._scope, self.defs)
        return member

    @staticmethod
    def _pydantic(t: Any) -> Any:
        try:
            # Not at the top: it needs the extra, and takes a tenth of a second to import.
            from agentkit.schema import pydantic_types
        except ImportError as error:
            text = f"{type_name(t)} needs pydantic, which is not installed: pip install 'agentkit-celery[pydantic]'"
            raise MissingExtraError(text) from error
        return pydantic_types

    def _union(self, t: Any, args: tuple[Any, ...]) -> Kind:
        kinds = [self.kind(arg) for arg in args]
        several = sum(kind is not NULL for kind in kinds) > 1
        # Which of several types a value means is a question to whom knows them all.
        return self._foreign(t) if several and any(kind.foreign for kind in kinds) else self.choice(kinds)

    def choice(self, kinds: list[Kind]) -> Kind:
        """Join alternatives."""
        if any(kind.schema == {} for kind in kinds):
            return Kind({})
        foreign = any(kind.foreign for kind in kinds)
        schema = {"anyOf": [kind.schema for kind in kinds]}
        if not any(kind.convert for kind in kinds):
            return Kind(schema, None, foreign)

        def schemas() -> list[Schema]:
            return [compile_schema(accepted({**k.schema, "$defs": self.defs}), "an alternative") for k in kinds]

        return Kind(schema, ChoiceConversion([kind.convert for kind in kinds], schemas), foreign)

    def _list(self, make: type, args: tuple[Any, ...]) -> Kind:
        item = self.kind(args[0]) if args else Kind({})
        schema: Json = {"type": "array", "items": item.schema}
        if make is not list:
            schema["uniqueItems"] = True
        return Kind(schema, None if make is list and not item.convert else each(make, item.convert), item.foreign)

    def _tuple(self, t: Any, args: tuple[Any, ...]) -> Kind:
        if t is tuple or t is typing.Tuple:  # noqa: UP006  # the old spelling is one of those to recognise
            return Kind({"type": "array"}, each(tuple, None))
        if len(args) == 2 and args[1] is Ellipsis:
            item = self.kind(args[0])
            return Kind({"type": "array", "items": item.schema}, each(tuple, item.convert), item.foreign)
        kinds = [self.kind(arg) for arg in args]
        schema: Json = {"type": "array", "minItems": len(kinds), "maxItems": len(kinds)}
        if kinds:
            schema["prefixItems"] = [kind.schema for kind in kinds]
        return Kind(schema, members([kind.convert for kind in kinds]), any(kind.foreign for kind in kinds))

    def _dict(self, args: tuple[Any, ...]) -> Kind:
        item = self.kind(args[1]) if args else Kind({})
        schema: Json = {"type": "object"}
        if item.schema:
            schema["additionalProperties"] = item.schema
        return Kind(schema, values(item.convert) if item.convert else None, item.foreign)

    def _class(self, cls: type) -> Kind:
        if cls in _SCALARS:
            return _SCALARS[cls]
        if issubclass(cls, Enum):
            return _enum(cls)
        is_dict = issubclass(cls, dict) and hasattr(cls, "__total__")
        if not is_dict and not dataclasses.is_dataclass(cls):
            return self._foreign(cls)
        if hasattr(cls, "__pydantic_validator__") or hasattr(cls, "__pydantic_config__"):
            return self._foreign(cls)
        return self._record(cls, dict if is_dict else cls, self._keys if is_dict else self._fields)

    def _record(self, cls: Any, make: Callable[..., Any], read: Callable[[Any], dict[str, _Member]]) -> Kind:
        """Read a class with named, typed members. One that contains itself goes to `$defs`; the others are inline."""
        if cls in self._open or cls in self._done:
            return self._seen(cls)
        listed = read(cls)
        if any(is_field(m.default) or _names_or_fills(m.annotation) for m in listed.values()):
            return self._foreign(cls)
        record, foreign = RecordConversion(make), False
        properties: Json = {}
        with self._opened(cls, record) as name:
            for key, member in listed.items():
                try:
                    kind = self.kind(member.annotation)
                except UnsupportedError as error:
                    raise type(error)(f"in {cls.__name__}.{key}: {error}") from error
                properties[key] = {**kind.schema, **json_default(member.default)}
                foreign = foreign or kind.foreign
                if kind.convert:
                    record.converts[key] = kind.convert
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [key for key, member in listed.items() if member.required]
        if required:
            schema["required"] = required
        return self._close(cls, name, Kind(schema, None if make is dict and not record.converts else record, foreign))

    def _alias(self, alias: Any) -> Kind:
        """Read a named alias, of the `type` statement. One that contains itself goes to `$defs`."""
        if alias in self._open or alias in self._done:
            return self._seen(alias)
        deferred = Deferred()
        with self._opened(alias, deferred) as name:
            kind = self.kind(self.resolve(alias.__value__, getattr(alias, "__module__", None)))
        deferred.convert = kind.convert
        return self._close(alias, name, kind)

    @contextmanager
    def _opened(self, t: Any, convert: Convert) -> Iterator[str]:
        """Keep a type open while it is read: inside, it refers to itself by the name that is yielded."""
        taken = {*self.defs, *(name for name, _ in self._open.values())}
        base = t.__name__
        name = next(n for i in range(1, len(taken) + 3) if (n := base if i == 1 else f"{base}{i}") not in taken)
        self._open[t] = name, convert
        try:
            yield name
        finally:
            del self._open[t]

    def _seen(self, t: Any) -> Kind:
        """Return what is known of a type that was read before, or is still being read."""
        if t in self._done:
            return self._done[t]
        self._recursive.add(t)
        name, convert = self._open[t]
        return Kind({"$ref": f"#/$defs/{name}"}, convert)

    def _close(self, t: Any, name: str, kind: Kind) -> Kind:
        """Remember what a type means; one that contains itself goes to `$defs` by its name."""
        if t in self._recursive:
            self.defs[name] = kind.schema
            kind = dataclasses.replace(kind, schema={"$ref": f"#/$defs/{name}"})
        self._done[t] = kind
        return kind

    def _fields(self, cls: Any) -> dict[str, _Member]:
        hints = self._hints(cls)
        found = {}
        for f in dataclasses.fields(cls):
            if f.init:
                required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
                found[f.name] = _Member(hints[f.name], required, f.default)
        return found

    def _keys(self, cls: Any) -> dict[str, _Member]:
        found = {}
        for key, hint in self._hints(cls).items():
            # Under `from __future__ import annotations` only the hint itself shows NotRequired.
            required, origin = key in cls.__required_keys__, typing.get_origin(hint)
            if origin is Required or origin is NotRequired:
                required, hint = origin is Required, typing.get_args(hint)[0]
            found[key] = _Member(hint, required, dataclasses.MISSING)
        return found


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a dataclass or TypedDict; `default` is MISSING where it has none that could be shown."""

    annotation: Any
    required: bool
    default: Any


def note_of(extra: Any) -> Json | None:
    """Return what the metadata of an `Annotated` adds to the schema; None where it is not ours to read."""
    if isinstance(extra, str):
        return {"description": extra}
    if isinstance(extra, dict):
        return extra
    documentation = getattr(extra, "documentation", None)  # PEP 727's Doc
    return {"description": documentation} if isinstance(documentation, str) else None


def is_field(*metadata: Any) -> bool:
    """Tell whether pydantic's `Field` is among `metadata`."""
    field = getattr(sys.modules.get("pydantic.fields"), "FieldInfo", ())
    return any(isinstance(each, field) for each in metadata)


def _names_or_fills(annotation: Any) -> bool:
    """Tell whether a member has a `Field` that gives it another name or a default: only its class can heed that."""
    metadata = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    fields = [extra for extra in metadata if is_field(extra)]
    return any(f.alias is not None or f.validation_alias is not None or not f.is_required() for f in fields)


def json_default(value: Any) -> Json:
    """Return `{"default": value}`, or nothing where `value` has no JSON."""
    try:
        return {"default": strictjson.plain(msgspec.to_builtins(value, order="deterministic", enc_hook=_plain))}
    except (TypeError, ValueError):
        return {}


def _plain(value: Any) -> Any:
    """Find the JSON of what msgspec does not know. Raises TypeError where there is none."""
    if hasattr(type(value), "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, PurePath) or type(value).__module__.startswith("pydantic."):
        return str(value)
    raise TypeError


def _literal(constants: tuple[Any, ...]) -> Kind:
    return Kind(_constants([v.value if isinstance(v, Enum) else v for v in constants]), constant(constants))


def _enum(cls: type[Enum]) -> Kind:
    return Kind(_constants([member.value for member in cls]), constant(tuple(cls)))


def _constants(constants: list[Any]) -> Json:
    for value in constants:
        if value is not None and type(value) not in (str, int, float, bool):
            raise UnsupportedError(f"{value!r} is no JSON string, number, boolean or null")
    kinds = {_SCALARS[type(value)].schema["type"] for value in constants}
    return {"type": kinds.pop(), "enum": constants} if len(kinds) == 1 else {"enum": constants}


def type_name(t: Any) -> str:
    """Name a type in an error."""
    return t.__qualname__ if isinstance(t, type) and not typing.get_args(t) else str(t)

"""Reads a function: the JSON Schema of its parameters, with their descriptions from its docstring.

What a single annotation means is the business of `agentkit.schema.annotations`. This module knows neither tools, models
nor runs.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Unpack

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError
from agentkit.schema.annotations import NULL, Kind, MissingExtraError, Types, UnsupportedError, is_field, json_default
from agentkit.schema.check import pointer, problem
from agentkit.schema.conversion import ConversionError, Convert, at
from agentkit.schema.docstrings import read_docstring
from agentkit.schema.portable import accepted, portable

__all__ = ["Signature", "read_signature"]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Argument:
    """What one parameter takes of the JSON arguments: one property of them, or several where it is `**kwargs`.

    `properties`: the schema of each, by its name in JSON, which a Field may call otherwise than the function does.
    `convert` takes an object of those that were sent, and returns keyword arguments; None: they are taken as they are.
    `others`: the schema of further properties, all of which it takes too; None: it takes none.
    """

    name: str
    properties: Json
    required: Sequence[str] = ()
    convert: Convert | None = None
    others: Json | bool | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's arguments. `parameters`: their JSON Schema, as it is shown. `accepts`: as they are checked."""

    parameters: Json
    accepts: Json
    wants_ctx: bool
    wants_decision: bool
    description: str = ""
    arguments: Sequence[Argument] = field(default=(), repr=False)

    def bind(self, args: Json) -> Json:
        """Convert JSON arguments, which satisfy `accepts`, to the function's keyword arguments.

        What `args` lacks, Python's defaults or a Field's fill in. Raises ConversionError for what a type refuses.
        """
        kwargs: Json = {}
        rest = dict(args)
        problems = []
        names = {argument.name for argument in self.arguments if argument.others is None}
        # The one that takes whatever the others leave, if there is one, is the last.
        for argument in self.arguments:
            taken = [key for key in rest if argument.others is not None or key in argument.properties]
            part = {key: rest.pop(key) for key in taken}
            # Where a Field gives another name in JSON, the function's own would pass by what the Field checks.
            problems += [
                problem(pointer([key]), "is not an argument")
                for key in part.keys() & names - argument.properties.keys()
            ]
            try:
                kwargs.update(argument.convert(part) if argument.convert else part)
            except ConversionError as error:
                problems += error.problems
        if problems:
            raise ConversionError(problems)
        return {**kwargs, **rest}


def read_signature(
    fn: Callable[..., Any], *, has_decision: bool, parameters: Json | None, caller: FrameType, skip_first: bool = False
) -> Signature:
    """Read the signature of `fn`; `ctx`, and `decision` where one is declared, are not arguments.

    `parameters`: the schema in place of the derived one, annotations then only convert; None: derive it. `caller`: the
    frame in which the function is declared, whose local names annotations may use. `skip_first`: the first parameter is
    no argument either, but a method's instance or class. Raises ConfigurationError for a function that cannot be called
    with JSON by name, and for names that do not fit `parameters`.
    """
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    try:
        signature = list(inspect.signature(fn).parameters.values())[skip_first:]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} has no signature to read: wrap it in a def") from error
    reserved = {"ctx", "decision"} if has_decision else {"ctx"}
    passed = {p.name for p in signature if p.name in reserved and p.kind in _NAMED}
    documentation = read_docstring(fn)
    reader = _Reader(name, Types(_names_for(fn, caller)), documentation.parameters, lenient=parameters is not None)
    arguments = [reader.argument(p) for p in signature if p.name not in passed]
    if parameters is None:
        schema = _object(arguments, reader.types.defs, name)
    else:
        _check_names(parameters, arguments, passed, name)
        schema = parameters
    wants_decision = has_decision and "decision" in passed
    return Signature(
        portable(schema), accepted(schema), "ctx" in passed, wants_decision, documentation.description, arguments
    )


class _Reader:
    """Reads the parameters of the function `name`. `lenient`: what has no JSON Schema is taken as it is."""

    def __init__(self, name: str, types: Types, descriptions: Mapping[str, str], *, lenient: bool) -> None:
        self.types = types
        self._name = name
        self._descriptions = descriptions
        self._lenient = lenient

    def argument(self, p: inspect.Parameter) -> Argument:
        """Read one parameter. Raises ConfigurationError."""
        if p.kind not in (*_NAMED, p.VAR_KEYWORD):
            star = "*" if p.kind is p.VAR_POSITIONAL else ""
            raise ConfigurationError(
                f"{self._name}: {star}{p.name} cannot be passed by name: make it an ordinary parameter"
            )
        try:
            annotation = p.annotation if p.annotation is p.empty else self.types.resolve(p.annotation)
            if p.kind is p.VAR_KEYWORD:
                return self._rest(p.name, annotation)
            metadata = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()
            if is_field(p.default, *metadata):
                return self._member(p, annotation)
            return self._plain(p, annotation)
        except MissingExtraError as error:
            raise ConfigurationError(f"{self._name}: the parameter {p.name!r}: {error}") from error
        except UnsupportedError as error:
            if self._lenient and p.kind is p.VAR_KEYWORD:
                return Argument(p.name, {}, others=True)
            if self._lenient:
                return Argument(p.name, {p.name: {}}, [p.name] if p.default is p.empty else [])
            raise ConfigurationError(
                f"{self._name}: no JSON Schema can be derived for the parameter {p.name!r}: {error}; "
                "annotate it otherwise, or give parameters="
            ) from error

    def _plain(self, p: inspect.Parameter, annotation: Any) -> Argument:
        kind = Kind({}) if annotation is p.empty else self.types.kind(annotation)
        if p.default is None:
            # `x: int = None` is read as `int | None`, as people mean it and models send it.
            kind = self.types.choice([kind, NULL])
        schema = self._described(p.name, kind.schema)
        if p.default is p.empty:
            return Argument(p.name, {p.name: schema}, [p.name], _by_name(kind.convert))
        return Argument(p.name, {p.name: {**schema, **json_default(p.default)}}, [], _by_name(kind.convert))

    def _member(self, p: inspect.Parameter, annotation: Any) -> Argument:
        member = self.types.member(p.name, annotation, p.default)
        schema = self._described(p.name, member.schema)
        if p.default is not p.empty and not is_field(p.default):
            schema.update(json_default(p.default))
        return Argument(p.name, {member.key: schema}, [member.key] if member.required else [], member.convert)

    def _rest(self, name: str, annotation: Any) -> Argument:
        """Read `**kwargs`: of any names, or with those of a TypedDict (`**kwargs: Unpack[…]`)."""
        if annotation is inspect.Parameter.empty:
            return Argument(name, {}, others=True)
        if typing.get_origin(annotation) is not Unpack:
            kind = self.types.kind(annotation)
            return Argument(name, {}, (), _by_name(kind.convert), self._described(name, kind.schema) or True)
        kind = self.types.kind(typing.get_args(annotation)[0])
        schema = kind.schema if "$ref" not in kind.schema else self.types.defs[kind.schema["$ref"].split("/")[-1]]
        properties = {key: self._described(key, member) for key, member in schema["properties"].items()}
        return Argument(name, properties, schema.get("required", ()), kind.convert)

    def _described(self, name: str, schema: Json) -> Json:
        described = {} if name not in self._descriptions else {"description": self._descriptions[name]}
        return {**described, **schema}


def _by_name(convert: Convert | None) -> Convert | None:
    """Make the conversion of an object all of whose members have the same conversion."""
    return None if convert is None else lambda part: {key: at(key, convert, value) for key, value in part.items()}


def _object(arguments: Sequence[Argument], defs: Json, name: str) -> Json:
    """Write the schema of the arguments. Raises ConfigurationError where two have one name."""
    properties: Json = {}
    for argument in arguments:
        for key in argument.properties.keys() & properties.keys():
            raise ConfigurationError(f"{name}: two arguments are called {key!r} in JSON: give one another alias")
        properties.update(argument.properties)
    others = [argument.others for argument in arguments if argument.others is not None]
    result: Json = {"type": "object", "properties": properties, "additionalProperties": others[0] if others else False}
    required = [key for argument in arguments for key in argument.required]
    if required:
        result["required"] = required
    if defs:
        result["$defs"] = defs
    return result


def _check_names(parameters: Json, arguments: Sequence[Argument], passed: set[str], name: str) -> None:
    """Check that `parameters` and the function name the same arguments, as far as that can be read off.

    Raises ConfigurationError.
    """
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    listed = set(properties) if isinstance(properties, dict) else set()
    for taken in sorted(listed & passed):
        raise ConfigurationError(f"{name}: parameters= lists {taken!r}, which agentkit passes itself: rename it")
    unknown = listed - {key for argument in arguments for key in argument.properties}
    if unknown and all(argument.others is None for argument in arguments):
        raise ConfigurationError(f"{name}: parameters= lists {sorted(unknown)[0]!r}, which the function does not take")
    composed = {"$ref", "allOf", "anyOf", "oneOf", "patternProperties"} & set(parameters)
    missing = [key for argument in arguments for key in argument.required if key not in listed]
    if missing and not composed:
        raise ConfigurationError(f"{name}: parameters= does not list {missing[0]!r}, which the function needs")


def _names_for(fn: Callable[..., Any], caller: FrameType) -> dict[str, Any]:
    """Collect the names that annotations may use: the function's globals, and the locals around its definition.

    The locals are those of `caller`, and of the functions and class bodies around `fn` that are executing.
    """
    target: Any = inspect.unwrap(fn)
    while isinstance(target, functools.partial):
        target = target.func
    if not hasattr(target, "__globals__"):
        target = getattr(target, "__func__", None) or type(target).__call__
    names = getattr(target, "__globals__", {})
    parts = getattr(target, "__qualname__", "").split(".")
    around = {".".join(parts[:n]) for n in range(1, len(parts))}
    scopes: list[Mapping[str, Any]] = []
    frame: FrameType | None = caller
    while frame is not None:
        if frame.f_globals is names and (frame is caller or frame.f_code.co_qualname in around):
            scopes.append(frame.f_locals)
        frame = frame.f_back
    return {**names, **{key: value for scope in reversed(scopes) for key, value in scope.items()}}

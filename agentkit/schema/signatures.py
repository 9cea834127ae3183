"""Reads a function: the JSON Schema of its parameters, and what its docstring says of them.

What a single annotation means is `agentkit.schema.annotations`'s. This module knows neither tools, models
nor runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError
from agentkit.schema.annotations import NULL, Convert, Kind, Types, UnsupportedError, json_default

__all__ = ["Signature", "read_signature", "summary_of"]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Signature:
    """`parameters`: the JSON Schema of the arguments. `converts`: by name, where a value is not taken as it is."""

    parameters: Json
    wants_ctx: bool
    wants_decision: bool
    converts: Mapping[str, Convert] = field(default_factory=dict)

    def bind(self, args: Json) -> Json:
        """The keyword arguments for the function. What `args` lacks, Python's defaults fill in."""
        return {name: self.converts[name](v) if name in self.converts else v for name, v in args.items()}


def read_signature(
    fn: Callable[..., Any], *, has_decision: bool, parameters: Json | None, caller: FrameType
) -> Signature:
    """The signature of `fn`; `ctx`, and `decision` where one is declared, are not arguments.

    `parameters`, where given, replaces the derived schema, and annotations then only convert. `caller`
    is where the function is declared: annotations may use its local names. Raises ConfigurationError.
    """
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    try:
        given = inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} has no signature to read: wrap it in a def") from error
    reserved = {"ctx", "decision"} if has_decision else {"ctx"}
    own = [p for p in given.values() if p.name not in reserved or p.kind not in _NAMED]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in own)
    named = [p for p in own if p.kind is not p.VAR_KEYWORD]
    for p in named:
        if p.kind not in _NAMED:
            star = "*" if p.kind is p.VAR_POSITIONAL else ""
            raise ConfigurationError(f"{name}: {star}{p.name} cannot be passed by name: make it an ordinary parameter")
    found = Types(_names_for(fn, caller))
    kinds = {p.name: _kind_of(p, found, name, lenient=parameters is not None) for p in named}
    if parameters is None:
        schema = _arguments(named, kinds, _descriptions(inspect.getdoc(fn) or ""), open_ended, found.defs)
    else:
        _check_names(parameters, named, reserved & set(given), open_ended, name)
        schema = parameters
    converts = {key: kind.convert for key, kind in kinds.items() if kind.convert}
    return Signature(schema, "ctx" in given, has_decision and "decision" in given, converts)


def _arguments(
    named: list[inspect.Parameter], kinds: dict[str, Kind], told: dict[str, str], open_ended: bool, defs: Json
) -> Json:
    properties: Json = {}
    for p in named:
        schema = dict(kinds[p.name].schema)
        if p.name in told:
            schema.setdefault("description", told[p.name])
        if p.default is not p.empty:
            schema.update(json_default(p.default))
        properties[p.name] = schema
    result: Json = {"type": "object", "properties": properties, "additionalProperties": open_ended}
    required = [p.name for p in named if p.default is p.empty]
    if required:
        result["required"] = required
    if defs:
        result["$defs"] = defs
    return result


def _check_names(
    parameters: Json, named: list[inspect.Parameter], reserved: set[str], open_ended: bool, name: str
) -> None:
    """`parameters` and the function must name the same arguments, as far as that can be read off."""
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    listed = set(properties) if isinstance(properties, dict) else set()
    for taken in sorted(listed & reserved):
        raise ConfigurationError(f"{name}: parameters= lists {taken!r}, which agentkit passes itself: rename it")
    unknown = listed - {p.name for p in named}
    if unknown and not open_ended:
        raise ConfigurationError(f"{name}: parameters= lists {sorted(unknown)[0]!r}, which the function does not take")
    composed = {"$ref", "allOf", "anyOf", "oneOf", "patternProperties"} & set(parameters)
    missing = [p.name for p in named if p.default is p.empty and p.name not in listed]
    if missing and not composed:
        raise ConfigurationError(f"{name}: parameters= does not list {missing[0]!r}, which the function needs")


def _kind_of(p: inspect.Parameter, found: Types, name: str, *, lenient: bool) -> Kind:
    try:
        kind = Kind({}) if p.annotation is p.empty else found.kind(found.resolve(p.annotation))
    except UnsupportedError as error:
        if lenient:
            return Kind({})
        raise ConfigurationError(
            f"{name}: no JSON Schema can be derived for the parameter {p.name!r}: {error}; "
            "annotate it otherwise, or give parameters="
        ) from error
    # `x: int = None` is read as `int | None`, as people mean it and models send it.
    return found.choice([kind, NULL]) if p.default is None else kind


def _names_for(fn: Callable[..., Any], caller: FrameType) -> dict[str, Any]:
    """The names that annotations may use: the function's globals, and the locals of the function it is defined in."""
    target: Any = inspect.unwrap(fn)
    target = getattr(target, "func", target)  # functools.partial
    if not hasattr(target, "__globals__"):
        target = getattr(target, "__func__", None) or type(target).__call__
    names = getattr(target, "__globals__", {})
    return {**names, **caller.f_locals} if caller.f_globals is names else dict(names)


# -- docstrings ------------------------------------------------------------------------------------

_SECTION = re.compile(r"(?:Args|Arguments|Parameters):\s*$")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s+(\S.*)")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(\S.*)")


def summary_of(fn: Callable[..., Any]) -> str:
    """The first paragraph of the docstring, on one line."""
    paragraph = (inspect.getdoc(fn) or "").strip().split("\n\n")[0]
    lines = [line.strip() for line in paragraph.splitlines()]
    for at, line in enumerate(lines):
        if _SECTION.match(line) or line.startswith(":"):
            lines = lines[:at]
            break
    return " ".join(lines)


def _descriptions(doc: str) -> dict[str, str]:
    """What the docstring says of each parameter: Google's `Args:` section or Sphinx's `:param x:` lines."""
    told: dict[str, str] = {}
    section: int | None = None  # the indent of the entries of the Args section; -1 until the first is seen
    current, indent = "", 0
    for line in doc.splitlines():
        depth, content = len(line) - len(line.lstrip()), line.strip()
        if not content:
            current = ""
        elif _SECTION.match(content):
            section, current = -1, ""
        elif match := _SPHINX.match(content):
            current, indent = match[1], depth
            told[current] = match[2]
        elif section is not None and depth and section in (-1, depth) and (match := _GOOGLE.match(content)):
            section = indent = depth
            current = match[1]
            told[current] = match[2]
        elif current and depth > indent:
            told[current] += " " + content
        else:
            current = ""
            section = section if depth else None
    return told

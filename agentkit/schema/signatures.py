"""Reads a function: the JSON Schema of its parameters, with their descriptions from its docstring.

What a single annotation means is the business of `agentkit.schema.annotations`. This module knows neither tools, models
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
        """Convert JSON arguments to the function's keyword arguments. What `args` lacks, Python's defaults fill in."""
        return {name: self.converts[name](v) if name in self.converts else v for name, v in args.items()}


def read_signature(
    fn: Callable[..., Any], *, has_decision: bool, parameters: Json | None, caller: FrameType
) -> Signature:
    """Read the signature of `fn`; `ctx`, and `decision` where one is declared, are not arguments.

    `parameters`: the schema in place of the derived one, annotations then only convert; None: derive it. `caller`: the
    frame in which the function is declared, whose local names annotations may use. Raises ConfigurationError for a
    function that cannot be called with JSON by name, and for names that do not fit `parameters`.
    """
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    try:
        signature = inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} has no signature to read: wrap it in a def") from error
    reserved = {"ctx", "decision"} if has_decision else {"ctx"}
    arguments = [p for p in signature.values() if p.name not in reserved or p.kind not in _NAMED]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in arguments)
    named = [p for p in arguments if p.kind is not p.VAR_KEYWORD]
    for p in named:
        if p.kind not in _NAMED:
            star = "*" if p.kind is p.VAR_POSITIONAL else ""
            raise ConfigurationError(f"{name}: {star}{p.name} cannot be passed by name: make it an ordinary parameter")
    types = Types(_names_for(fn, caller))
    kinds = {p.name: _kind_of(p, types, name, lenient=parameters is not None) for p in named}
    if parameters is None:
        schema = _arguments(named, kinds, _descriptions(inspect.getdoc(fn) or ""), open_ended, types.defs)
    else:
        _check_names(parameters, named, reserved & set(signature), open_ended, name)
        schema = parameters
    converts = {key: kind.convert for key, kind in kinds.items() if kind.convert}
    return Signature(schema, "ctx" in signature, has_decision and "decision" in signature, converts)


def _arguments(
    named: list[inspect.Parameter], kinds: dict[str, Kind], descriptions: dict[str, str], open_ended: bool, defs: Json
) -> Json:
    """Write the schema of the arguments."""
    properties: Json = {}
    for p in named:
        schema = dict(kinds[p.name].schema)
        if p.name in descriptions:
            schema.setdefault("description", descriptions[p.name])
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
    """Check that `parameters` and the function name the same arguments, as far as that can be read off.

    Raises ConfigurationError.
    """
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


def _kind_of(p: inspect.Parameter, types: Types, name: str, *, lenient: bool) -> Kind:
    """Read a parameter's annotation. `lenient`: one without a JSON Schema is taken as it is, instead of an error."""
    try:
        kind = Kind({}) if p.annotation is p.empty else types.kind(types.resolve(p.annotation))
    except UnsupportedError as error:
        if lenient:
            return Kind({})
        raise ConfigurationError(
            f"{name}: no JSON Schema can be derived for the parameter {p.name!r}: {error}; "
            "annotate it otherwise, or give parameters="
        ) from error
    # `x: int = None` is read as `int | None`, as people mean it and models send it.
    return types.choice([kind, NULL]) if p.default is None else kind


def _names_for(fn: Callable[..., Any], caller: FrameType) -> dict[str, Any]:
    """Collect the names that annotations may use: the function's globals, and the locals where it is defined."""
    target: Any = inspect.unwrap(fn)
    target = getattr(target, "func", target)  # functools.partial
    if not hasattr(target, "__globals__"):
        target = getattr(target, "__func__", None) or type(target).__call__
    names = getattr(target, "__globals__", {})
    return {**names, **caller.f_locals} if caller.f_globals is names else dict(names)


# -- docstrings

_SECTION = re.compile(r"(?:Args|Arguments|Parameters):\s*$")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s+(\S.*)")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(\S.*)")


def summary_of(fn: Callable[..., Any]) -> str:
    """Return the first paragraph of the docstring, on one line."""
    paragraph = (inspect.getdoc(fn) or "").strip().split("\n\n")[0]
    lines = [line.strip() for line in paragraph.splitlines()]
    for at, line in enumerate(lines):
        if _SECTION.match(line) or line.startswith(":"):
            lines = lines[:at]
            break
    return " ".join(lines)


def _descriptions(doc: str) -> dict[str, str]:
    """Read the description of each parameter: from Google's `Args:` section or Sphinx's `:param x:` lines."""
    descriptions: dict[str, str] = {}
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
            descriptions[current] = match[2]
        elif section is not None and depth and section in (-1, depth) and (match := _GOOGLE.match(content)):
            section = indent = depth
            current = match[1]
            descriptions[current] = match[2]
        elif current and depth > indent:
            descriptions[current] += " " + content
        else:
            current = ""
            section = section if depth else None
    return descriptions

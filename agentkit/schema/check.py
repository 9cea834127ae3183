"""JSON Schema, draft 2020-12: checks schemas when they are declared and values when they arrive.

With `agentkit.schema.keywords`, which bounds what a check may cost, the one place that knows the `jsonschema` library;
the commonest values are accepted without it (`agentkit.schema.simple`).
It knows neither tools nor runs, and it never touches the network or a file: a `$ref` resolves inside its own schema or
not at all. As the draft has it, an integer is a number without a fraction (`1.0` is one, `true` is not), and `format`
only annotates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # the library ships no types
from jsonschema.exceptions import ValidationError as Mismatch  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, SchemaProblem
from agentkit.schema.keywords import FORMATS, BoundedValidator, TooMuchWorkError, bounded, matches
from agentkit.schema.simple import Accepts, compile_simple

__all__ = ["MAX_PROBLEMS", "Schema", "compile_schema", "pointer", "problem"]

MAX_PROBLEMS = 20
MAX_MESSAGE = 300
MAX_SHOWN = 60
MAX_CHOICES = 12


class Schema:
    """A checked schema, ready for any number of values and threads. Made by `compile_schema`."""

    __slots__ = ("_accepts", "_validator")

    def __init__(self, validator: Any, accepts: Accepts | None = None) -> None:
        self._validator = validator
        self._accepts = accepts

    def problems(self, value: Any) -> list[SchemaProblem]:
        """List what is wrong with `value`, at most 20 entries; empty if it satisfies the schema. Never raises."""
        problems: list[SchemaProblem] = []
        try:
            if self._accepts is not None and self._accepts(value):
                return problems
            with bounded():
                for found in _problems(self._validator.iter_errors(value)):
                    if found not in problems:
                        problems.append(found)
                    if len(problems) == MAX_PROBLEMS:
                        break
        except TooMuchWorkError as error:
            problems.append(problem("", f"cannot be checked: {error}"))
        except RecursionError:
            problems.append(problem("", "is nested too deeply to be checked"))
        except Unresolvable as error:
            problems.append(problem("", f"cannot be checked: the schema's $ref {_show(error.ref)} leads nowhere"))
        except (ArithmeticError, ValueError) as error:
            # Numbers beyond what Python divides or prints, say multipleOf 0.1 of a 400-digit integer.
            problems.append(problem("", f"cannot be checked: {error}"))
        return problems


def compile_schema(schema: Json, what: str) -> Schema:
    """Check and compile a schema; equal schemas share one result. `what` names it in errors.

    Raises ConfigurationError that names the place of the mistake.
    """
    if not isinstance(schema, dict):
        raise ConfigurationError(f"{what} must be a JSON Schema (a dict), not {type(schema).__name__}")
    try:
        return _compile(json.dumps(schema, sort_keys=True, separators=(",", ":"), allow_nan=False))
    except _BadSchemaError as error:
        raise ConfigurationError(f"{what} is not a valid JSON Schema: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{what} is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what} is not JSON: {error}") from error


# -- schemas


class _BadSchemaError(Exception):
    """What is wrong with a schema, and where."""


@lru_cache(maxsize=512)
def _compile(canonical: str) -> Schema:
    schema = json.loads(canonical)
    _check_form(schema)
    registry: Registry[Any] = Registry()
    resource = DRAFT202012.create_resource(schema)
    keywords: set[str] = set()
    _check_refs(resource, registry.resolver_with_root(resource), keywords, set())
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        raise _BadSchemaError("patternProperties and unevaluatedProperties cannot be used together")
    return Schema(BoundedValidator(schema, registry=registry), compile_simple(schema))


def _check_form(schema: Any) -> None:
    for found in _problems(_metaschema().iter_errors(schema)):
        raise _BadSchemaError(f"at {found['path'] or '/'}: {found['message']}")


@lru_cache(maxsize=1)
def _metaschema() -> Any:
    return Draft202012Validator(Draft202012Validator.META_SCHEMA, format_checker=FORMATS)


def _check_refs(resource: Resource[Any], resolver: Any, keywords: set[str], seen: set[int]) -> None:
    """Follow every `$ref`, and check what it leads to, which need not stand where schemas do.

    The keywords that are used are added to `keywords`, the ids of the contents that were visited to `seen`. Raises
    _BadSchemaError.
    """
    if id(resource.contents) in seen:
        return
    seen.add(id(resource.contents))
    if isinstance(resource.contents, Mapping):
        keywords.update(resource.contents)
        for keyword in ("$ref", "$dynamicRef"):
            ref = resource.contents.get(keyword)
            if not isinstance(ref, str):
                continue
            try:
                target = resolver.lookup(ref)
            except (Unresolvable, LookupError, TypeError, ValueError) as error:
                raise _BadSchemaError(
                    f"the {keyword} {_show(ref)} leads nowhere (only references within the schema are followed)"
                ) from error
            _check_form(target.contents)
            _check_refs(DRAFT202012.create_resource(target.contents), target.resolver, keywords, seen)
    for child in resource.subresources():
        _check_refs(child, resolver.in_subresource(child), keywords, seen)


# -- values


def _problems(errors: Iterable[Mismatch]) -> Iterator[SchemaProblem]:
    for error in errors:
        path = pointer(error.absolute_path)
        if error.validator in ("anyOf", "oneOf") and error.context:
            yield from _of_branches(error)
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield problem(path, f"the required property {_show(name)} is missing")
        else:
            yield problem(path, _subject(error) + _message(error))


def problem(path: str, message: str) -> SchemaProblem:
    """Say that the value at `path`, a JSON Pointer, is wrong; both texts are cut where they are long."""
    return {"path": _cut(path, MAX_MESSAGE), "message": _cut(message, MAX_MESSAGE)}


def pointer(path: Iterable[str | int]) -> str:
    """Write a path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _of_branches(error: Mismatch) -> Iterator[SchemaProblem]:
    """Yield the problems of the branch that the value comes closest to.

    Closest: of the right type first, then with the right tag (a `const` or `enum` on a property), then with the fewest
    properties missing, then with the fewest problems. Where no branch has the right type, or tag, one problem names
    them all.
    """
    branches: dict[int, list[Mismatch]] = {}
    for child in error.context:
        branches.setdefault(child.relative_schema_path[0], []).append(child)
    ranked = sorted(branches.values(), key=_distance)
    best = _distance(ranked[0])
    for depth in (0, 1):
        if best[depth]:
            misfits = [
                e for errors in branches.values() if _distance(errors)[depth] for e in errors if _misfits(e, depth)
            ]
            if depth == 1:
                misfits = [e for e in misfits if not _distance(branches[e.relative_schema_path[0]])[0]]
            paths = {pointer(e.absolute_path) for e in misfits}
            if len(paths) == 1:
                expected = dict.fromkeys(text for e in misfits for text in _expected(e))
                show = _kind if all(e.validator == "type" for e in misfits) else _show
                yield problem(paths.pop(), f"must be {_either(list(expected))}, not {show(misfits[0].instance)}")
                return
            break
    yield from _problems(ranked[0])


def _distance(errors: Sequence[Mismatch]) -> tuple[int, int, int, int]:
    return (
        int(any(_misfits(e, 0) for e in errors)),
        int(any(_misfits(e, 1) for e in errors)),
        sum(e.validator == "required" for e in errors),
        len(errors),
    )


def _misfits(error: Mismatch, depth: int) -> bool:
    """Tell whether `error` shows that another branch was meant: the type or constant of the value or of its tag."""
    keywords = ("type", "const", "enum") if depth == 0 else ("const", "enum")
    return len(error.relative_path) == depth and error.validator in keywords


# -- messages

_ARTICLES = {"array": "an array", "integer": "an integer", "object": "an object", "null": "null"}

_MESSAGES = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "exclusiveMinimum": "must be greater than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
    "multipleOf": "must be a multiple of {limit}",
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "pattern": "must match the pattern {limit}",
    "format": "must have the format {limit}",
    "minItems": "must have at least {limit} items",
    "maxItems": "must have at most {limit} items",
    "uniqueItems": "must not contain an item twice",
    "minProperties": "must have at least {limit} properties",
    "maxProperties": "must have at most {limit} properties",
    "contains": "does not contain the items that it must contain",
    "minContains": "must contain at least {limit} items of the kind asked for",
    "maxContains": "must contain at most {limit} items of the kind asked for",
    "not": "is of a kind that is not allowed",
    "oneOf": "must match exactly one of the alternatives, and matches several",
    "anyOf": "matches none of the alternatives",
    "items": "has more items than allowed",
    "unevaluatedItems": "has more items than allowed",
    "additionalProperties": "has properties that are not allowed: {extra}",
    "unevaluatedProperties": "has properties that are not allowed",
}


def _message(error: Mismatch) -> str:
    keyword, limit = error.validator, error.validator_value
    if keyword is None:
        return f"the value {_show(error.instance)} is not allowed here"  # jsonschema loses the path of these
    if keyword in ("type", "const", "enum"):
        shown = _kind(error.instance) if keyword == "type" else _show(error.instance)
        return f"must be {_either(_expected(error))}, not {shown}"
    if keyword not in _MESSAGES:
        return str(error.message)
    extra = _extra(error) if keyword == "additionalProperties" else ""
    return _MESSAGES[keyword].format(limit=_show(limit), extra=extra)


def _subject(error: Mismatch) -> str:
    """Name what a message is about where the path cannot: the name of a property is no value."""
    place = list(error.absolute_schema_path)[-3:-1]
    named = place[-1:] == ["propertyNames"] and place[:1] != ["properties"]
    return f"the property name {_show(error.instance)} " if named else ""


def _extra(error: Mismatch) -> str:
    known, patterns = error.schema.get("properties", {}), error.schema.get("patternProperties", {})
    names = [
        _show(name) for name in error.instance if name not in known and not any(matches(p, name) for p in patterns)
    ]
    return ", ".join(names[:MAX_CHOICES])


def _expected(error: Mismatch) -> list[str]:
    value = error.validator_value
    if error.validator == "const":
        return [_cut(json.dumps(value, ensure_ascii=False))]
    if error.validator == "enum":
        return [_cut(json.dumps(choice, ensure_ascii=False)) for choice in value]
    return [_ARTICLES.get(name, f"a {name}") for name in ([value] if isinstance(value, str) else value)]


def _either(choices: list[str]) -> str:
    if len(choices) > MAX_CHOICES:
        choices = [*choices[:MAX_CHOICES], f"{len(choices) - MAX_CHOICES} others"]
    return " or ".join(filter(None, [", ".join(choices[:-1]), *choices[-1:]]))


def _kind(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    name = names.get(type(value), type(value).__name__)
    return _ARTICLES.get(name, f"a {name}")


def _show(value: Any) -> str:
    """Write a value in short: scalars as JSON, cut where long; containers by their type."""
    if isinstance(value, str):
        value = _cut(value)
    elif isinstance(value, list | dict | tuple):
        return _kind(value)
    try:
        return _cut(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return _kind(value)


def _cut(text: str, limit: int = MAX_SHOWN) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""The keywords of JSON Schema with bounds on their work: a value from outside must not cost more than a moment.

Schemas are the application's, values are a model's or a client's. Some schemas let a short value cost hours: a
`pattern` that backtracks, a `$ref` that doubles, `uniqueItems` of a long list. So one check of a value has
`MAX_SECONDS` of this thread's processor time, which is checked at every keyword and inside every pattern.

Patterns are those of the `regex` library, which can be stopped; `re` cannot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import regex
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError as Mismatch  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

__all__ = ["FORMATS", "MAX_SECONDS", "BoundedValidator", "TooMuchWorkError", "bounded", "matches"]

MAX_SECONDS = 1.0
"""Processor time that checking one value may take."""

MAX_UNEVALUATED = 2000
"""How many members a value may have where `unevaluated…` applies: jsonschema compares each with each."""

Keyword = Callable[[Any, Any, Any, Any], Iterable[Mismatch] | None]

_clock = threading.local()


class TooMuchWorkError(Exception):
    """The value costs more to check than it may."""


@contextmanager
def bounded() -> Iterator[None]:
    """Limit what is checked inside to `MAX_SECONDS`; beyond them it raises TooMuchWorkError."""
    before = getattr(_clock, "end", None)
    _clock.end = time.thread_time() + MAX_SECONDS
    try:
        yield
    finally:
        _clock.end = before


def _seconds_left() -> float:
    """Return the seconds that are left. Raises TooMuchWorkError where none are.

    Schemas themselves are checked without a bound: they come from nobody outside.
    """
    end: float | None = getattr(_clock, "end", None)
    seconds = MAX_SECONDS if end is None else end - time.thread_time()
    if seconds <= 0:
        raise TooMuchWorkError(f"it takes more than {MAX_SECONDS:g} seconds")
    return seconds


def matches(pattern: str, text: str) -> bool:
    """Tell whether `pattern` is found in `text`. Raises TooMuchWorkError."""
    try:
        return regex.search(pattern, text, timeout=_seconds_left(), concurrent=True) is not None
    except TimeoutError as error:
        raise TooMuchWorkError(f"the pattern {pattern[:60]!r} takes too long") from error


# -- keywords


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Mismatch]:
    if validator.is_type(instance, "string") and not matches(pattern, instance):
        yield Mismatch("does not match")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[Mismatch]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if matches(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Mismatch]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [name for name in instance if name not in known and not any(matches(p, name) for p in patterns)]
    if isinstance(allowed, dict):
        for name in extras:
            yield from validator.descend(instance[name], allowed, path=name)
    elif extras and not allowed:
        yield Mismatch("has additional properties")


def _multiple_of(validator: Any, divisor: Any, instance: Any, _schema: Any) -> Iterator[Mismatch]:
    """Divide as people do, in decimals: 19.99 is a multiple of 0.01, though no float says so."""
    if validator.is_type(instance, "number") and (Fraction(str(instance)) / Fraction(str(divisor))).denominator != 1:
        yield Mismatch(f"{instance!r} is not a multiple of {divisor!r}")


def _unique_items(validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[Mismatch]:
    seen: set[Any] = set()
    for item in instance if unique and validator.is_type(instance, "array") else ():
        _seconds_left()
        if (key := _key(item)) in seen:
            yield Mismatch("has an item twice")
            return
        seen.add(key)


def _key(value: Any) -> Any:
    """Make a key that is the same for two values exactly if JSON Schema calls them equal: 1 is 1.0, true is no 1."""
    if isinstance(value, dict):
        return dict, frozenset((name, _key(member)) for name, member in value.items())
    if isinstance(value, list):
        return list, tuple(map(_key, value))
    return isinstance(value, bool), value


def _few(keyword: Keyword) -> Keyword:
    """Refuse values with over `MAX_UNEVALUATED` members before `keyword` compares them."""

    def check(validator: Any, limit: Any, instance: Any, schema: Any) -> Iterable[Mismatch] | None:
        if isinstance(instance, dict | list) and len(instance) > MAX_UNEVALUATED:
            raise TooMuchWorkError(f"it has over {MAX_UNEVALUATED} members, too many for unevaluated… to compare")
        return keyword(validator, limit, instance, schema)

    return check


def _timed(keyword: Keyword) -> Keyword:
    """Check the time that is left before `keyword` applies."""

    def check(validator: Any, limit: Any, instance: Any, schema: Any) -> Iterable[Mismatch] | None:
        _seconds_left()
        return keyword(validator, limit, instance, schema)

    return check


_KEYWORDS: dict[str, Keyword] = {
    **Draft202012Validator.VALIDATORS,
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "unevaluatedItems": _few(Draft202012Validator.VALIDATORS["unevaluatedItems"]),
    "unevaluatedProperties": _few(Draft202012Validator.VALIDATORS["unevaluatedProperties"]),
    "uniqueItems": _unique_items,
}

BoundedValidator: Any = extend(Draft202012Validator, {name: _timed(keyword) for name, keyword in _KEYWORDS.items()})
"""Draft 2020-12, its work bounded."""

FORMATS = FormatChecker(formats=())
"""What finds a `pattern` that is no regular expression. As the draft has it, other formats only annotate."""


@FORMATS.checks("regex", raises=regex.error)  # type: ignore[untyped-decorator, unused-ignore]
def _is_regex(value: Any) -> bool:
    if isinstance(value, str):
        regex.compile(value)
    return True

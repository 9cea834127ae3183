"""Conversions from JSON to the values of Python, and what they say where a value is refused.

A conversion is applied to JSON that satisfies the type's schema. It may still be refused, by a validator of the
application: such a refusal names its place in the JSON, as the problems of a schema do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from agentkit.core.strictjson import without_half_surrogates
from agentkit.errors import SchemaProblem
from agentkit.schema.check import Schema, problem

__all__ = [
    "ChoiceConversion",
    "ConversionError",
    "Convert",
    "Deferred",
    "RecordConversion",
    "at",
    "constant",
    "each",
    "members",
    "values",
]

log = logging.getLogger(__name__)

Convert = Callable[[Any], Any]
"""Takes the JSON of a type, and returns its value. Raises ConversionError."""


class ConversionError(Exception):
    """JSON that satisfies its schema is refused by the type itself; `problems` says why, by JSON Pointer."""

    def __init__(self, problems: Iterable[SchemaProblem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{p['path'] or '/'}: {p['message']}" for p in self.problems))

    @classmethod
    def of(cls, error: Exception) -> ConversionError:
        """Make the refusal of what a validator raised.

        As pydantic has it, the texts of ValueError and AssertionError are for whoever sent the value. Of any other
        exception they get the class, and the log gets the whole.
        """
        if isinstance(error, ValueError | AssertionError):
            return cls([problem("", without_half_surrogates(str(error)) or type(error).__name__)])
        name = type(error).__name__
        log.error("a validator of a tool's arguments failed, and they count as refused: %s", name, exc_info=error)
        return cls([problem("", f"cannot be checked: a validator failed with {name}")])

    def under(self, key: str | int) -> ConversionError:
        """Make the same refusal of the value that holds this one as its member `key`."""
        step = "/" + str(key).replace("~", "~0").replace("/", "~1")
        return ConversionError(problem(step + p["path"], p["message"]) for p in self.problems)


def at(key: str | int, convert: Convert | None, value: Any) -> Any:
    """Convert the member `key` of a larger value. Raises ConversionError, its places those in the larger value."""
    if convert is None:
        return value
    try:
        return convert(value)
    except ConversionError as error:
        raise error.under(key) from error


def each(make: Callable[[list[Any]], Any], item: Convert | None) -> Convert:
    """Make the conversion of an array: `make` builds the value of the converted items."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return _construct(lambda: make([at(i, item, v) for i, v in enumerate(value)]))

    return convert


class RecordConversion:
    """Makes a dataclass or TypedDict of an object. `converts` is filled while the class is still being read."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.converts: dict[str, Convert] = {}

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        members = {key: at(key, self.converts.get(key), member) for key, member in value.items()}
        return _construct(lambda: self._make(**members))


class ChoiceConversion:
    """Converts by the first alternative whose schema the value satisfies and that does not refuse it.

    `schemas` compiles the alternatives' schemas when the first value comes: not sooner, for those that they refer to
    are complete only when the whole signature has been read.
    """

    def __init__(self, converts: list[Convert | None], schemas: Callable[[], list[Schema]]) -> None:
        self._converts = converts
        self._compile = schemas
        self._schemas: list[Schema] | None = None

    def __call__(self, value: Any) -> Any:
        if self._schemas is None:
            self._schemas = self._compile()
        refusal: ConversionError | None = None
        for convert, schema in zip(self._converts, self._schemas, strict=True):
            if schema.problems(value):
                continue
            try:
                return convert(value) if convert else value
            except ConversionError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return value


class Deferred:
    """Stands for the conversion of a type that contains itself, while it is still being read."""

    def __init__(self) -> None:
        self.convert: Convert | None = None

    def __call__(self, value: Any) -> Any:
        return self.convert(value) if self.convert else value


def constant(choices: tuple[Any, ...]) -> Convert:
    """Make the conversion of a JSON constant to the declared one: an Enum member, or 1 where the JSON has 1.0."""

    def convert(value: Any) -> Any:
        for choice in choices:
            declared = choice.value if isinstance(choice, Enum) else choice
            if declared == value and isinstance(declared, bool) == isinstance(value, bool):
                return choice
        return value

    return convert


def members(kinds: list[Convert | None]) -> Convert:
    """Make the conversion of an array to a tuple, each of whose items has a conversion of its own."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return tuple(at(i, item, v) for i, (item, v) in enumerate(zip(kinds, value, strict=True)))

    return convert


def values(item: Convert) -> Convert:
    """Make the conversion of the values of an object."""

    def convert(value: Any) -> Any:
        return {key: at(key, item, v) for key, v in value.items()} if isinstance(value, dict) else value

    return convert


def _construct(make: Callable[[], Any]) -> Any:
    """Call code of the application that makes a value. Raises ConversionError for what it raises."""
    try:
        return make()
    except ConversionError:
        raise
    except Exception as error:  # the code is the application's
        raise ConversionError.of(error) from error

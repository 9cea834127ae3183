"""Reads docstrings: what a function does, and what each of its parameters is.

Google's, NumPy's and Sphinx's styles, by `docstring_parser`. A docstring may be of no style at all: it then is the
description as it stands.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from docstring_parser import ParseError, numpydoc, rest
from docstring_parser.common import Docstring
from docstring_parser.google import DEFAULT_SECTIONS, GoogleParser, Section, SectionType

__all__ = ["Documentation", "read_docstring"]

_MORE_SECTIONS = ("Keyword Args", "Keyword Arguments", "Other Args", "Other Arguments", "Other Parameters")
_GOOGLE = GoogleParser([*DEFAULT_SECTIONS, *(Section(name, "param", SectionType.MULTIPLE) for name in _MORE_SECTIONS)])
_STYLES: tuple[Callable[[str], Docstring], ...] = (_GOOGLE.parse, numpydoc.parse, rest.parse)

_KEPT_LINE = re.compile(r"\s|[-*+•>|`~=]|\d+[.)]\s")
"""A line whose break is kept: of a list, a table, a quotation or code."""


@dataclass(frozen=True, slots=True)
class Documentation:
    """`description`: all paragraphs before the sections. `parameters`: the description of each, by name."""

    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def read_docstring(fn: Callable[..., Any]) -> Documentation:
    """Read the docstring of a function, of a partial's function, or of a callable object or its class."""
    text = _docstring(fn)
    if not text:
        return Documentation()
    # The style of which the most is found; the parsers take the indent from all lines but the first.
    readings = [reading for parse in _STYLES if (reading := _parsed(parse, "\n" + text)) is not None]
    parsed = max(readings, key=lambda reading: len(reading.meta), default=None)
    if parsed is None or not parsed.meta:
        return Documentation(_reflowed(text))
    parameters = {}
    for param in parsed.params:
        for name in param.arg_name.split(","):  # NumPy's `a, b : int` describes both
            parameters[name.strip().strip("`").lstrip("*")] = _reflowed(param.description or "")
    return Documentation(_reflowed(parsed.description or ""), {k: v for k, v in parameters.items() if v})


def _docstring(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    doc = inspect.getdoc(fn)
    if not inspect.isroutine(fn):
        # A callable object: what is written about the call comes before what is written about the class.
        doc = (type(fn).__call__.__doc__ and inspect.getdoc(type(fn).__call__)) or doc
    return (doc or "").strip()


def _parsed(parse: Callable[[str], Docstring], text: str) -> Docstring | None:
    try:
        return parse(text)
    except ParseError:
        return None


def _reflowed(text: str) -> str:
    """Join the lines of each paragraph; the breaks of lists, tables and code are kept."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(filter(None, map(_paragraph, paragraphs)))


def _paragraph(text: str) -> str:
    result = ""
    for line in text.rstrip().split("\n"):
        kept = not result or _KEPT_LINE.match(line)
        result += ("\n" + line.rstrip() if result else line.rstrip()) if kept else " " + line.strip()
    return result

"""Keyword arguments of what applications declare: one that is misspelled is refused by its likely name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from agentkit.errors import UnknownKeywordError

__all__ = ["check_keywords", "refuse_unknown_keywords"]

T = TypeVar("T")


def check_keywords(what: str, names: Iterable[str], known: Iterable[str], more: str = "") -> None:
    """Raise UnknownKeywordError for the first of `names` that is not `known`.

    `what`: whose keywords they are. `more`: what else to say to whoever wrote it.
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.7)
            hints = [f"did you mean {near[0]}?"] if near else []
            hints += [more] if more else []
            raise UnknownKeywordError(f"{what} has no parameter {name}" + (f": {' '.join(hints)}" if hints else ""))


def refuse_unknown_keywords(cls: type[T]) -> type[T]:
    """Have the constructor of a class refuse unknown keywords by `check_keywords`; a class decorator.

    `more` is the class's attribute `unknown_keyword_hint`, where it has one. The signature stays what it is.
    """
    construct = cls.__init__
    known = list(inspect.signature(construct).parameters)[1:]

    @functools.wraps(construct)
    def checked(self: T, *args: Any, **keywords: Any) -> None:
        check_keywords(cls.__name__, keywords, known, getattr(cls, "unknown_keyword_hint", ""))
        construct(self, *args, **keywords)

    cls.__init__ = checked  # type: ignore[method-assign,assignment]
    return cls

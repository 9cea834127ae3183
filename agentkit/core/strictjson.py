"""JSON that can be written down again: the same rules for what clients, models and tools give.

Python reads and builds more than JSON can say: NaN, numbers beyond every range, half of a surrogate pair,
nesting without an end. Taken in, they would fail later, when the run is stored or shown.
"""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["MAX_DEPTH", "SurrogateJoiner", "check", "loads", "plain", "without_half_surrogates"]

MAX_DEPTH = 100
"""How deep JSON may nest: far below what Python, Lua and JSON libraries of clients can take."""

_TOO_DEEP = f"it nests deeper than {MAX_DEPTH} levels"


def loads(text: str, *, unique: bool = False) -> Any:
    """The value of a JSON text. `unique`: a key may stand once in an object. Raises ValueError that says why not."""
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_no_duplicates if unique else None,
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        check(value)
    return value


def plain(value: Any) -> Any:
    """Copy a Python value through JSON: what comes back can be stored and shown, and nobody else holds it.

    Raises TypeError or ValueError that says why it cannot be written as JSON.
    """
    try:
        return loads(json.dumps(value, allow_nan=False))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def check(value: Any) -> None:
    """Raise ValueError for half surrogate pairs, which JSON can say and UTF-8 cannot, and for too deep nesting."""
    level: list[Any] = [value]
    for depth in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for node in level:
            if isinstance(node, str):
                _check_text(node)
            elif depth == MAX_DEPTH and isinstance(node, dict | list | tuple):
                raise ValueError(_TOO_DEEP)
            elif isinstance(node, dict):
                below += node.keys()
                below += node.values()
            elif isinstance(node, list | tuple):
                below += node
        if not below:
            return
        level = below


def without_half_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, say of file names that are no UTF-8: no wire and no store could carry them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class SurrogateJoiner:
    """Joins surrogate pairs whose halves come in two pieces of a text; a half that stays alone becomes U+FFFD."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return the piece as it can be sent on: with a half that was held back before, without one at its end."""
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return without_half_surrogates(piece)

    def flush(self) -> str:
        """Return what stands for a half that was held back, at the end of the text."""
        half, self._half = self._half, ""
        return without_half_surrogates(half)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string in it holds half of a surrogate pair (\\ud800 to \\udfff)") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return value

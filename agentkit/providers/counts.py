"""Reads the token counts that vendors send, which some send as null, as fractions, below 0 or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from agentkit.core.messages import Cost, Usage
from agentkit.errors import ProviderError

__all__ = ["counted_usage", "token_count", "usage_of_failure"]

_MOST = 10**12
"""Beyond any answer: a larger count says nothing, and sums of them would be no JSON any more."""
_MOST_CHARACTERS = 20


def token_count(value: Any) -> int:
    """Read a vendor's count, a number or the text of one, as a whole number from 0 to 10**12; 0 for what is none."""
    if isinstance(value, str):
        try:
            value = float(value[:_MOST_CHARACTERS])
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return 0
    return int(min(max(value, 0), _MOST)) if value != math.inf else 0


def counted_usage(usage: Usage) -> Usage:
    """Return a usage of which no count and no cost is below 0, and whose totals are the sums of the others."""
    cost = usage.cost
    return Usage.of(
        token_count(usage.input),
        token_count(usage.output),
        token_count(usage.cache_read),
        token_count(usage.cache_write),
        Cost.of(*(max(0.0, value) for value in (cost.input, cost.output, cost.cache_read, cost.cache_write))),
    )


@contextmanager
def usage_of_failure(usage: Callable[[], Usage]) -> Iterator[None]:
    """Have a ProviderError of the `with` block carry what the vendor had counted before."""
    try:
        yield
    except ProviderError as error:
        with suppress(AttributeError, TypeError):  # what was sent for the counts has another shape
            error.usage = usage()
        raise

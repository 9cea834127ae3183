"""Feeds recorded lines of JSON as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from agentkit.providers.framing import JsonLines
from tests.sse_cuts import items_of

__all__ = ["lines_of"]


def lines_of(*pieces: bytes, labelled: bool = True) -> list[str]:
    """The lines of a body that arrives in `pieces`."""
    return list(items_of(JsonLines(labelled), *pieces))

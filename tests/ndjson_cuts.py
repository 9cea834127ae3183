"""Feeds recorded lines of JSON as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agentkit.providers.framing import json_lines

__all__ = ["lines_of"]


def lines_of(*pieces: bytes, labelled: bool = True) -> list[str]:
    """The lines of a body that arrives in `pieces`, as the adapter's HTTP side decodes them."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def read() -> list[str]:
        return [line async for line in json_lines(body(), labelled)]

    reading = read()
    try:
        reading.send(None)  # nothing in it waits, so it needs no event loop
    except StopIteration as end:
        return list(end.value)
    raise AssertionError("reading lines waited for something")

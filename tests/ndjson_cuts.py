"""Feeds recorded lines of JSON as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from agentkit.providers.http import _lines

__all__ = ["lines_of"]


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def lines_of(*pieces: bytes) -> list[str]:
    """The lines of a body that arrives in `pieces`, as the adapter's HTTP side decodes them."""

    async def read() -> list[str]:
        response = httpx.Response(200, stream=_Pieces(pieces))
        return [line async for line in _lines(response)]

    reading = read()
    try:
        reading.send(None)  # nothing in it waits, so it needs no event loop
    except StopIteration as end:
        return list(end.value)
    raise AssertionError("reading lines waited for something")

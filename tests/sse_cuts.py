"""Feeds recorded server-sent events as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent

__all__ = ["events_of"]


class _Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def events_of(*pieces: bytes) -> Iterator[ServerSentEvent]:
    """The events of a body that arrives in `pieces`, as the adapter's HTTP side decodes them."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Pieces(list(pieces)))
    return EventSource(response).iter_sse()

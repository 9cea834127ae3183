"""Feeds recorded server-sent events as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from httpx_sse import ServerSentEvent

from agentkit.providers.framing import sse_events

__all__ = ["events_of"]


def events_of(*pieces: bytes, labelled: bool = True) -> Iterator[ServerSentEvent]:
    """The events of a body that arrives in `pieces`, as the adapter's HTTP side decodes them.

    `labelled`: its content type is that of a stream.
    """

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def collected() -> list[ServerSentEvent]:
        return [event async for event in sse_events(body(), labelled)]

    try:
        collected().send(None)  # nothing in it waits, so it needs no event loop
    except StopIteration as ended:
        events: list[ServerSentEvent] = ended.value
        return iter(events)
    raise AssertionError("the decoder waits for something")

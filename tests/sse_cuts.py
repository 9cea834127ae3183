"""Feeds recorded server-sent events as a network would: in pieces, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from httpx_sse import ServerSentEvent

from agentkit.providers.framing import Framing, SseEvents

__all__ = ["events_of", "items_of"]

T = TypeVar("T")


def events_of(*pieces: bytes, labelled: bool = True) -> Iterator[ServerSentEvent]:
    """The events of a body that arrives in `pieces`. `labelled`: its content type is that of a stream."""
    return items_of(SseEvents(labelled), *pieces)


def items_of(framing: Framing[T], *pieces: bytes) -> Iterator[T]:
    """The items of a body that arrives in `pieces`."""
    for piece in pieces:
        yield from framing.feed(piece)
    yield from framing.end()

"""What a wire is: the events of a run's log become the frames of another protocol's stream.

A translator is pure: it gets the log's events one by one, and what the store has to say beside them by functions that
it is given. Nothing here knows HTTP, or what a client sends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from agentkit.core.messages import Json
from agentkit.core.run import Run
from agentkit.core.sse import KEEPALIVE, chunks
from agentkit.errors import RunNotFoundError, StoreUnavailableError

__all__ = ["Translator", "WireEncoder", "text_of_blocks"]

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)


class Translator(Protocol[F_co]):
    """Translates one stream. Its frames are the other protocol's own structures."""

    ended: bool
    """Whether it has sent what ends a stream; nothing is translated any more then."""

    def begin(self) -> Iterable[F_co]:
        """What comes before the first event."""
        ...

    def reads_store(self, data: bytes) -> bool:
        """Whether translating this event (its JSON) asks the store for something."""
        ...

    def translate(self, seq: int, event: Json) -> Iterable[F_co]:
        """Translate an event. One of a type that it does not know is no reason to fail."""
        ...

    def finish(self, run: Run | None) -> Iterable[F_co]:
        """What ends a stream whose last event did not: the run waits or has ended, or is gone (None)."""
        ...

    def cut(self) -> Iterable[F_co]:
        """What ends a stream before the run waits or has ended, for the server stops."""
        ...

    def encode(self, frame: Any) -> bytes:
        """Write a frame as a server-sent event."""
        ...

    def close(self) -> bytes:
        """What comes after the last frame."""
        ...


class WireEncoder(Generic[F]):
    """Encodes the events of one stream by a translator; a `StreamEncoder`.

    `keepalive`: seconds without a byte after which a comment is sent. `load`: reads the run as it is now.
    """

    def __init__(self, translator: Translator[F], keepalive: float, load: Callable[[], Run]) -> None:
        self._translator = translator
        self._keepalive = keepalive
        self._load = load
        self._sent_at = time.monotonic()
        self._is_closed = False

    def begin(self) -> bytes:
        return b"".join(map(self._translator.encode, self._translator.begin()))

    def reads(self, events: Sequence[tuple[int, bytes]]) -> bool:
        return any(self._translator.reads_store(data) for _, data in events)

    def encode(self, events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        sent = False
        for chunk in chunks(self._frames(events)):
            sent = True
            yield chunk
        if not events or (not sent and time.monotonic() - self._sent_at >= self._keepalive):
            sent = True
            yield KEEPALIVE
        if sent:
            self._sent_at = time.monotonic()

    def end(self) -> bytes:
        if self._translator.ended:
            return self._closed(())
        try:
            return self._closed(self._translator.finish(self._load()))
        except RunNotFoundError:
            return self._closed(self._translator.finish(None))
        except StoreUnavailableError:
            return self.cut()

    def cut(self) -> bytes:
        if self._is_closed:
            return b""
        return self._closed(() if self._translator.ended else self._translator.cut())

    def _closed(self, frames: Iterable[F]) -> bytes:
        self._is_closed = True
        return b"".join(map(self._translator.encode, frames)) + self._translator.close()

    def _frames(self, events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        for seq, data in events:
            if not self._translator.ended:
                yield from map(self._translator.encode, self._translator.translate(seq, json.loads(data)))


def text_of_blocks(content: str | Sequence[Json]) -> str:
    """Join the text of a message's content."""
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")

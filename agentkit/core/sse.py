"""Server-sent events: how an event of the log is framed (WHATWG HTML, "Server-sent events"), and nothing more."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Protocol

__all__ = ["KEEPALIVE", "Encoder", "Render", "StreamEncoder", "chunks", "event_type", "frame", "retry"]

KEEPALIVE = b": keepalive\n\n"
RETRY_MS = 1000

Render = Callable[[dict[str, Any]], str | None]
"""Makes an event into what a stream sends for it, say HTML; None leaves the event out."""

_CHUNK_BYTES = 65_536
_LINE_END = re.compile(r"\r\n|\r|\n")


class StreamEncoder(Protocol):
    """Makes the events of one run's log into the bytes of one stream."""

    def begin(self) -> bytes:
        """What comes before the first event."""
        ...

    def reads(self, events: Sequence[tuple[int, bytes]]) -> bool:
        """Whether `encode` reads the store for these events: an event loop has it done in a thread then."""
        ...

    def encode(self, events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        """Encode events, as (seq, data), or none of them: then it is time for a keepalive."""
        ...

    def end(self) -> bytes:
        """What comes after the last event, where the stream is over and not cut. May read the store."""
        ...

    def cut(self) -> bytes:
        """What comes last where the stream is cut, for this process stops."""
        ...


class Encoder:
    """Encodes the events of one stream as they are, batch by batch.

    `keepalive`: seconds without a byte after which a comment is sent. `render`: sends what it returns in place of the
    JSON. `names`: whether each frame has an `event:` field, the event's type.
    """

    def __init__(self, keepalive: float, *, render: Render | None = None, names: bool = False) -> None:
        self._keepalive = keepalive
        self._render = render
        self._names = names
        self._sent_at = time.monotonic()

    def begin(self) -> bytes:
        return retry(RETRY_MS)

    def reads(self, events: Sequence[tuple[int, bytes]]) -> bool:
        return False

    def end(self) -> bytes:
        return b""

    def cut(self) -> bytes:
        return b""  # whoever follows a log knows that it has no end yet, and reconnects

    def encode(self, events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        plain = self._render is None and not self._names
        sent = False
        for chunk in _joined(events) if plain else chunks(self._frame(*event) for event in events):
            sent = True
            yield chunk
        if not events or (not sent and time.monotonic() - self._sent_at >= self._keepalive):
            sent = True
            yield KEEPALIVE
        if sent:
            self._sent_at = time.monotonic()

    def _frame(self, seq: int, data: bytes) -> bytes:
        """Encode one event; nothing where it is left out."""
        name = b"event: %b\n" % event_type(data).encode() if self._names else b""
        if self._render is None:
            return b"id: %d\n%bdata: %b\n\n" % (seq, name, data)
        text = self._render(json.loads(data))
        if text is None:
            return b""
        if not isinstance(text, str):
            raise TypeError(f"render must return text, or None for an event that is left out, not {text!r:.80}")
        lines = b"".join(b"data: %b\n" % line.encode() for line in _LINE_END.split(text))
        return b"id: %d\n%b%b\n" % (seq, name, lines)


def frame(seq: int, data: bytes) -> bytes:
    """One event. `data` is JSON, so it holds no line feed."""
    return b"id: %d\ndata: %b\n\n" % (seq, data)


def _joined(events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    """Frame events as they are, so many in a chunk as it holds on average: without a look at each one's size."""
    length = sum(map(len, map(itemgetter(1), events)))
    count = max(1, len(events) * _CHUNK_BYTES // max(1, length))
    for start in range(0, len(events), count):
        yield b"".join([b"id: %d\ndata: %b\n\n" % event for event in events[start : start + count]])


def chunks(frames: Iterable[bytes], size: int = _CHUNK_BYTES) -> Iterator[bytes]:
    """Join frames into pieces of about `size` bytes: one write for many small ones."""
    joined: list[bytes] = []
    length = 0
    for each in frames:
        joined.append(each)
        length += len(each)
        if length >= size:
            yield b"".join(joined)
            joined, length = [], 0
    if length:
        yield b"".join(joined)


def retry(milliseconds: int) -> bytes:
    """How long a client waits before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def event_type(data: bytes) -> str:
    """The `type` of a stored event, without parsing it: the store writes seq, timestamp and type first.

    What does not begin so was not stored: it is a stream_reset.
    """
    if not data.startswith(b'{"seq":'):
        return "stream_reset"
    return data.split(b",", 3)[2].partition(b":")[2].strip(b'"}').decode()

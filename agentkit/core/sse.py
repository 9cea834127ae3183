"""Server-sent events: how an event of the log is framed (WHATWG HTML, "Server-sent events"), and nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["KEEPALIVE", "chunks", "event_type", "frame", "retry"]

KEEPALIVE = b": keepalive\n\n"


def frame(seq: int, data: bytes) -> bytes:
    """One event. `data` is JSON, so it holds no line feed."""
    return b"id: %d\ndata: %b\n\n" % (seq, data)


def chunks(events: Iterable[tuple[int, bytes]], size: int = 65_536) -> Iterator[bytes]:
    """Events, given as (seq, data), in pieces of about `size` bytes: one write for many small ones."""
    frames: list[bytes] = []
    length = 0
    for seq, data in events:
        frames.append(frame(seq, data))
        length += len(data)
        if length >= size:
            yield b"".join(frames)
            frames, length = [], 0
    if frames:
        yield b"".join(frames)


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
